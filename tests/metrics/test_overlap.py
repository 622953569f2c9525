"""Overlap and volumes by hand."""

import math

import pytest

from nnunetv2_gsp.metrics.overlap import absolute_relative_volume_difference, dice, volume_mm3
from tests.metrics.drawings import drawn, slab


def test_dice_by_hand():
    assert dice(drawn("##.."), drawn(".##.")) == 0.5
    assert dice(drawn("###......."), drawn("###......#")) == 6 / 7
    assert dice(drawn("#."), drawn("..")) == 0
    assert math.isnan(dice(drawn(".."), drawn("..")))


def test_volume_by_hand():
    assert volume_mm3(slab("##.", depth=4), (3, 0.5, 2)) == 8 * 3
    assert volume_mm3(drawn("##."), (0.5, 2)) == 2


@pytest.mark.parametrize(
    ("reference_mm3", "prediction_mm3", "percent"), [(40, 50, 25), (40, 30, 25), (40, 0, 100), (40, 40, 0)]
)
def test_the_difference_of_volumes_is_relative_to_the_reference(reference_mm3, prediction_mm3, percent):
    assert absolute_relative_volume_difference(reference_mm3, prediction_mm3) == percent


def test_without_a_reference_no_difference_of_volumes():
    assert math.isnan(absolute_relative_volume_difference(0, 5))
