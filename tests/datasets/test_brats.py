import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_gsp.datasets.brats import BRATS21_LABELS, CHANNELS, convert_brats21, relabel
from nnunetv2_gsp.errors import InputError

ON_DISK = np.array([[[0, 1, 2, 4], [4, 2, 1, 0], [0, 0, 4, 4]]] * 2, np.uint8)
INSIDE = np.array([[[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 3, 3]]] * 2, np.uint8)


def _write(voxels: np.ndarray, file) -> None:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 1.25, 3))
    image.SetOrigin((-7, 11, 13))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, file)


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "challenge"
    for number in range(3):
        name = f"BraTS2021_0000{number}"
        (source / name).mkdir(parents=True)
        _write(ON_DISK, source / name / f"{name}_seg.nii.gz")
        for channel, modality in enumerate(("t1", "t1ce", "t2", "flair")):
            voxels = np.full(ON_DISK.shape, 100 * number + channel, np.int16)
            _write(voxels, source / name / f"{name}_{modality}.nii.gz")
    return source


@pytest.fixture
def dataset(source, tmp_path):
    dataset = tmp_path / "nnUNet_raw" / "Dataset021_BraTS"
    convert_brats21(source, dataset, held_out=["BraTS2021_00001"])
    return dataset


def test_relabel_moves_enhancing_tumour_from_4_to_3_and_nothing_else():
    assert np.array_equal(relabel(ON_DISK, BRATS21_LABELS), INSIDE)


def test_relabel_there_and_back_is_the_identity():
    back = {inside: on_disk for on_disk, inside in BRATS21_LABELS.items()}
    assert np.array_equal(relabel(relabel(ON_DISK, BRATS21_LABELS), back), ON_DISK)


def test_relabel_refuses_a_label_of_another_edition():
    with pytest.raises(InputError, match=r"\[0, 1, 2, 4\], found \[3\]"):
        relabel(INSIDE, BRATS21_LABELS)


def test_files_and_channels_lie_where_nnunet_looks(dataset):
    files = sorted(str(path.relative_to(dataset)) for path in dataset.rglob("*") if path.is_file())
    assert files == [
        "dataset.json",
        *[f"imagesTr/BraTS2021_0000{case}_000{channel}.nii.gz" for case in (0, 2) for channel in range(4)],
        *[f"imagesTs/BraTS2021_00001_000{channel}.nii.gz" for channel in range(4)],
        *[f"labelsTr/BraTS2021_0000{case}.nii.gz" for case in (0, 2)],
        "labelsTs/BraTS2021_00001.nii.gz",
    ]
    for channel in range(4):
        image = sitk.ReadImage(dataset / "imagesTr" / f"BraTS2021_00002_000{channel}.nii.gz")
        assert np.unique(sitk.GetArrayFromImage(image)) == [200 + channel]


def test_labels_keep_their_geometry(dataset, source):
    converted = sitk.ReadImage(dataset / "labelsTr" / "BraTS2021_00000.nii.gz")
    original = sitk.ReadImage(source / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(converted), INSIDE)
    assert converted.GetSpacing() == original.GetSpacing()
    assert converted.GetOrigin() == original.GetOrigin()
    assert converted.GetDirection() == original.GetDirection()


def test_nnunet_accepts_the_dataset(dataset, capsys):
    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Warning" not in printed
    assert "Error" not in printed


def test_nnunet_reads_region_predictions_back_as_the_labels(dataset):
    description = json.loads((dataset / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == list(CHANNELS)
    assert description["numTraining"] == 2
    labels = LabelManager(description["labels"], description["regions_class_order"])
    whole, core, enhancing = INSIDE > 0, np.isin(INSIDE, (1, 3)), INSIDE == 3
    certain = torch.from_numpy(np.stack([whole, core, enhancing])).float() * 20 - 10
    assert np.array_equal(labels.convert_logits_to_segmentation(certain), INSIDE)


def test_a_missing_file_is_named_and_leaves_no_dataset(source, tmp_path):
    (source / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"BraTS2021_00002_t2\.nii\.gz"):
        convert_brats21(source, tmp_path / "Dataset021_BraTS")
    assert not (tmp_path / "Dataset021_BraTS").exists()


def test_an_interrupted_conversion_starts_over(source, tmp_path):
    leftover = tmp_path / "unfinished_Dataset021_BraTS" / "imagesTr"
    leftover.mkdir(parents=True)
    (leftover / "half.nii.gz").write_bytes(b"half")
    convert_brats21(source, tmp_path / "Dataset021_BraTS")
    assert not leftover.exists()
    assert not (tmp_path / "Dataset021_BraTS" / "imagesTr" / "half.nii.gz").exists()


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(InputError, match="BraTS2021_00000"):
        convert_brats21(tmp_path, tmp_path / "Dataset021_BraTS")
