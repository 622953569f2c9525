"""Scores a region: the whole masks, and single lesions where the definition has them."""

from collections.abc import Sequence

from nnunetv2_gsp.metrics import joined_lesions, matched_lesions
from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.lesion_rules import JoinedLesions, MatchedLesions
from nnunetv2_gsp.metrics.scoring import Scores, check_axes, score_masks
from nnunetv2_gsp.metrics.segmentations import LabelMap, mask_of


def score_region(
    reference: LabelMap,
    prediction: LabelMap,
    region: Sequence[int],
    spacing_mm: Sequence[float],
    definition: Definition,
) -> Scores:
    """Return every score of a region.

    Args:
        reference: integers (D, H, W) or (H, W).
        prediction: integers, the same shape.
        region: labels that make up the region.
        spacing_mm: edge of a voxel along each axis of the label maps, in their order.
        definition: how each metric is computed, and how lesions are scored (`DEFINITIONS`).

    Returns:
        What `score_masks` returns, then scores and numbers of lesions where the definition has them.

    Raises:
        InputError: there are two axes, and the definition weights surfaces by their area.

    Examples:
        >>> import numpy as np
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> reference = np.zeros((8, 8, 20), int)
        >>> reference[2:6, 2:6, 2:6] = 3
        >>> prediction = reference.copy()
        >>> prediction[2:4, 2:4, 14:16] = 3  # a false lesion of 8 voxels, which BraTS 2024 drops
        >>> [
        ...     score_region(reference, prediction, [3], (1, 1, 1), DEFINITIONS[name])["lesion-wise Dice"]
        ...     for name in ("brats2023", "brats2024")
        ... ]
        [0.5, 1.0]
    """
    check_axes(reference.ndim, definition)
    definition = definition.for_image(reference.shape, spacing_mm)
    if isinstance(definition.lesions, JoinedLesions):
        return _score_joined(reference, prediction, region, spacing_mm, definition, definition.lesions)
    masks = mask_of(reference, region), mask_of(prediction, region)
    scores = score_masks(*masks, spacing_mm, definition)
    if isinstance(definition.lesions, MatchedLesions):
        of_lesions = matched_lesions.score_matched_lesions(*masks, spacing_mm, definition, definition.lesions)
        return {**scores, **of_lesions}
    return scores


def notes_on_lesions(definition: Definition) -> list[str]:
    """Return how the definition scores lesions, in a few sentences; empty where it does not.

    Args:
        definition: the definition that the scores were computed under (`DEFINITIONS`).
    """
    if isinstance(definition.lesions, JoinedLesions):
        return [joined_lesions.in_words(definition.lesions)]
    return [matched_lesions.in_words(definition.lesions)] if definition.lesions else []


def _score_joined(
    reference: LabelMap,
    prediction: LabelMap,
    region: Sequence[int],
    spacing_mm: Sequence[float],
    definition: Definition,
    lesions: JoinedLesions,
) -> Scores:
    """Score the lesions, and the whole masks without what is dropped, as the official code does."""
    found = [
        joined_lesions.find_lesions(labels, region, lesions, spacing_mm, predicted=predicted)
        for labels, predicted in ((reference, False), (prediction, True))
    ]
    scores = score_masks(found[0] > 0, found[1] > 0, spacing_mm, definition)
    of_lesions = joined_lesions.score_joined_lesions(found[0], found[1], region, spacing_mm, definition, lesions)
    return {**scores, **of_lesions}
