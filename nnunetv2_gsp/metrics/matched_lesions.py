"""Scores lesions as BraTS 2025 does: each is compared with at most one of the prediction.

Written from what panoptica (https://github.com/BrainLesion/panoptica) computes under the settings of
https://github.com/BraTS/BraTS_evaluation.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from nnunetv2_gsp.metrics import surface_distances as surfaces
from nnunetv2_gsp.metrics.definitions import (
    DICE,
    HD95,
    LARGE_LESION_F1,
    LESION_F1,
    SMALL_LESION_F1,
    VOXEL_NSD,
    Definition,
)
from nnunetv2_gsp.metrics.lesion_rules import MatchedLesions
from nnunetv2_gsp.metrics.morphology import Numbers, components, union_of
from nnunetv2_gsp.metrics.overlap import Mask, dice
from nnunetv2_gsp.metrics.scoring import Scores, lesion_counts, lesion_means

_SMALLEST_DICE = 1e-6  # of two lesions that may be matched


def score_matched_lesions(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition, lesions: MatchedLesions
) -> Scores:
    """Return the means over lesions, the F1 score of detection, and the numbers of lesions, missed and false ones.

    Args:
        reference: bool (D, H, W) or (H, W).
        prediction: bool, the same shape.
        spacing_mm: edge of a voxel along each axis of the masks, in their order.
        definition: what empty masks score, and the penalty in mm.
        lesions: rules for lesions.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> definition = DEFINITIONS["brats2025"]
        >>> reference, prediction = np.array([[True, True, False, True]]), np.array([[True, True, False, False]])
        >>> scores = score_matched_lesions(reference, prediction, (1.0, 1.0), definition, definition.lesions)
        >>> scores["lesion-wise Dice"], scores["missed lesions"], round(scores["lesion F1"], 3)
        (1.0, 1, 0.667)
    """
    (of_reference, n_reference), (of_prediction, n_prediction) = map(components, (reference, prediction))
    pairs = _matched(of_reference, n_reference, of_prediction, n_prediction)
    n_missed, n_false = n_reference - len(pairs), n_prediction - len(pairs)
    volumes_mm3 = np.bincount(of_reference.ravel(), minlength=n_reference + 1) * np.prod(spacing_mm)
    of_pairs = _score_pairs(of_reference, of_prediction, pairs, spacing_mm)
    f1 = {LESION_F1.name: _f1(len(pairs), n_missed, n_false)}
    scored, n_penalties = list(of_pairs.values()), int(not pairs and n_missed + n_false > 0)
    if lesions.smallest_mm3 is not None:
        large = {number for number in range(1, n_reference + 1) if volumes_mm3[number] >= lesions.smallest_mm3}
        small = set(range(1, n_reference + 1)) - large
        found = {number for number, scores in of_pairs.items() if scores[DICE.name] >= lesions.found_dice}
        for metric, numbers in ((SMALL_LESION_F1, small), (LARGE_LESION_F1, large)):
            # the official code counts every false lesion for both
            f1[metric.name] = _f1(len(numbers & found), len(numbers - found), n_false) if numbers else math.nan
        scored = [scores for number, scores in of_pairs.items() if number in large]
        n_penalties = n_false + len(large - set(pairs)) if large else 0
    return {
        **lesion_means(scored, n_penalties, definition),
        **f1,
        **lesion_counts(n_reference, n_missed, n_false),
    }


def in_words(lesions: MatchedLesions) -> str:
    """Return the rules in a few sentences, for readers of the scores.

    Args:
        lesions: rules for lesions.
    """
    means = (
        "Means are taken over the matched lesions; where none is matched, Dice and NSD are 0 and HD95 is that of an "
        "empty mask."
        if lesions.smallest_mm3 is None
        else f"Means are taken over the reference's lesions from {lesions.smallest_mm3:g} mm³ on and the false ones; a "
        "missed or false lesion has Dice and NSD 0 and the HD95 of an empty mask. Without such a lesion in the "
        "reference they are left out."
    )
    apart = (
        ""
        if lesions.smallest_mm3 is None
        else f" Small- and large-lesion F1 are those of the reference's lesions below {lesions.smallest_mm3:g} mm³ and "
        f"of the others, found from a Dice of {lesions.found_dice:g} on; each counts all false lesions."
    )
    return (
        "Lesion-wise: each lesion of the reference is matched with at most one of the prediction that it shares a "
        f"voxel with, so that the sum of their Dice is largest. {means} Between lesions, the official code takes the "
        "edges of a voxel in reverse order, and so do these scores, which matters where the first and the last edge "
        "differ. NSD between lesions has the shortest edge as its tolerance. Lesion F1 is that of their detection."
        f"{apart}"
    )


def _f1(n_found: int, n_missed: int, n_false: int) -> float:
    """Return the F1 score of detection, NaN where there is nothing to find and nothing was."""
    n_of_any = 2 * n_found + n_missed + n_false
    return 2 * n_found / n_of_any if n_of_any else math.nan


def _matched(reference: Numbers, n_reference: int, prediction: Numbers, n_prediction: int) -> dict[int, int]:
    """Return number of the reference's lesion -> number of the prediction's, for the matched ones."""
    shape = n_reference + 1, n_prediction + 1
    pairs = np.ravel_multi_index((reference, prediction), shape)
    common = np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    sizes = common.sum(1, keepdims=True) + common.sum(0, keepdims=True)
    overlaps = (2 * common / np.maximum(sizes, 1))[1:, 1:]
    is_candidate = overlaps >= _SMALLEST_DICE
    # a little more than 1 as in the official code: an assignment of fewer pairs is never as good
    costs: npt.NDArray[np.float64] = np.where(is_candidate, 1 - overlaps, 1 + _SMALLEST_DICE)
    rows, columns = linear_sum_assignment(costs)
    kept = is_candidate[rows, columns]
    return dict(zip((rows[kept] + 1).tolist(), (columns[kept] + 1).tolist(), strict=True))


def _score_pairs(
    reference: Numbers, prediction: Numbers, pairs: dict[int, int], spacing_mm: Sequence[float]
) -> dict[int, Scores]:
    """Return number of the reference's lesion -> its scores, for matched ones."""
    boxes, other_boxes = ndimage.find_objects(reference), ndimage.find_objects(prediction)
    scores = {}
    for number, other in pairs.items():
        around = union_of([boxes[number - 1], other_boxes[other - 1]])
        scores[number] = _score_pair(reference[around] == number, prediction[around] == other, spacing_mm)
    return scores


def _score_pair(lesion: Mask, predicted: Mask, spacing_mm: Sequence[float]) -> Scores:
    distances = surfaces.border_distances(lesion, predicted, spacing_mm[::-1])  # reversed as in the official code
    return {
        DICE.name: dice(lesion, predicted),
        HD95.name: surfaces.pooled_hd95(distances),
        VOXEL_NSD.name: surfaces.mean_surface_share(distances, min(spacing_mm)),
    }
