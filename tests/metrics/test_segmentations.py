"""Files of segmentations: what is read, and one sentence for what is none."""

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.metrics.region_labels import RegionLabels
from nnunetv2_gsp.metrics.segmentations import labels_in, read_pair, read_segmentation
from tests.metrics.drawings import write
from tests.metrics.folders import SPACING_MM, tumour

LABELS = RegionLabels(
    known_labels=frozenset({0, 1, 2, 3}), source="labels of dataset.json", chosen_by=("dataset_json",)
)


@pytest.fixture
def files(tmp_path):
    """A reference, and where its prediction is to be written."""
    write(tumour(2), tmp_path / "reference.nii.gz", SPACING_MM)
    return tmp_path / "reference.nii.gz", tmp_path / "prediction.nii.gz"


def refused(files, match):
    with pytest.raises(InputError, match=match) as raised:
        read_pair(*files, LABELS)
    assert "\n" not in str(raised.value)


def test_a_pair_is_read_with_its_spacing_in_the_order_of_the_axes(files):
    write(tumour(5), files[1], SPACING_MM)
    reference, prediction = read_pair(*files, LABELS)
    assert np.array_equal(reference.labels, tumour(2))
    assert np.array_equal(prediction.labels, tumour(5))
    assert reference.spacing_mm == SPACING_MM


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"spacing_mm": (1.0, 1.0, 1.0)}, "spacing"),
        ({"origin_mm": (0.0, 5.0, 0.0)}, "origin"),
        ({"direction": (-1, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction"),
    ],
)
def test_another_geometry_is_refused(change, what, files):
    write(tumour(5), files[1], **{"spacing_mm": SPACING_MM, **change})
    refused(files, rf"prediction\.nii\.gz.*{what}")


def test_another_size_is_refused(files):
    write(tumour(5)[1:], files[1], SPACING_MM)
    refused(files, r"size \(15, 19, 17\) of .*reference.*\(15, 19, 16\)")
    write(tumour(5)[0], files[1], (1.0, 1.0))
    refused(files, r"size \(15, 19, 17\) of .*reference.*\(15, 19\)")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".NII", ".mha"])
def test_a_truncated_file_is_refused(ending, files, tmp_path):
    """Of NIfTI, ITK would read what is missing as zeros."""
    whole, file = tmp_path / f"whole{ending.lower()}", tmp_path / f"prediction{ending}"
    write(tumour(5), whole, SPACING_MM)
    file.write_bytes(whole.read_bytes()[:-100])
    refused((files[0], file), rf"prediction{ending}")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_what_is_no_label_is_refused(value, files):
    nibabel = pytest.importorskip("nibabel")
    labels = tumour(5).astype(np.float32)
    labels[0, 0, 0] = value
    nibabel.Nifti1Image(labels.T, np.diag([-2.0, -1, 1, 1])).to_filename(files[1])
    with pytest.raises(InputError, match=r"prediction\.nii\.gz: expected whole numbers for labels, got others; give"):
        read_segmentation(files[1])


def test_labels_stored_as_floats_are_labels(files):
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(files[0])), sitk.sitkFloat32), str(files[1]))
    assert np.array_equal(read_segmentation(files[1]).labels, tumour(2))


def test_other_than_2d_and_3d_is_refused(files):
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(tumour(5))] * 2), str(files[1]))
    refused(files, r"prediction.*: expected a 2D or 3D segmentation of one channel, got 4D with 1 channels; convert it")


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16, np.int64])
def test_labels_are_found_in_any_kind_of_integer(kind):
    assert labels_in(np.array([[0, 3], [3, 7]], kind)) == {0, 3, 7}


def test_labels_are_found_where_there_are_negative_or_large_ones():
    assert labels_in(np.array([-1, 70_000, 0])) == {-1, 0, 70_000}


def test_an_unknown_label_is_refused(files):
    labels = tumour(5)
    labels[0, 0, 0] = 4
    write(labels, files[1], SPACING_MM)
    refused(
        files,
        r"prediction.*: expected labels among \[0, 1, 2, 3\] \(labels of dataset.json\), got \[4\]; check "
        r"that the file belongs to this dataset, or change dataset_json\.",
    )


def test_the_spacing_of_a_tiff_is_nnunets(tmp_path):
    file = tmp_path / "case.tif"
    Tiff3DIO().write_seg(tumour(2).astype(np.uint8), str(file), {"spacing": SPACING_MM})
    segmentation = read_segmentation(file)
    assert np.array_equal(segmentation.labels, tumour(2))
    assert segmentation.spacing_mm == SPACING_MM
    for other in ("[1, 2]", "[1, 0, 2]", "null"):
        file.with_suffix(".json").write_text(f'{{"spacing": {other}}}')
        with pytest.raises(InputError, match=r"case\.json: expected a spacing of three axes"):
            read_segmentation(file)
    file.with_suffix(".json").unlink()
    Tiff3DIO().write_seg(tumour(5).astype(np.uint8), str(tmp_path / "other.tif"), {"spacing": SPACING_MM})
    pair = read_pair(file, tmp_path / "other.tif", LABELS)  # as nnU-Net copies references without it
    assert [each.spacing_mm for each in pair] == [SPACING_MM] * 2
    assert read_segmentation(file).spacing_mm == (1, 1, 1) == tuple(Tiff3DIO().read_seg(str(file))[1]["spacing"])
