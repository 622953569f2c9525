import json
import shutil
from functools import partial

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunetv2_gsp.challenges.brats import CHANNELS, REGIONS
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.errors import InputError
from tests.datasets.sources import truncate, voxels, write_msd

convert_msd = partial(convert_source, "msd")
TASK01 = (("FLAIR", "T1w", "t1gd", "T2w"), (0, 1, 2, 3))
TASK05 = (("T2", "ADC"), (0, 1, 2))


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "raw" / "Dataset001_MSD"


def test_the_brain_gets_the_channels_labels_and_regions_of_brats(tmp_path, dataset):
    source = write_msd(tmp_path / "Task01_BrainTumour", *TASK01)
    report = convert_msd(source, dataset, strict=True)
    assert (report.training, report.test) == (["BRATS_001", "BRATS_002"], ["BRATS_003"])
    for part, case in (("Tr", "BRATS_002"), ("Ts", "BRATS_003")):
        assert [
            np.unique(voxels(dataset / f"images{part}" / f"{case}_000{channel}.nii.gz")).tolist()
            for channel in range(4)
        ] == [[1], [2], [3], [0]]
    on_disk = voxels(source / "labelsTr" / "BRATS_001.nii.gz")
    inside = voxels(dataset / "labelsTr" / "BRATS_001.nii.gz")
    assert all((inside[on_disk == old] == new).all() for old, new in ((0, 0), (1, 2), (2, 1), (3, 3)))
    description = json.loads((dataset / "dataset.json").read_text())
    assert tuple(description["channel_names"].values()) == CHANNELS
    assert {name: tuple(region) for name, region in description["labels"].items() if region} == REGIONS
    assert not (dataset / "in_progress").exists()


@pytest.mark.parametrize("modalities", [("T2", "ADC"), ("ADC", "T2")])
def test_the_prostate_keeps_its_channels_and_zones(modalities, tmp_path, dataset):
    convert_msd(write_msd(tmp_path / "Task05_Prostate", modalities, TASK05[1]), dataset, strict=True)
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "PZ": 1, "TZ": 2}
    assert tuple(description["channel_names"].values()) == modalities
    assert np.unique(voxels(dataset / "imagesTr" / "BRATS_001_0001.nii.gz")) == [1]


@pytest.mark.parametrize("task", [TASK01, TASK05])
def test_nnunet_accepts_the_dataset(task, tmp_path, dataset, capsys):
    convert_msd(write_msd(tmp_path / "task", *task), dataset)
    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Warning" not in printed


def test_bad_cases_are_named_and_the_rest_is_finished(tmp_path, dataset):
    source = write_msd(tmp_path / "task", *TASK05)
    truncate(source / "imagesTr" / "BRATS_001.nii.gz")
    (source / "imagesTs" / "BRATS_003.nii.gz").write_bytes((source / "labelsTr" / "BRATS_001.nii.gz").read_bytes())
    report = convert_msd(source, dataset)
    first, third = report.skipped
    assert "BRATS_001.nii.gz: expected a whole image, got one that is cut off" in first.reason
    assert "4D image with 2 channels" in third.reason
    assert report.training == ["BRATS_002"]


def test_a_case_without_its_label_is_named_and_left_out(tmp_path, dataset):
    source = write_msd(tmp_path / "task", *TASK05)
    label = source / "labelsTr" / "BRATS_002.nii.gz"
    label.unlink()
    report = convert_msd(source, dataset)
    [skipped] = report.skipped
    assert (skipped.case, report.training, report.test) == ("BRATS_002", ["BRATS_001"], ["BRATS_003"])
    assert f"expected the label {label}, got none" in skipped.reason


def test_a_task_without_images_is_refused(tmp_path, dataset):
    source = write_msd(tmp_path / "task", *TASK05)
    for folder in ("imagesTr", "imagesTs"):
        shutil.rmtree(source / folder)
    with pytest.raises(InputError, match="imagesTr: expected images, got none; unpack the task's archive again"):
        convert_msd(source, dataset)
    assert not dataset.exists()


def test_other_tasks_and_folders_are_refused(tmp_path, dataset):
    with pytest.raises(InputError, match=r"dataset\.json"):
        convert_msd(tmp_path, dataset)
    with pytest.raises(InputError, match="got CT"):
        convert_msd(write_msd(tmp_path / "Task03_Liver", ("CT",), (0, 1, 2)), dataset)
