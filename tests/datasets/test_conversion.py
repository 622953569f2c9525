"""What all challenges share: going on after an interruption, and where a dataset may lie."""

import os
import shutil
from functools import partial
from unittest import mock

import pytest

from nnunetv2_gsp.datasets import case_conversion, conversion
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.conversion import raw_dataset
from nnunetv2_gsp.errors import InputError
from tests.datasets.sources import write_brats, write_brats_case, write_promise12

convert_brats, convert_promise12 = (partial(convert_source, family) for family in ("brats", "promise12"))


@pytest.fixture
def source(tmp_path):
    return write_brats(tmp_path / "source", "brats2021")


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "raw" / "Dataset021_BraTS"


@pytest.fixture
def interrupted(source, dataset, monkeypatch):
    """Two of three cases are finished, and half of the last one's files."""

    def interrupt(image, file, target):
        if file.name == "BraTS2021_00002_t2.nii.gz":
            raise KeyboardInterrupt
        write(image, file, target)

    write = case_conversion._write_image
    with monkeypatch.context() as patch:
        patch.setattr(case_conversion, "_write_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_brats(source, dataset)
    return dataset.with_name(f"unfinished_{dataset.name}")


def converted(source, dataset, monkeypatch, convert=convert_brats):
    """Convert, and return which cases were done."""
    cases = []

    def record(dataset_format, folder, scratch, case):
        cases.append(case.name)
        return case_conversion.convert_case(dataset_format, folder, scratch, case)

    monkeypatch.setattr(conversion, "convert_case", record)
    convert(source, dataset)
    return cases


def test_an_interrupted_conversion_shows_no_dataset_and_goes_on(interrupted, source, dataset, monkeypatch):
    assert not dataset.exists()
    assert converted(source, dataset, monkeypatch) == ["BraTS2021_00002"]
    assert not interrupted.exists()
    other = dataset.with_name("Dataset022_Other")
    convert_brats(source, other)
    assert {path.relative_to(dataset): path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == {
        path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()
    }


def test_what_changed_or_went_since_the_interruption_is_not_kept(interrupted, source, dataset, monkeypatch):
    write_brats_case(source / "BraTS2021_00001", "brats2021", number=7, labelled=False)
    shutil.rmtree(source / "BraTS2021_00000")
    assert converted(source, dataset, monkeypatch) == ["BraTS2021_00001", "BraTS2021_00002"]
    assert [file.name for file in (dataset / "labelsTr").iterdir()] == ["BraTS2021_00002.nii.gz"]
    assert sum(file.name.startswith("BraTS2021_00002") for file in (dataset / "imagesTr").iterdir()) == 4
    assert len(list((dataset / "imagesTr").iterdir())) == 4


def test_voxels_beside_a_header_that_changed_since_the_interruption_are_not_kept(dataset, tmp_path, monkeypatch):
    source = write_promise12(tmp_path / "promise12")
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_report", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert_promise12(source, dataset)
    [voxels] = (source / "training_data").glob("Case01.*raw")
    os.utime(voxels, (1, 1))
    assert converted(source, dataset, monkeypatch, convert_promise12) == ["Case01"]


@pytest.mark.parametrize("name", ["{}", "unfinished_{}", "replaced_{}"])
@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_only_a_real_folder_is_written_to_or_replaced(kind, name, source, dataset, tmp_path):
    found = dataset.with_name(name.format(dataset.name))
    found.parent.mkdir()
    if kind == "file":
        found.touch()
    else:
        found.symlink_to(source.parent if kind == "link" else tmp_path / "gone")
    with pytest.raises(InputError, match=f"{found}: expected a folder of its own or nothing, got a file or link"):
        convert_brats(source, dataset, overwrite=True)
    assert list(found.parent.iterdir()) == [found]


def test_another_edition_does_not_inherit_what_is_unfinished(interrupted, source, dataset):
    report = convert_brats(source, dataset, edition="2023")
    assert [skipped.case for skipped in report.skipped] == ["BraTS2021_00000", "BraTS2021_00002"]


def test_a_dataset_needs_a_free_id(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    (tmp_path / "Dataset021_Other").mkdir()
    assert raw_dataset(22, "BraTS") == tmp_path / "Dataset022_BraTS"
    assert raw_dataset(21, "Other") == tmp_path / "Dataset021_Other"
    with pytest.raises(InputError, match="got 21, which Dataset021_Other has"):
        raw_dataset(21, "BraTS")
    for number, name, parameter in (
        (0, "BraTS", "dataset_id"),
        (1000, "BraTS", "dataset_id"),
        (1, "../BraTS", "name"),
        (1, "", "name"),
    ):
        with pytest.raises(InputError) as refused:
            raw_dataset(number, name)
        assert refused.value.parameters == (parameter,)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(InputError, match="export"):
        raw_dataset(1, "BraTS")


def test_a_full_disk_stops_the_conversion_and_skips_nothing(tmp_path, dataset, monkeypatch):
    source = write_promise12(tmp_path / "source")
    with monkeypatch.context() as patch:
        patch.setattr("SimpleITK.WriteImage", full_disk)
        with pytest.raises(OSError, match=r"Case00_0000\.mha: expected to write .*; free some space"):
            convert_promise12(source, dataset)
    assert not dataset.exists()
    assert convert_promise12(source, dataset).skipped == []


def full_disk(*_, **__):
    raise RuntimeError("ITK ERROR: MetaImageIO: File cannot be written")
