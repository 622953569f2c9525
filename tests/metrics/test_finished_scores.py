"""Finished scores: kept whole, and taken only for the same files under the same rules."""

import pytest

from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from nnunetv2_gsp.metrics.finished_scores import FinishedScores
from nnunetv2_gsp.metrics.region_labels import RegionLabels

SCORES = {"TC": {"Dice": 0.1 + 0.2, "HD95": float("inf"), "lesions": 3, "empty": ""}}
LABELS = RegionLabels({"TC": (1, 3)})


@pytest.fixture
def files(tmp_path):
    for name in ("reference.nii", "prediction.nii"):
        (tmp_path / name).write_text(name)
    return tmp_path / "reference.nii", tmp_path / "prediction.nii"


def kept(tmp_path, labels=LABELS, name="captk"):
    return FinishedScores(tmp_path / "kept.jsonl", labels, DEFINITIONS[name])


def test_scores_come_back_as_they_were(files, tmp_path):
    assert kept(tmp_path).of(files) is None
    kept(tmp_path).add(files, SCORES)
    assert kept(tmp_path).of(files) == SCORES


@pytest.mark.parametrize(
    "other",
    [{"name": "brats2023"}, {"labels": RegionLabels({"TC": (2, 3)})}, {"labels": RegionLabels(LABELS.regions, 7)}],
)
def test_scores_under_other_rules_are_not_taken(other, files, tmp_path):
    kept(tmp_path).add(files, SCORES)
    assert kept(tmp_path, **other).of(files) is None


@pytest.mark.parametrize("which", [0, 1])
def test_scores_of_files_that_changed_are_not_taken(which, files, tmp_path):
    kept(tmp_path).add(files, SCORES)
    before = files[which].read_text()
    files[which].write_text(before.upper())
    assert kept(tmp_path).of(files) is None
    files[which].write_text(before)
    assert kept(tmp_path).of(files) == SCORES


def test_voxels_beside_a_header_count(files, tmp_path):
    header = tmp_path / "prediction.mhd"
    header.touch()
    (tmp_path / "prediction.raw").write_bytes(b"1")
    kept(tmp_path).add((files[0], header), SCORES)
    (tmp_path / "prediction.raw").write_bytes(b"2")
    assert kept(tmp_path).of((files[0], header)) is None


def test_a_line_that_was_cut_off_is_left_out(files, tmp_path):
    kept(tmp_path).add(files, SCORES)
    whole = (tmp_path / "kept.jsonl").read_text()
    (tmp_path / "kept.jsonl").write_text(whole + whole[: len(whole) // 2])
    assert kept(tmp_path).of(files) == SCORES
    kept(tmp_path).add(files[::-1], SCORES)  # behind what was cut off
    assert kept(tmp_path).of(files[::-1]) == SCORES
