import json
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.errors import InputError
from tests.datasets.sources import truncate, voxels, write_image, write_promise12

convert_promise12 = partial(convert_source, "promise12")
challenge_name = CHALLENGES["promise12"].layout.challenges_name


@pytest.fixture
def source(tmp_path):
    return write_promise12(tmp_path / "promise")


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "raw" / "Dataset024_PROMISE12"


def test_names_are_unique_across_the_folders_and_lead_back(source, dataset):
    report = convert_promise12(source, dataset, strict=True)
    assert report.training == ["Case00", "Case01"]
    assert report.test == ["Live_Case00", "Live_Case01", "Test_Case00", "Test_Case01"]
    assert {challenge_name(case) for case in report.training + report.test} == {"Case00", "Case01"}
    assert np.unique(voxels(dataset / "imagesTs" / "Test_Case01_0000.mha")) == [11]
    assert np.unique(voxels(dataset / "imagesTs" / "Live_Case01_0000.mha")) == [21]
    description = json.loads((dataset / "dataset.json").read_text())
    assert (description["labels"], description["file_ending"]) == ({"background": 0, "prostate": 1}, ".mha")


def test_voxels_and_geometry_are_exact(source, dataset):
    convert_promise12(source, dataset)
    pairs = [
        ("training_data/Case00.mhd", "imagesTr/Case00_0000.mha"),
        ("training_data/Case00_segmentation.mhd", "labelsTr/Case00.mha"),
    ]
    for original, converted in ((sitk.ReadImage(source / a), sitk.ReadImage(dataset / b)) for a, b in pairs):
        assert np.array_equal(sitk.GetArrayFromImage(converted), sitk.GetArrayFromImage(original))
        for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
            assert getattr(converted, what)() == getattr(original, what)()


def test_nnunet_accepts_the_dataset(source, dataset, capsys):
    convert_promise12(source, dataset)
    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Warning" not in printed


def test_labels_of_the_test_set_are_taken_where_present(source, dataset):
    label = source / "test_data" / "Case01_segmentation.mhd"
    write_image(np.ones((4, 5, 6), np.uint8), label, (0.6250001234, 0.625, 3.6))
    convert_promise12(source, dataset)
    assert [file.name for file in (dataset / "labelsTs").iterdir()] == ["Test_Case01.mha"]


def test_a_flat_folder_is_told_by_its_labels(tmp_path, dataset):
    source = write_promise12(tmp_path / "promise", folders=(".",))
    (source / "Case01_segmentation.mhd").unlink()
    report = convert_promise12(source, dataset)
    assert (report.training, report.test) == (["Case00"], ["Case01"])


def test_bad_cases_are_named_and_the_rest_is_finished(source, dataset):
    truncate(source / "training_data" / "Case00.raw")
    (source / "test_data" / "Case00.raw").unlink()
    write_image(np.zeros((4, 5, 5), np.int16), source / "training_data" / "part_2" / "Case01.mhd")
    (source / "training_data" / "Case02.mhd").write_bytes((source / "training_data" / "Case01.mhd").read_bytes())
    write_image(np.zeros((4, 5, 5), np.int16), source / "training_data" / "part_2" / "Case01_segmentation.mhd")
    report = convert_promise12(source, dataset)
    reasons = {skipped.case: skipped.reason for skipped in report.skipped}
    assert set(reasons) == {"Case00", "Case01", "Case02", "Test_Case00"}
    assert "Case00.mhd: expected a whole image, got one that cannot be read" in reasons["Case00"]
    assert "got 2" in reasons["Case01"]
    assert "expected Case02_segmentation.mhd beside an image to train with, got none" in reasons["Case02"]
    assert report.test == ["Live_Case00", "Live_Case01", "Test_Case01"]


def test_a_folder_without_cases_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match=r"Case00\.mhd"):
        convert_promise12(tmp_path, dataset)


@pytest.mark.parametrize("name", ["prostate_test", "livedata", "x/prostate_test", "test/live"])
def test_only_the_folder_of_a_case_prefixes_its_name(name, tmp_path, dataset):
    folders = [f"{name}/{folder}" for folder in ("TrainingData", "TestData")]
    report = convert_promise12(write_promise12(tmp_path, folders), dataset, strict=True)
    assert (report.training, report.test) == (["Case00", "Case01"], ["Test_Case00", "Test_Case01"])
    dataset = dataset.with_name("Dataset025_PROMISE12")
    report = convert_promise12(tmp_path / name, dataset, strict=True)
    assert (report.training, report.test) == (["Case00", "Case01"], ["Test_Case00", "Test_Case01"])
