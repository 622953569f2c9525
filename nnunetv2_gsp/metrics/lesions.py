"""Computes lesion-wise Dice and HD95 as BraTS 2023 does for glioma."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunetv2_gsp.metrics.definitions import DICE, HD95, LESION_DICE, LESION_HD95, Definition
from nnunetv2_gsp.metrics.overlap import Mask
from nnunetv2_gsp.metrics.scoring import Scores, score_masks

Numbers = npt.NDArray[np.integer[Any]]

SMALLEST_MM3 = 50  # lesions of the reference up to this size are not scored
DILATIONS = 3  # voxels; closer lesions of the reference are one
FALSE_HD95_MM = 374.0
_TOUCHING = ndimage.generate_binary_structure(3, 3)  # by faces, edges and corners
_DILATION = ndimage.generate_binary_structure(3, 2)  # by faces and edges
COUNTS = ("lesions", "missed lesions", "false lesions")

IN_WORDS = (
    f"Lesion-wise: lesions of the reference that touch after {DILATIONS} dilations count as one; a lesion of "
    f"the prediction belongs to each of them that it meets within {DILATIONS} dilations. Means are taken over "
    f"the reference's lesions above {SMALLEST_MM3} mm³ and the false ones; a missed or false lesion has Dice 0 "
    f"and HD95 {FALSE_HD95_MM:g} mm. Where there is neither, Dice is 1 and HD95 0 mm."
)


def score_lesions(reference: Mask, prediction: Mask, spacing_mm: Sequence[float], definition: Definition) -> Scores:
    """Return lesion-wise Dice and HD95 with the numbers of lesions, of missed and of false ones.

    Follows https://github.com/rachitchauhan43/BraTS-2023-Metrics, written from its description.

    Args:
        reference: bool (D, H, W).
        prediction: bool (D, H, W).
        spacing_mm: edge of a voxel along D, H and W.
        definition: how Dice and HD95 of a single lesion are computed.

    Examples:
        >>> from nnunetv2_gsp.metrics.definitions import DEFINITIONS
        >>> reference = np.zeros((8, 8, 8), bool)
        >>> reference[2:6, 2:6, 2:6] = True
        >>> score_lesions(reference, np.zeros_like(reference), (1, 1, 1), DEFINITIONS["brats2023"])
        {'lesion-wise Dice': 0.0, 'lesion-wise HD95': 374.0, 'lesions': 1, 'missed lesions': 1, 'false lesions': 0}
    """
    reference, prediction = _cut(reference, prediction)
    lesions = _joined_lesions(reference)
    predicted, n_predicted = ndimage.label(prediction, _TOUCHING)
    scores: list[tuple[float, float]] = []
    found: set[int] = set()
    missed = 0
    for number in range(1, lesions.max(initial=0) + 1):
        lesion = lesions == number
        near = ndimage.binary_dilation(lesion, _DILATION, DILATIONS)
        matches = set(np.unique(predicted[near]).tolist()) - {0}
        found |= matches
        if lesion.sum() * np.prod(spacing_mm) <= SMALLEST_MM3:
            continue
        missed += not matches
        scores.append(_score_lesion(lesion, np.isin(predicted, list(matches)), spacing_mm, definition))

    n_false, n_lesions = n_predicted - len(found), len(scores)
    scores.extend([(0.0, FALSE_HD95_MM)] * n_false)
    dice, hd95 = np.mean(scores, axis=0).tolist() if scores else (1.0, 0.0)
    return {
        LESION_DICE.name: dice,
        LESION_HD95.name: hd95,
        **dict(zip(COUNTS, (n_lesions, missed, n_false), strict=True)),
    }


def _score_lesion(
    lesion: Mask, predicted: Mask, spacing_mm: Sequence[float], definition: Definition
) -> tuple[float, float]:
    """Return Dice and HD95 (mm) of a lesion."""
    if not predicted.any():
        return 0.0, FALSE_HD95_MM
    scores = score_masks(lesion, predicted, spacing_mm, definition)
    return scores[DICE.name], scores[HD95.name]


def _joined_lesions(reference: Mask) -> Numbers:
    """Return the lesions of the reference, numbered from 1 on; those that touch after dilation share a number."""
    joined: Numbers
    joined, _ = ndimage.label(ndimage.binary_dilation(reference, _DILATION, DILATIONS), _TOUCHING)
    return joined * reference


def _cut(reference: Mask, prediction: Mask) -> tuple[Mask, Mask]:
    """Crop both masks to the box around their union, with room for the dilations."""
    union = reference | prediction
    if not union.any():
        return reference[:1, :1, :1], prediction[:1, :1, :1]
    box = ndimage.find_objects(union.view(np.uint8))[0]
    room = tuple(slice(max(0, axis.start - DILATIONS), axis.stop + DILATIONS) for axis in box)
    return reference[room], prediction[room]
