"""Identical predictions: equal in every voxel, however they are stored."""

import shutil

import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.comparison.verdict import verdict
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import tumour, write_predictions
from tests.metrics.drawings import write

SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def base(tmp_path):
    for name, noise in (("gt", 0), ("a", 0.3), ("b", 0.3)):
        write_predictions(tmp_path / name, noise, range(3))
    return tmp_path


def compared(base, definition="directed"):
    return compare(pair_folders([base / "a", base / "b"], base / "gt"), DEFINITIONS[definition], 1)


def test_identical_predictions_are_named_so(base):
    (base / "b" / "case_01.nii.gz").unlink()
    write(tumour(1, 0.3), base / "b" / "case_01.nii", SPACING)  # another file of the same labels
    result = compared(base)
    assert dict(result.identical) == {("a", "b"): 3}
    assert verdict(result) == "The predictions of b and a are identical in 3 cases."


def test_headers_that_are_equal_are_not_yet_identical_predictions(base):
    shutil.rmtree(base / "gt")
    for case in range(3):
        write(0 * tumour(case), base / "gt" / f"case_{case:02d}.nii.gz", SPACING)
        for folder, labels in (("a", tumour(case)), ("b", tumour(case)[::-1].copy() if case else tumour(case))):
            (base / folder / f"case_{case:02d}.nii.gz").unlink()
            write(labels, base / folder / f"case_{case:02d}.mhd", SPACING)
    assert dict(compared(base, "nnunet").identical) == {("a", "b"): 1}


def test_equal_scores_are_not_yet_identical_predictions(base):
    shutil.rmtree(base / "gt")
    for case in range(3):
        write(0 * tumour(case), base / "gt" / f"case_{case:02d}.nii.gz", SPACING)
    moved = tumour(1, 0.3)[::-1].copy()  # of one volume, against an empty reference
    write(moved, base / "b" / "case_01.nii.gz", SPACING)
    result = compared(base, "nnunet")
    assert dict(result.identical) == {("a", "b"): 2}
    assert "identical" not in verdict(result)
