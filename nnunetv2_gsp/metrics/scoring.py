"""Scores a reference mask and a predicted mask under a definition."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics import surface_distances as surfaces
from nnunetv2_gsp.metrics.definitions import ABD, ARVD, DICE, HD95, NSD, TOLERANCE_MM, Definition, Percentile
from nnunetv2_gsp.metrics.overlap import Mask, absolute_relative_volume_difference, dice, volume_mm3

VOLUMES = ("reference_mm3", "prediction_mm3")
Scores = dict[str, Any]  # by the names of metrics and counts; VOLUMES; "empty"

_HD95 = {
    Percentile.POOLED: surfaces.pooled_hd95,
    Percentile.DIRECTED: surfaces.directed_hd95,
    Percentile.BY_AREA: surfaces.area_weighted_hd95,
}


def score_masks(reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition) -> Scores:
    """Return every metric of a pair of masks, their volumes, and whether one or both are empty.

    Args:
        reference: bool (D, H, W) or (H, W).
        prediction: bool, the same shape.
        spacing_mm: edge of a voxel along each axis of the masks, in their order.
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).

    Returns:
        Scores by the names of the metrics, NaN where the definition leaves one out; the volumes `reference_mm3` and
        `prediction_mm3`; and `empty`, one of "", "reference", "prediction" or "both".

    Raises:
        InputError: the masks have two axes, and the definition weights surfaces by their area.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> reference, prediction = np.array([[True, True, False]]), np.array([[False, True, True]])
        >>> scores = score_masks(reference, prediction, (1.0, 0.5), DEFINITIONS["captk"])
        >>> scores["Dice"], scores["HD95"], scores["reference_mm3"]
        (0.5, 0.5, 1.0)
    """
    if definition.hd95 is Percentile.BY_AREA and reference.ndim != 3:
        raise InputError(
            f"images with 3 axes for {definition.name}, whose surfaces have an area",
            f"{reference.ndim} axes",
            parameters=["definition"],
        )
    empty = {(True, True): "both", (True, False): "reference", (False, True): "prediction", (False, False): ""}[
        not reference.any(), not prediction.any()
    ]
    scores = (
        _score_empty(empty, np.multiply(reference.shape, spacing_mm).tolist(), definition)
        if empty
        else _score_surfaces(reference, prediction, spacing_mm, definition)
    )
    volumes = [volume_mm3(mask, spacing_mm) for mask in (reference, prediction)]
    if ARVD in definition.metrics:
        scores[ARVD.name] = absolute_relative_volume_difference(*volumes)
    return {**scores, **dict(zip(VOLUMES, volumes, strict=True)), "empty": empty}


def score_both_empty(definition: Definition) -> Scores:
    """Return the scores that `score_masks` gives where reference and prediction are both empty.

    Args:
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> [score_both_empty(DEFINITIONS[name])["Dice"] for name in ("captk", "nnunet")]
        [1, nan]
    """
    nothing = np.zeros((1, 1, 1), bool)
    return score_masks(nothing, nothing, (1, 1, 1), definition)


def _score_empty(empty: str, image_mm: Sequence[float], definition: Definition) -> Scores:
    if empty == "both":
        overlap, distance = definition.overlap_both_empty, definition.distance_both_empty_mm
    else:
        penalty = definition.distance_one_empty_mm
        overlap, distance = 0.0, float(np.linalg.norm(image_mm)) if penalty is None else penalty
    return {DICE.name: overlap, HD95.name: distance, NSD.name: overlap, ABD.name: distance}


def _score_surfaces(reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition) -> Scores:
    measure = surfaces.element_distances if definition.hd95 is Percentile.BY_AREA else surfaces.border_distances
    distances = measure(reference, prediction, spacing_mm)
    return {
        DICE.name: dice(reference, prediction),
        HD95.name: _HD95[definition.hd95](distances),
        NSD.name: surfaces.normalized_surface_dice(distances, TOLERANCE_MM),
        ABD.name: surfaces.average_boundary_distance(distances),
    }
