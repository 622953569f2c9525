"""Pictures of cases: which slice, which outlines, and what is drawn without an image."""

import re

import numpy as np
import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.outlines import worst_slice
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, tumour
from tests.metrics.drawings import write


def test_pictures_show_the_slice_where_most_is_wrong(comparison):
    [image, whole, core] = worst_slice(comparison, "case_03")
    wrong = sum((tumour(3) != tumour(3, noise)).sum(axis=(1, 2)) * times for noise, times in ((0.5, 2), (0.05, 1)))
    assert f"slice {np.argmax(wrong) + 1} of 17" in image.alt
    n_voxels = (tumour(3)[np.argmax(wrong)] > 0).sum()
    assert f"voxels inside: reference {n_voxels}, poor" in whole.alt
    assert core.title == "core"


@pytest.mark.parametrize("shape", [(3, 1, 6), (3, 6, 1), (1, 1, 1)])
def test_images_one_voxel_wide_are_drawn(shape, tmp_path):
    for name in ("gt", "a", "b"):
        write(np.ones(shape), tmp_path / name / "c.nii.gz")
    pairing = pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt")
    [picture] = worst_slice(compare(pairing, DEFINITIONS["directed"], 1), "c")
    assert picture.uri.startswith("data:image/png")


def test_a_contender_called_reference_is_not_the_truth(folders, tmp_path):
    for case in range(N_CASES):
        write(0 * tumour(case), tmp_path / "reference" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    pairing = pair_folders([tmp_path / "reference", folders / "good"], folders / "gt")
    whole = worst_slice(compare(pairing, DEFINITIONS["directed"], 1), "case_00")[0]
    first, second, good = re.findall(r"(?:reference|good) (\d+)", whole.alt)
    assert int(first) > int(good) > int(second) == 0


def test_without_images_outlines_are_drawn_all_the_same(folders):
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt")
    assert [picture.title for picture in worst_slice(compare(pairing, DEFINITIONS["captk"], 1), "case_00")] == [
        "whole <tumor>",
        "core",
    ]


def test_where_no_image_fits_the_picture_says_so(folders, tmp_path):
    write(tumour(0), tmp_path / "case_00_0000.nii.gz")
    write(tumour(1)[1:], tmp_path / "case_01_0000.nii.gz")
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt", images=tmp_path)
    result = compare(pairing, DEFINITIONS["captk"], 1)
    assert [worst_slice(result, f"case_0{case}")[0].title for case in range(3)] == [
        "image",
        "no image that fits",
        "no image that fits",
    ]
