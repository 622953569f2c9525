"""One case: which bytes are kept, which labels are written, and that nothing is written of a case that is refused."""

import gzip
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.datasets.case_conversion import convert_case
from nnunetv2_gsp.datasets.source import TRAINING, Case, DatasetFormat
from nnunetv2_gsp.errors import InputError
from tests.datasets.sources import SHAPE, segmentation, truncate, voxels, write_image

FORMAT = DatasetFormat(CHALLENGES["brats2021"], ("a", "b"))


@pytest.fixture
def case_of(tmp_path):
    """Write a case of two channels and a label in files that end so."""

    def write(ending):
        files = [tmp_path / "source" / f"{name}{ending}" for name in ("a", "b", "seg")]
        for number, file in enumerate(files[:2]):
            write_image(np.full(SHAPE, number, np.int16), file)
        write_image(segmentation((0, 1, 2, 4)), files[2])
        return Case("case", tuple(files[:2]), files[2], TRAINING)

    return write


@pytest.fixture
def folders(tmp_path):
    """The dataset, and the folder for passing files."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "dataset", tmp_path / "scratch"


def written(dataset):
    return {str(file.relative_to(dataset)): file.read_bytes() for file in dataset.rglob("*") if file.is_file()}


def test_images_of_the_datasets_format_keep_every_byte(case_of, folders):
    case = case_of(".nii.gz")
    convert_case(FORMAT, *folders, case)
    files = written(folders[0])
    assert set(files) == {"imagesTr/case_0000.nii.gz", "imagesTr/case_0001.nii.gz", "labelsTr/case.nii.gz"}
    for number in range(2):
        assert files[f"imagesTr/case_000{number}.nii.gz"] == case.images[number].read_bytes()


def test_plain_nifti_is_compressed_and_loses_no_byte(case_of, folders):
    case = case_of(".nii")
    convert_case(FORMAT, *folders, case)
    for number in range(2):
        packed = written(folders[0])[f"imagesTr/case_000{number}.nii.gz"]
        assert gzip.decompress(packed) == case.images[number].read_bytes()


@pytest.mark.parametrize(("source", "target"), [(".mhd", ".mha"), (".mhd", ".nii.gz"), (".nii.gz", ".mha")])
def test_other_formats_keep_voxels_and_geometry(source, target, case_of, folders):
    case = case_of(source)
    convert_case(replace(FORMAT, challenge=replace(FORMAT.challenge, file_ending=target)), *folders, case)
    for number in range(2):
        found = sitk.ReadImage(folders[0] / "imagesTr" / f"case_000{number}{target}")
        expected = sitk.ReadImage(case.images[number])
        assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
        for what in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(found, what)(), getattr(expected, what)(), atol=1e-5)


def test_the_label_is_nnunets_and_lies_where_its_image_does(case_of, folders):
    case = case_of(".nii.gz")
    on_disk = voxels(case.label)
    write_image(on_disk, case.label, origin=(-7, 11, 13.0005))  # a sixth of a thousandth of a voxel
    [note] = convert_case(FORMAT, *folders, case)
    assert note.startswith(f"{case.label} is taken to lie where {case.images[0]} does")
    label = sitk.ReadImage(folders[0] / "labelsTr" / "case.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(label), np.where(on_disk == 4, 3, on_disk))
    assert label.GetOrigin() == sitk.ReadImage(case.images[0]).GetOrigin()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda case: truncate(case.images[1]),
        lambda case: write_image(np.zeros(SHAPE, np.int16), case.images[1], spacing=(1, 1, 1)),
        lambda case: write_image(np.full(SHAPE, 3, np.uint8), case.label),
    ],
    ids=["cut off", "geometry", "label"],
)
def test_nothing_is_written_of_a_case_that_is_refused(spoil, case_of, folders):
    case = case_of(".nii.gz")
    spoil(case)
    with pytest.raises(InputError):
        convert_case(FORMAT, *folders, case)
    assert not written(folders[0])


def test_labels_that_a_header_scales_are_taken_with_a_note(case_of, folders):
    case = case_of(".nii.gz")
    on_disk = voxels(case.label)
    write_image(on_disk * np.float32(1.00002), case.label)
    [note] = convert_case(FORMAT, *folders, case)
    assert re.search(r"seg\.nii\.gz: 1\.00002, .* are taken as 1, 2, 4: its header scales the labels", note)
    assert np.array_equal(voxels(folders[0] / "labelsTr" / "case.nii.gz"), np.where(on_disk == 4, 3, on_disk))


def test_an_error_names_the_4d_image_and_no_temporary_file(case_of, folders, tmp_path):
    case = case_of(".nii.gz")
    whole = replace(case, images=(tmp_path / "case_4d.nii.gz",))

    def split(case_4d, folder):
        files = [folder / f"case_000{number}.nii.gz" for number in range(2)]
        write_image(np.zeros(SHAPE, np.int16), files[0])
        write_image(np.full(SHAPE, np.nan, np.float32), files[1])
        return replace(case_4d, images=tuple(files))

    with pytest.raises(InputError) as refused:
        convert_case(replace(FORMAT, split=split), *folders, whole)
    assert str(refused.value).startswith(f"{tmp_path}/case_4d.nii.gz, channel 1: expected finite numbers")
    write_image(np.zeros((4, 5, 5), np.uint8), case.label)
    with pytest.raises(InputError, match=rf"size .* of {tmp_path}/case_4d\.nii\.gz, channel 0, got") as refused:
        convert_case(
            replace(FORMAT, split=lambda case_4d, folder: replace(case_4d, images=split_of(case, folder))),
            *folders,
            whole,
        )
    assert str(folders[1]) not in str(refused.value)


def split_of(case, folder):
    """The images of a case as channels in a folder."""
    return tuple(file.rename(folder / f"case_000{number}.nii.gz") for number, file in enumerate(case.images))


def test_a_4d_image_is_split_in_a_folder_that_goes(case_of, folders):
    parts = case_of(".nii.gz")
    given = []

    def split(case, folder):
        given.append((case, folder))
        assert folder.parent == folders[1]
        return parts

    whole = replace(parts, images=parts.images[:1])
    convert_case(replace(FORMAT, split=split), *folders, whole)
    assert [case for case, _ in given] == [whole]
    assert len(written(folders[0])) == 3
    assert not list(folders[1].iterdir())
