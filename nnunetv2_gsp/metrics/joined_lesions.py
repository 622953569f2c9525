"""Scores lesions as BraTS 2023 and 2024 do: near ones are joined, and each is compared with all that lies near it.

Written from what https://github.com/rachitsaluja/BraTS-2023-Metrics and
https://github.com/rachitsaluja/BraTS-2024-Metrics compute.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from nnunetv2_gsp.metrics.definitions import Definition
from nnunetv2_gsp.metrics.lesion_rules import JoinedLesions, JoiningRules
from nnunetv2_gsp.metrics.morphology import Box, Numbers, box_around, components, dilate, touching, union_of, with_room
from nnunetv2_gsp.metrics.overlap import Mask
from nnunetv2_gsp.metrics.scoring import Scores, lesion_counts, lesion_means, score_masks
from nnunetv2_gsp.metrics.segmentations import LabelMap, mask_of


def find_lesions(
    labels: LabelMap, region: Sequence[int], lesions: JoinedLesions, spacing_mm: Sequence[float], *, predicted: bool
) -> Numbers:
    """Return the lesions of a region as numbers, joined and without those that are dropped.

    Args:
        labels: integers (D, H, W).
        region: labels that make up the region.
        lesions: rules for joining and dropping.
        spacing_mm: edge of a voxel along D, H and W.
        predicted: True for a prediction, whose small lesions may be dropped, and which may stay as it is.

    Returns:
        Integers (D, H, W), 0 for background and for what is dropped, the lesions counting from 1 on.

    Examples:
        >>> rules = JoinedLesions(JoiningRules(dilations=3, smallest_mm3=2, dropped_voxels=2))
        >>> labels = np.array([[[1, 1, 1] + [0] * 9 + [1]]])
        >>> find_lesions(labels, [1], rules, (1, 1, 1), predicted=True)[0, 0].tolist()
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    rules = lesions.rules_of(region)
    mask = mask_of(labels, region)
    if predicted and not rules.joins_prediction:
        return components(mask)[0]
    numbers = _joined_by_dilation(mask, rules.dilations)
    if predicted:
        numbers = _without_small(numbers, rules, spacing_mm)
    for label in rules.joined_by:
        others_rules = lesions.rules_of([label])
        others = _joined_by_dilation(mask_of(labels, [label]), others_rules.dilations)
        if predicted:
            others = _without_small(others, others_rules, spacing_mm)
        numbers = _joined_by_others(numbers, others)
    return _counted_up(numbers)


def score_joined_lesions(
    reference: Numbers,
    prediction: Numbers,
    region: Sequence[int],
    spacing_mm: Sequence[float],
    definition: Definition,
    lesions: JoinedLesions,
) -> Scores:
    """Return the means over lesions, with the numbers of lesions, of missed and of false ones.

    Args:
        reference: integers (D, H, W), the lesions of the reference (`find_lesions`).
        prediction: integers (D, H, W), the lesions of the prediction.
        region: labels that make up the region.
        spacing_mm: edge of a voxel along D, H and W.
        definition: how Dice, HD95 and NSD of a single lesion are computed, with the penalty in mm.
        lesions: rules for lesions.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> definition, reference = DEFINITIONS["brats2023"], np.zeros((8, 8, 8), int)
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> score_joined_lesions(reference, 0 * reference, [1], (1, 1, 1), definition, definition.lesions)
        {'lesion-wise Dice': 0.0, 'lesion-wise HD95': 374.0, 'lesions': 1, 'missed lesions': 1, 'false lesions': 0}
    """
    rules = lesions.rules_of(region)
    boxes = ndimage.find_objects(prediction)
    scores: list[Scores] = []
    n_missed, found = 0, np.zeros(len(boxes) + 1, bool)
    for number, box in enumerate(ndimage.find_objects(reference), 1):
        matches = _near(reference, number, box, prediction, rules.dilations)
        found[matches] = True
        if np.count_nonzero(reference[box] == number) * np.prod(spacing_mm) <= rules.smallest_mm3:
            continue
        n_missed += not matches
        around = union_of([box, *(boxes[match - 1] for match in matches)])
        lesion, predicted = reference[around] == number, np.isin(prediction[around], matches)
        scores.append(score_masks(lesion, predicted, spacing_mm, definition))
    n_false = int(np.count_nonzero(~found[1:]))
    means = lesion_means(scores, n_false if lesions.counts_false else 0, definition)
    return {**means, **lesion_counts(len(scores), n_missed, n_false)}


def in_words(lesions: JoinedLesions) -> str:
    """Return the rules in a few sentences, for readers of the scores.

    Args:
        lesions: rules for lesions.
    """
    every = [lesions.rules, *lesions.exceptions.values()]
    dilations = _or([rules.dilations for rules in every])
    smallest_mm3 = _or([rules.smallest_mm3 for rules in every])
    dropped = (
        f"{_or([rules.dropped_voxels for rules in every if rules.dropped_voxels])} voxels"
        if lesions.rules.dropped_voxels
        else f"{lesions.rules.dropped_mm3} mm³"
    )
    whose, and_false, or_false = (
        "" if lesions.rules.joins_prediction else "of the reference ",
        *((" and the false ones", "or false ") if lesions.counts_false else ("", "")),
    )
    drops = f"Lesions of the prediction up to {dropped} are dropped from all scores. "
    joins = "Lesions of some tissues that touch the same lesion of another count as one. "
    return (
        f"Lesion-wise: lesions {whose}that touch after {dilations} dilations count as one; a lesion of the prediction "
        f"belongs to each of the reference that it meets within as many. "
        f"{drops if lesions.rules.joins_prediction else ''}"
        f"{joins if any(rules.joined_by for rules in every) else ''}"
        f"Means are taken over the reference's lesions above {smallest_mm3} mm³{and_false}; a missed {or_false}lesion "
        "has Dice 0 and the HD95 of an empty mask. Where there is none, Dice is 1 and HD95 0 mm."
    )


def _or(values: Sequence[float]) -> str:
    return " or ".join(f"{value:g}" for value in sorted(set(values)))


def _joined_by_dilation(mask: Mask, dilations: int) -> Numbers:
    """Return the lesions of a mask as numbers; those that touch after dilation share a number."""
    box = box_around(mask, room=dilations)
    # numbered in the order of a NIfTI array, whose axes are the other way round: it decides which of two others joins
    dilated = np.ascontiguousarray(dilate(mask[box], dilations).T)
    numbers = np.zeros(mask.shape, np.int32)
    numbers[box] = components(dilated)[0].T * mask[box]
    return numbers


def _without_small(numbers: Numbers, rules: JoiningRules, spacing_mm: Sequence[float]) -> Numbers:
    smallest = rules.dropped_voxels
    if smallest is None:
        smallest = (rules.dropped_mm3 or 0) / np.prod(spacing_mm)
    inside = numbers > 0
    sizes = np.bincount(numbers[inside])
    kept = np.zeros_like(numbers)
    kept[inside] = np.where(sizes > smallest, np.arange(len(sizes)), 0)[numbers[inside]]
    return kept


def _joined_by_others(numbers: Numbers, others: Numbers) -> Numbers:
    """Give one number to all lesions that touch the same other one; the other with the lowest number decides."""
    lowest = np.full(numbers.max(initial=0) + 1, np.iinfo(np.int64).max)
    for these, those in touching(numbers, others):
        np.minimum.at(lowest, these, those)
    new = np.arange(len(lowest))
    is_touching = lowest < np.iinfo(np.int64).max
    new[is_touching] = lowest[is_touching] + len(lowest)
    joined, inside = np.zeros_like(numbers), numbers > 0
    joined[inside] = new[numbers[inside]]
    return joined


def _counted_up(numbers: Numbers) -> Numbers:
    """Return the numbers of components from 1 on without gaps."""
    counted, inside = np.zeros_like(numbers), numbers > 0
    counted[inside] = np.unique(numbers[inside], return_inverse=True)[1] + 1
    return counted


def _near(reference: Numbers, number: int, box: Box, prediction: Numbers, dilations: int) -> list[int]:
    """Return the numbers of the prediction's lesions that a dilated lesion of the reference meets."""
    around = with_room(box, dilations)
    near = dilate(reference[around] == number, dilations)
    return [int(match) for match in np.unique(prediction[around][near]) if match]
