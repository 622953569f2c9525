"""Pictures of cases: which slice, which outlines, and what is drawn without an image."""

import re

import numpy as np
import pytest

from nnunetv2_gsp.comparison.comparison import compare
from nnunetv2_gsp.comparison.outlines import worst_slices
from nnunetv2_gsp.comparison.pairing import pair_folders
from nnunetv2_gsp.metrics.definitions import DEFINITIONS
from tests.comparison.contenders import N_CASES, tumour
from tests.metrics.drawings import write


def test_each_region_is_shown_in_the_slice_where_most_of_it_is_wrong(comparison):
    pictures = worst_slices(comparison, "case_03")
    for region, labels in (("whole <tumor>", (1, 2)), ("core", (2,))):
        [picture] = [each for each in pictures if each.title.startswith(region)]
        reference = np.isin(tumour(3), labels)
        wrong = sum(
            (reference != np.isin(tumour(3, noise), labels)).sum(axis=(1, 2)) * times
            for noise, times in ((0.5, 2), (0.05, 1))
        )
        level = np.argmax(wrong)
        assert f"slice {level + 1} of 17" in picture.alt
        assert f"voxels inside: reference {reference[level].sum()}, poor" in picture.alt
    n_slices = len({picture.title.rpartition(" ")[2] for picture in pictures if picture.title != "image"})
    assert sum(picture.title == "image" for picture in pictures) == n_slices


def test_a_false_region_far_from_the_other_errors_is_shown(tmp_path):
    """Label 3 is nowhere in the reference; most voxels are wrong elsewhere, by a shifted border of label 1."""
    reference = np.zeros((20, 24, 24), np.uint8)
    reference[8:14, 4:16, 4:16] = 1
    shifted, false = np.roll(reference, 2, axis=1), np.roll(reference, 2, axis=1)
    false[17, 20:22, 20:22] = 3
    for name, labels in (("gt", reference), ("a", shifted), ("b", false)):
        write(labels, tmp_path / name / "c.nii.gz")
    pairing = pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt")
    pictures = {picture.title: picture for picture in worst_slices(compare(pairing, DEFINITIONS["directed"], 1), "c")}
    assert pictures["3, slice 18"].alt.endswith("outlines of 3; voxels inside: reference 0, a 0, b 4.")
    assert "1, slice 9" in pictures


@pytest.mark.parametrize("shape", [(3, 1, 6), (3, 6, 1), (1, 1, 1)])
def test_images_one_voxel_wide_are_drawn(shape, tmp_path):
    for name in ("gt", "a", "b"):
        write(np.ones(shape), tmp_path / name / "c.nii.gz")
    pairing = pair_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "gt")
    [picture] = worst_slices(compare(pairing, DEFINITIONS["directed"], 1), "c")
    assert picture.uri.startswith("data:image/png")


def test_a_contender_called_reference_is_not_the_truth(folders, tmp_path):
    for case in range(N_CASES):
        write(0 * tumour(case), tmp_path / "reference" / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))
    pairing = pair_folders([tmp_path / "reference", folders / "good"], folders / "gt")
    whole = worst_slices(compare(pairing, DEFINITIONS["directed"], 1), "case_00")[0]
    first, second, good = re.findall(r"(?:reference|good) (\d+)", whole.alt)
    assert int(first) > int(good) > int(second) == 0


def test_without_images_outlines_are_drawn_all_the_same(folders):
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt")
    titles = [picture.title for picture in worst_slices(compare(pairing, DEFINITIONS["captk"], 1), "case_00")]
    assert [title.rpartition(", slice")[0] for title in titles] == ["whole <tumor>", "core"]


def test_where_no_image_fits_the_picture_says_so(folders, tmp_path):
    write(tumour(0), tmp_path / "case_00_0000.nii.gz")
    write(tumour(1)[1:], tmp_path / "case_01_0000.nii.gz")
    pairing = pair_folders([folders / "poor", folders / "good"], folders / "gt", images=tmp_path)
    result = compare(pairing, DEFINITIONS["captk"], 1)
    assert [worst_slices(result, f"case_0{case}")[0].title for case in range(3)] == [
        "image",
        "no image that fits",
        "no image that fits",
    ]
