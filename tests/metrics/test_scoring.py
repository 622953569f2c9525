"""What a pair of masks scores: by every definition, with every combination of empty masks."""

import math

import numpy as np
import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics import surface_distances as surfaces
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.scoring import score_masks
from tests.metrics.drawings import blob
from tests.metrics.test_definitions import EMPTY_CASES

SHAPE, SPACING_MM = (4, 3, 12), (1.0, 1.0, 1.0)
EMPTY, SOME = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
SOME[1:3, 1, 3:6] = True


@pytest.mark.parametrize("name", EMPTY_CASES)
@pytest.mark.parametrize(
    ("reference", "prediction", "empty"),
    [(EMPTY, EMPTY, "both"), (EMPTY, SOME, "reference"), (SOME, EMPTY, "prediction"), (SOME, SOME, "")],
)
def test_empty_masks(name, reference, prediction, empty):
    dice, hd95_both, hd95_one = EMPTY_CASES[name]
    overlap, distance = {"both": (dice, hd95_both), "": (1, 0)}.get(empty, (0, hd95_one))
    scores = score_masks(reference, prediction, SPACING_MM, DEFINITIONS[name])
    assert scores["empty"] == empty
    nsd = DEFINITIONS[name].nsd_metrics[0].name
    for metric, expected in (("Dice", overlap), (nsd, overlap), ("HD95", distance), ("ABD", distance)):
        assert scores[metric] == pytest.approx(expected, nan_ok=True), metric
    assert scores["reference_mm3"] == reference.sum()
    assert scores["prediction_mm3"] == prediction.sum()


def test_masks_without_a_common_voxel_have_the_penalty_where_the_definition_needs_an_overlap():
    apart = np.zeros(SHAPE, bool)
    apart[1:3, 1, 8:10] = True
    scores = {name: score_masks(SOME, apart, SPACING_MM, DEFINITIONS[name]) for name in ("panoptica", "captk")}
    assert [scores["panoptica"][metric] for metric in ("Dice", "HD95", "NSD at 0.5 mm", "ABD")] == [0, 373, 0, 373]
    assert 0 < scores["captk"]["HD95"] < 10


def test_distances_in_voxels_do_not_know_the_spacing():
    shifted = np.roll(SOME, 1, axis=2)
    assert score_masks(SOME, shifted, (1, 1, 7), DEFINITIONS["panoptica"])["HD95"] == 1
    assert score_masks(SOME, shifted, (1, 1, 7), DEFINITIONS["captk"])["HD95"] == 7


@pytest.mark.parametrize(
    ("name", "distances", "hd95"),
    [
        ("captk", surfaces.border_distances, surfaces.pooled_hd95),
        ("nnunet", surfaces.border_distances, surfaces.pooled_hd95),
        ("directed", surfaces.border_distances, surfaces.directed_hd95),
        ("promise12", surfaces.border_distances, surfaces.directed_hd95),
        ("brats2023", surfaces.element_distances, surfaces.area_weighted_hd95),
    ],
)
def test_hd95_is_the_definitions(name, distances, hd95):
    reference, prediction = blob(0), blob(1) | (np.indices((17, 19, 15)).sum(0) < 3)
    assert score_masks(reference, prediction, (2, 1, 1), DEFINITIONS[name])["HD95"] == hd95(
        distances(reference, prediction, (2, 1, 1))
    )


def test_absolute_relative_volume_difference():
    half = SOME & (np.indices(SHAPE)[0] == 1)

    def arvd(reference, prediction):
        return score_masks(reference, prediction, SPACING_MM, DEFINITIONS["promise12"])["aRVD"]

    assert arvd(SOME, half) == arvd(SOME, SOME & ~half) == 50
    assert arvd(half, SOME) == 100
    assert math.isnan(arvd(EMPTY, SOME))
    assert "aRVD" not in score_masks(SOME, half, SPACING_MM, DEFINITIONS["captk"])


@pytest.mark.parametrize("mask", [SOME, EMPTY])
def test_surfaces_with_area_need_three_axes(mask):
    with pytest.raises(InputError, match="3 axes for brats2023, whose surfaces have an area, got 2 axes"):
        score_masks(mask[1], mask[1], (1, 1), DEFINITIONS["brats2023"])
    assert score_masks(mask[1], mask[1], (1, 1), DEFINITIONS["directed"])["HD95"] == 0
