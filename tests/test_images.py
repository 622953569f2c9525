"""Reading and writing images; nibabel and SimpleITK are the oracles."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError, InputError, MissingInputError
from nnunetv2_gsp.images import (
    check_same_geometry,
    nifti_is_finite,
    nifti_shape,
    read_image,
    read_whole,
    visible_files,
    write_image,
)

SIZE = (6, 5, 4)  # (X, Y, Z)


def image_of(voxels, spacing=(0.5, 1.25, 3)):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    return image


@pytest.fixture
def image():
    return image_of(np.arange(120, dtype=np.int16).reshape(SIZE[::-1]))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_is_written_is_read_again(ending, compressed, image, tmp_path):
    file = tmp_path / f"image{ending}"
    write_image(image, file, compressed=compressed)
    found = read_image(file)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(image))
    assert found.GetSpacing() == image.GetSpacing()


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
def test_an_image_that_is_cut_off_is_refused(ending, image, tmp_path):
    file = tmp_path / f"image{ending}"
    write_image(image, file, compressed=False)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DamagedFileError) as refused:
        read_whole(file)
    assert (refused.value.where, refused.value.expected) == (file, "a whole image")


def test_a_nifti_image_of_fewer_voxels_than_its_header_says_is_refused(image, tmp_path):
    """SimpleITK reads the missing ones as zeros."""
    file = tmp_path / "image.nii.gz"
    write_image(image, file, compressed=True)
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:-20]))
    assert sitk.ReadImage(file).GetSize() == SIZE
    for read in (read_whole, nifti_shape):
        with pytest.raises(DamagedFileError, match=f"{len(content) - 20} of {len(content)} bytes"):
            read(file)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_is_believed_unless_the_file_is_too_small_for_it(ending, tmp_path):
    file = tmp_path / f"image{ending}"
    nibabel.save(nibabel.Nifti1Image(np.zeros((100, 100, 100), np.int16), np.eye(4)), file)
    content = gzip.decompress(file.read_bytes()) if ending == ".nii.gz" else file.read_bytes()
    pack = gzip.compress if ending == ".nii.gz" else bytes
    assert nifti_shape(file, reads_to_its_end=False) == (100, 100, 100)
    file.write_bytes(pack(content[:400]))
    with pytest.raises(DamagedFileError, match="of 2000352 bytes"):
        nifti_shape(file, reads_to_its_end=False)


def test_nifti_2_is_read_as_well(tmp_path):
    file = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti2Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), file)
    assert nifti_shape(file) == (4, 5, 6)
    assert nifti_is_finite(file)
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:-20]))
    with pytest.raises(DamagedFileError, match=f"{len(content) - 20} of {len(content)} bytes"):
        nifti_shape(file)


def test_a_file_that_is_no_image_or_not_there_is_refused(tmp_path):
    file = tmp_path / "image.nii.gz"
    for read in (read_image, read_whole, nifti_shape, nifti_is_finite):
        with pytest.raises(MissingInputError):
            read(file)
    file.write_bytes(b"no image")
    for read in (read_image, read_whole, nifti_shape, nifti_is_finite):
        with pytest.raises(DamagedFileError):
            read(file)


@pytest.mark.parametrize("voxels", [np.zeros((5, 6), np.uint8), np.zeros((4, 5, 6, 3), np.uint8)])
def test_an_image_of_other_axes_or_channels_is_refused(voxels, tmp_path):
    file = tmp_path / "image.mha"
    sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4), file)
    read_whole(file)
    with pytest.raises(InputError, match="a 3D image of one channel"):
        read_image(file)


@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 2)])
def test_the_shape_is_nibabels(shape, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "image.nii.gz")
    assert nifti_shape(tmp_path / "image.nii.gz") == shape


@pytest.mark.parametrize(
    ("value", "dtype", "finite"),
    [(1, np.int16, True), (1, np.float32, True), (np.nan, np.float32, False), (-np.inf, np.float64, False)],
)
def test_nan_and_infinity_are_noticed(value, dtype, finite, tmp_path):
    voxels = np.zeros(SIZE, dtype)
    voxels[3, 2, 1] = value
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "image.nii")
    assert nifti_is_finite(tmp_path / "image.nii") is finite


CHANGES = {
    "Size": lambda image: image[:, :, 1:],
    "Spacing": lambda image: image.SetSpacing((0.5, 1.25, 3.002)),
    "Origin": lambda image: image.SetOrigin((0, 0.0013, 0)),
    "Direction": lambda image: image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_geometry_is_refused_and_both_values_are_named(what, image, tmp_path):
    other = sitk.Image(image)
    other = CHANGES[what](other) or other
    with pytest.raises(ConflictingInputError, match=f"the {what.lower()} .* of a.mha") as refused:
        check_same_geometry(other, tmp_path / "b.mha", image, "a.mha")
    assert refused.value.where == tmp_path / "b.mha"


def test_the_rounding_of_headers_is_no_other_geometry(image):
    other = sitk.Image(image)
    other.SetSpacing([length + 5e-4 for length in image.GetSpacing()])
    assert check_same_geometry(other, "b.nii.gz", image, "a.nii.gz") == ""
    other.SetOrigin((1e-7, 0, 0))
    assert check_same_geometry(other, "b.nii.gz", image, "a.nii.gz") == ""


def test_origins_may_differ_by_a_thousandth_of_a_voxel_with_a_note(image):
    """Voxels of 0.5 × 1.25 × 3 mm."""
    other = sitk.Image(image)
    other.SetOrigin((0, 0, 0.0025))
    assert check_same_geometry(other, "b.nii.gz", image, "a.nii.gz") == (
        "b.nii.gz is taken to lie where a.nii.gz does: its origin (0, 0, 0.0025) is off (0, 0, 0) by less than a "
        "thousandth of a voxel."
    )
    other.SetOrigin((0.0006, 0, 0))
    with pytest.raises(ConflictingInputError, match=r"the origin \(0, 0, 0\) of a\.nii\.gz, got \(0\.0006, 0, 0\)"):
        check_same_geometry(other, "b.nii.gz", image, "a.nii.gz")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_voxels_that_are_no_numbers_is_refused(value, ending, tmp_path):
    voxels = np.zeros(SIZE[::-1], np.float32)
    voxels[1, 2, 3] = value
    write_image(image_of(voxels), tmp_path / f"image{ending}", compressed=False)
    with pytest.raises(InputError, match=r"image\S+: expected finite numbers in every voxel, got NaN or infinity"):
        read_image(tmp_path / f"image{ending}")


def test_the_readers_own_reason_is_told(image, tmp_path):
    affine = np.eye(4)
    affine[0, 1] = affine[1, 2] = 0.02
    skewed = nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), affine)
    skewed.set_qform(None, 0)
    nibabel.save(skewed, tmp_path / "skewed.nii.gz")
    with pytest.raises(DamagedFileError, match=r"orthonormal direction cosines.*qform or sform .* right angles"):
        read_image(tmp_path / "skewed.nii.gz")
    write_image(image, tmp_path / "Case03.mhd", compressed=False)
    (tmp_path / "Case03.raw").write_bytes(b"short")
    with pytest.raises(DamagedFileError, match=r"one that cannot be read \(File cannot be read: .*; get it again, or"):
        read_image(tmp_path / "Case03.mhd")
    (tmp_path / "Case03.raw").unlink()
    with pytest.raises(DamagedFileError, match=r"whose voxels, Case03\.raw, are not there; put Case03\.raw beside it"):
        read_image(tmp_path / "Case03.mhd")


def test_an_image_that_cannot_be_written_is_an_error_of_the_system(image, tmp_path):
    with pytest.raises(OSError, match=r"image\.mha: expected to write an image"):
        write_image(image, tmp_path / "nowhere" / "image.mha", compressed=False)


def test_files_that_a_system_left_behind_are_not_listed(tmp_path):
    for name in ("b.nii.gz", "a.nii.gz", "._a.nii.gz", "_c.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.nii.gz").mkdir()
    assert [file.name for file in visible_files(tmp_path, "*.nii.gz")] == ["a.nii.gz", "b.nii.gz"]
