"""Lesions: joined, missed, false, small, and near each other."""

import numpy as np
import pytest

from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.lesions import score_lesions
from nnunetv2_gsp.metrics.scoring import score_masks

NEAR, FAR, FURTHER = (2, 2, 2), (2, 2, 30), (2, 2, 50)  # cubes of 64 voxels


def cubes(*corners, edge=4, shape=(8, 10, 60)):
    mask = np.zeros(shape, bool)
    for z, y, x in corners:
        mask[z : z + edge, y : y + edge, x : x + edge] = True
    return mask


def lesion_scores(reference, prediction, spacing_mm=(1, 1, 1)):
    scores = score_lesions(reference, prediction, spacing_mm, DEFINITIONS["brats2023"])
    return (
        scores["lesion-wise Dice"],
        scores["lesion-wise HD95"],
        scores["lesions"],
        scores["missed lesions"],
        scores["false lesions"],
    )


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ([], [], (1, 0, 0, 0, 0)),
        ([NEAR], [NEAR], (1, 0, 1, 0, 0)),
        ([NEAR, FAR], [NEAR], (0.5, 374 / 2, 2, 1, 0)),
        ([NEAR], [NEAR, FAR, FURTHER], (1 / 3, 374 * 2 / 3, 1, 0, 2)),
        ([], [FAR], (0, 374, 0, 0, 1)),
        ([FAR], [], (0, 374, 1, 1, 0)),
        # six voxels between them: touching after three dilations each, so one lesion, found whole
        ([NEAR, (2, 2, 12)], [NEAR, (2, 2, 12)], (1, 0, 1, 0, 0)),
        # seven voxels between them: two lesions
        ([NEAR, (2, 2, 13)], [NEAR, (2, 2, 13)], (1, 0, 2, 0, 0)),
    ],
)
def test_lesions(reference, prediction, expected):
    assert lesion_scores(cubes(*reference), cubes(*prediction)) == pytest.approx(expected)


def test_small_lesions_are_not_scored_and_what_meets_them_is_not_false():
    small = cubes(FAR, edge=3)  # 27 mm³
    assert lesion_scores(cubes(NEAR) | small, cubes(NEAR)) == pytest.approx((1, 0, 1, 0, 0))
    assert lesion_scores(cubes(NEAR) | small, cubes(NEAR) | small) == pytest.approx((1, 0, 1, 0, 0))
    # 54 mm³ with thick slices
    assert lesion_scores(cubes(NEAR) | small, cubes(NEAR), (2, 1, 1))[2:] == (2, 1, 0)


def test_a_prediction_near_a_lesion_belongs_to_it_whole():
    beside = cubes((2, 2, 8))  # two voxels from the lesion, without overlap, reaching beyond its dilation
    dice, hd95, n, missed, false = lesion_scores(cubes(NEAR), beside)
    assert (dice, n, missed, false) == (0, 1, 0, 0)
    assert hd95 == score_masks(cubes(NEAR), beside, (1, 1, 1), DEFINITIONS["brats2023"])["HD95"]
