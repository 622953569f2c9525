"""Definitions: what every combination of empty masks scores, which HD95 is meant, lesions, and thirds of a prostate."""
import math

import numpy as np
import pytest

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics import surface_distances as metrics
from nnunetv2_gsp.metrics.definitions import DEFINITIONS, definition_named
from nnunetv2_gsp.metrics.lesions import score_lesions
from nnunetv2_gsp.metrics.prostate import thirds
from tests.metrics.drawings import blob, slab

NAN = math.nan
SHAPE, SPACING_MM = (4, 3, 12), (1.0, 1.0, 1.0)
EMPTY, SOME = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
SOME[1:3, 1, 3:6] = True
DIAGONAL_MM = 13.0  # √(4² + 3² + 12²)

# definition -> Dice and HD95 where both are empty, HD95 where one is
EMPTY_CASES = {"captk": (1, 0, 373.1287), "brats2023": (1, 0, 374), "directed": (1, 0, 374),
               "panoptica": (NAN, NAN, 373), "nnunet": (NAN, NAN, NAN), "promise12": (1, 0, DIAGONAL_MM)}


def test_the_table_has_every_definition():
    assert list(EMPTY_CASES) == list(DEFINITIONS)


@pytest.mark.parametrize("name", EMPTY_CASES)
@pytest.mark.parametrize(("reference", "prediction", "empty"), [
    (EMPTY, EMPTY, "both"), (EMPTY, SOME, "reference"), (SOME, EMPTY, "prediction"), (SOME, SOME, "")])
def test_empty_masks(name, reference, prediction, empty):
    dice, hd95_both, hd95_one = EMPTY_CASES[name]
    overlap, distance = {"both": (dice, hd95_both), "": (1, 0)}.get(empty, (0, hd95_one))
    figures = DEFINITIONS[name].score(reference, prediction, SPACING_MM)
    assert figures["empty"] == empty
    for metric, expected in (("Dice", overlap), ("NSD at 1 mm", overlap), ("HD95", distance), ("ABD", distance)):
        assert figures[metric] == pytest.approx(expected, nan_ok=True), metric
    assert figures["reference_mm3"] == reference.sum()
    assert figures["prediction_mm3"] == prediction.sum()


@pytest.mark.parametrize(("name", "distances", "hd95"), [
    ("captk", metrics.border_distances, metrics.pooled_hd95),
    ("panoptica", metrics.border_distances, metrics.pooled_hd95),
    ("nnunet", metrics.border_distances, metrics.pooled_hd95),
    ("directed", metrics.border_distances, metrics.directed_hd95),
    ("promise12", metrics.border_distances, metrics.directed_hd95),
    ("brats2023", metrics.element_distances, metrics.area_weighted_hd95)])
def test_hd95_is_the_definitions(name, distances, hd95):
    reference, prediction = blob(0), blob(1) | (np.indices((17, 19, 15)).sum(0) < 3)
    assert DEFINITIONS[name].score(reference, prediction, (2, 1, 1))["HD95"] == hd95(
        distances(reference, prediction, (2, 1, 1)))


@pytest.mark.parametrize("name", EMPTY_CASES)
def test_words_say_what_empty_masks_score(name):
    dice, hd95_both, hd95_one = EMPTY_CASES[name]
    words = DEFINITIONS[name].in_words
    assert words.startswith(name)
    penalty = "the image diagonal" if name == "promise12" else "left out" if math.isnan(hd95_one) else f"{hd95_one} mm"
    assert words.count(f"HD95 and ABD {penalty}. Figures") == 1
    assert (f"Dice and NSD {dice}, HD95 and ABD {hd95_both} mm" if not math.isnan(dice) else
            "Dice and NSD left out, HD95 and ABD left out") in words


def test_absolute_relative_volume_difference():
    half = SOME & (np.indices(SHAPE)[0] == 1)
    score = DEFINITIONS["promise12"].score
    assert score(SOME, half, SPACING_MM)["aRVD"] == score(SOME, SOME & ~half, SPACING_MM)["aRVD"] == 50
    assert score(half, SOME, SPACING_MM)["aRVD"] == 100
    assert math.isnan(score(EMPTY, SOME, SPACING_MM)["aRVD"])


def test_an_unknown_definition_is_refused():
    with pytest.raises(InputError, match=r"captk, brats2023.* got brats"):
        definition_named("brats")


def test_surfaces_with_area_need_three_axes():
    with pytest.raises(InputError, match="3 axes for brats2023"):
        DEFINITIONS["brats2023"].score(SOME[1], SOME[1], (1, 1))
    with pytest.raises(InputError, match="3 axes"):
        DEFINITIONS["brats2023"].score(EMPTY[1], EMPTY[1], (1, 1))
    assert DEFINITIONS["directed"].score(SOME[1], SOME[1], (1, 1))["HD95"] == 0


def cubes(*corners, edge=4, shape=(8, 10, 60)):
    mask = np.zeros(shape, bool)
    for z, y, x in corners:
        mask[z:z + edge, y:y + edge, x:x + edge] = True
    return mask


def lesion_scores(reference, prediction, spacing_mm=(1, 1, 1)):
    figures = score_lesions(reference, prediction, spacing_mm, DEFINITIONS["brats2023"])
    return (figures["lesion-wise Dice"], figures["lesion-wise HD95"], figures["lesions"], figures["missed lesions"],
            figures["false lesions"])


NEAR, FAR, FURTHER = (2, 2, 2), (2, 2, 30), (2, 2, 50)  # cubes of 64 voxels


@pytest.mark.parametrize(("reference", "prediction", "expected"), [
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
])
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
    assert hd95 == DEFINITIONS["brats2023"].score(cubes(NEAR), beside, (1, 1, 1))["HD95"]


UPRIGHT = np.eye(3)
HEAD_FIRST = np.diag([1, 1, -1.0])


@pytest.mark.parametrize(("direction", "names"), [(UPRIGHT, ["apex", "mid", "base"]),
                                                  (HEAD_FIRST, ["base", "mid", "apex"])])
def test_thirds_of_the_reference_from_foot_to_head(direction, names):
    reference, prediction = np.zeros((12, 2, 2), bool), np.zeros((12, 2, 2), bool)
    reference[2:8] = True
    prediction[3:11] = True
    found = {name: tuple(np.unique(mask.nonzero()[0]).tolist() for mask in (one, other))
             for name, one, other in thirds(reference, prediction, direction)}
    if direction is HEAD_FIRST:
        found = {name: tuple(sorted(11 - z for z in slices) for slices in both) for name, both in found.items()}
    # the prediction's slices beyond the reference go with its last third
    assert found == {names[0]: ([2, 3], [3]), names[1]: ([4, 5], [4, 5]), names[2]: ([6, 7], [6, 7, 8, 9, 10])}


def test_thirds_along_the_axis_that_points_to_the_head():
    mask = slab("#", "#", "#", depth=1)
    sagittal = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])  # the second axis of the array points to the head
    sizes = [one.nonzero()[1].tolist() for _, one, _ in thirds(mask, mask, sagittal)]
    assert sizes == [[0], [1], [2]]


@pytest.mark.parametrize("which", ["reference", "both"])
def test_thirds_without_a_reference(which):
    mask = np.zeros((9, 1, 1), bool)
    prediction = np.ones((9, 1, 1), bool) if which == "reference" else mask
    parts = list(thirds(mask, prediction, UPRIGHT))
    assert [name for name, *_ in parts] == ["apex", "mid", "base"]
    assert [part.sum() for *_, part in parts] == ([3, 3, 3] if which == "reference" else [0, 0, 0])
