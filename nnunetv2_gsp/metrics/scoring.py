"""Scores a reference mask and a predicted mask under a definition."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics import surface_distances as surfaces
from nnunetv2_gsp.metrics.definitions import (
    ABD,
    ARVD,
    DICE,
    HD95,
    LESION_COUNTS,
    Definition,
    Diagonal,
    Metric,
    Percentile,
    lesion_wise,
    nsd_at,
)
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
        >>> import numpy as np
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> reference, prediction = np.array([[True, True, False]]), np.array([[False, True, True]])
        >>> scores = score_masks(reference, prediction, (1.0, 0.5), DEFINITIONS["captk"])
        >>> scores["Dice"], scores["HD95"], scores["reference_mm3"]
        (0.5, 0.5, 1.0)
    """
    check_axes(reference.ndim, definition)
    definition = definition.for_image(reference.shape, spacing_mm)
    empty = {(True, True): "both", (True, False): "reference", (False, True): "prediction", (False, False): ""}[
        not reference.any(), not prediction.any()
    ]
    if empty or (definition.needs_overlap and not (reference & prediction).any()):
        scores = _score_empty(empty, definition)
    else:
        scores = _score_surfaces(reference, prediction, spacing_mm, definition)
    volumes = [volume_mm3(mask, spacing_mm) for mask in (reference, prediction)]
    if ARVD in definition.metrics:
        scores[ARVD.name] = absolute_relative_volume_difference(*volumes)
    return {**scores, **dict(zip(VOLUMES, volumes, strict=True)), "empty": empty}


def check_axes(n_axes: int, definition: Definition) -> None:
    """Check that a definition applies to images of so many axes.

    Args:
        n_axes: 2 or 3.
        definition: the definition to score under (`DEFINITIONS`).

    Raises:
        InputError: there are two axes, and the definition weights surfaces by their area.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> check_axes(2, DEFINITIONS["captk"])
    """
    if definition.hd95 is Percentile.BY_AREA and n_axes != 3:
        raise InputError(
            f"images with 3 axes for {definition.name}, whose surfaces have an area",
            f"{n_axes} axes",
            parameters=["definition"],
        )


def lesion_means(scores: Sequence[Scores], n_penalties: int, definition: Definition) -> Scores:
    """Return the mean of each metric over lesions; where there is none, what two empty masks score.

    Args:
        scores: scores of each lesion (`score_masks`).
        n_penalties: number of further lesions that score like an empty mask, from 0 on.
        definition: the definition of the scores, with the penalty in mm.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> lesion_means([{"Dice": 1.0, "HD95": 0.0}], 1, DEFINITIONS["brats2023"])
        {'lesion-wise Dice': 0.5, 'lesion-wise HD95': 187.0}
    """
    return {
        lesion_wise(metric).name: _lesion_mean(metric, scores, n_penalties, definition)
        for metric in definition.metrics_of_a_lesion
    }


def lesion_counts(n_scored: int, n_missed: int, n_false: int) -> dict[str, int]:
    """Return the numbers of lesions by the names that they have in the scores.

    Args:
        n_scored: lesions of the reference that are scored, from 0 on.
        n_missed: those among them without any of the prediction, from 0 on.
        n_false: lesions of the prediction without any of the reference, from 0 on.

    Examples:
        >>> lesion_counts(2, 1, 0)
        {'lesions': 2, 'missed lesions': 1, 'false lesions': 0}
    """
    return dict(zip(LESION_COUNTS, (n_scored, n_missed, n_false), strict=True))


def score_both_empty(definition: Definition) -> Scores:
    """Return the scores of a region that is empty in the reference and in the prediction.

    Args:
        definition: how each metric is computed, and what an empty mask scores (`DEFINITIONS`).

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> [score_both_empty(DEFINITIONS[name])["Dice"] for name in ("captk", "nnunet")]
        [1, nan]
    """
    scores: Scores = {metric.name: _both_empty(metric, definition) for metric in definition.metrics}
    if definition.has_thirds:
        scores[ARVD.name] = absolute_relative_volume_difference(0, 0)
    counts = lesion_counts(0, 0, 0) if definition.lesions else {}
    return {**scores, **counts, **dict.fromkeys(VOLUMES, 0.0), "empty": "both"}


def _lesion_mean(metric: Metric, scores: Sequence[Scores], n_penalties: int, definition: Definition) -> float:
    values = [float(each[metric.name]) for each in scores] + [_penalty(metric, definition)] * n_penalties
    return mean(values) if values else _both_empty(metric, definition)


def _score_empty(empty: str, definition: Definition) -> Scores:
    score = _both_empty if empty == "both" else _penalty
    return {metric.name: score(metric, definition) for metric in (DICE, HD95, *definition.nsd_metrics, ABD)}


def _both_empty(metric: Metric, definition: Definition) -> float:
    return definition.overlap_both_empty if metric.higher_is_better else definition.distance_both_empty_mm


def _penalty(metric: Metric, definition: Definition) -> float:
    if metric.higher_is_better:
        return 0.0
    if isinstance(definition.distance_one_empty_mm, Diagonal):
        raise TypeError(f"{definition.name}'s penalty depends on the image: expected what for_image returns")
    return definition.distance_one_empty_mm


def _score_surfaces(reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition) -> Scores:
    spacing_mm = (1.0,) * reference.ndim if definition.in_voxels else spacing_mm
    is_by_area = definition.hd95 is Percentile.BY_AREA
    measure = surfaces.element_distances if is_by_area else surfaces.border_distances
    distances = of_nsd = measure(reference, prediction, spacing_mm)
    if is_by_area and definition.has_nsd:
        of_nsd = surfaces.border_distances(reference, prediction, spacing_mm)
    share = surfaces.mean_surface_share if definition.has_nsd else surfaces.normalized_surface_dice
    return {
        DICE.name: dice(reference, prediction),
        HD95.name: _HD95[definition.hd95](distances),
        **{nsd_at(tolerance).name: share(of_nsd, tolerance) for tolerance in definition.tolerances_mm},
        ABD.name: surfaces.average_boundary_distance(distances),
    }
