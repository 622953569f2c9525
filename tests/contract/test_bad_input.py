"""What a user sees on bad input, and that nothing made before is lost. docs/bad_input.md is this table in words.

Where nnU-Net answers, its own answer is tested, so that the table stays true when nnU-Net changes.
"""

import json
import multiprocessing
import os
import shutil
import tempfile
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training

from nnunetv2_gsp.cli import main
from tests.conftest import largest_file, listing
from tests.contract.conftest import CPU, DATASET, ID, TRAINER, plan, predictor_of
from tests.contract.generated import write_dataset


@pytest.fixture
def images(nnunet_folders, model_folder, tmp_path):
    """Return a folder with one good image of two channels."""
    folder = tmp_path / "images"
    shutil.copytree(nnunet_folders / "nnUNet_raw" / DATASET / "imagesTs", folder)
    return folder


@pytest.fixture
def own_plans(preprocessed):
    """Write plans that a test may spoil; returns their file."""
    file = preprocessed / "nnUNetPlans_spoilt.json"
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    file.write_text(json.dumps({**plans, "plans_name": file.stem}))
    yield file
    file.unlink()


# ---------------------------------------------------------------------------------------------- our own commands


def test_two_datasets_of_one_id(preprocessed, nnunet_folders):
    twin = nnunet_folders / "nnUNet_raw" / f"Dataset{ID}_Twin"
    twin.mkdir()
    try:
        assert f"got {DATASET} and {twin.name}" in sentence_of("plan", "-d", ID)
    finally:
        twin.rmdir()
    assert not (preprocessed / "nnUNetGSPPlans.json").exists()


def test_no_permission_to_write(preprocessed, nnunet_folders, monkeypatch):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders can't even be entered by others
        base = Path(folder, "nnUNet_preprocessed")
        shutil.copytree(preprocessed, base / DATASET)
        (base / DATASET).chmod(0o555)
        Path(folder).chmod(0o755)
        monkeypatch.setenv("nnUNet_preprocessed", str(base))
        before = listing(base)
        with not_as_root():
            assert "Permission denied" in sentence_of("plan", "-d", DATASET)
        assert listing(base) == before


def test_the_disk_is_full(preprocessed, model_folder, tmp_path):
    before = listing(preprocessed)
    with largest_file(1000):
        assert "File too large" in sentence_of("plan", "-d", ID, "--name", "nnUNetGSPPlans_full_disk")
        assert "File too large" in sentence_of("export", model_folder, "-o", tmp_path / "model.zip")
    assert listing(preprocessed) == before
    assert not listing(tmp_path)


# -------------------------------------------------------------------------------------------------- our trainer

NONSENSE = {
    "a negative width": lambda c: c["architecture"]["arch_kwargs"].update(features_per_stage=[-8, 16]),
    "strides of too few stages": lambda c: c["architecture"]["arch_kwargs"].update(strides=[[1, 1, 1]]),
    "strides of two axes": lambda c: c["architecture"]["arch_kwargs"].update(strides=[[1, 1], [2, 2]]),
    "a patch of nothing": lambda c: c.update(patch_size=[0, 16, 16]),
    "a patch of words": lambda c: c.update(patch_size=["16", "16", "16"]),
    "a patch that strides do not divide": lambda c: c.update(patch_size=[13, 17, 16]),
    "no arguments": lambda c: c["architecture"].pop("arch_kwargs"),
    "an unknown network": lambda c: c["architecture"].update(network_class_name="somewhere.Else"),
    "no stages": lambda c: c["architecture"]["arch_kwargs"].update(n_stages=0),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_plans_edited_into_nonsense(nonsense, own_plans):
    plans = json.loads(own_plans.read_text())
    NONSENSE[nonsense](plans["configurations"]["3d_fullres"])
    own_plans.write_text(json.dumps(plans))
    trainer = get_trainer_from_args(str(ID), "3d_fullres", 0, TRAINER, own_plans.stem, device=CPU)
    with pytest.raises((ValueError, NotImplementedError)) as refusal:
        trainer.initialize()
    assert len(str(refusal.value)) > 40
    assert "\n" not in str(refusal.value)
    assert not (Path(trainer.output_folder_base) / "plans.json").exists()


def test_a_truncated_checkpoint_is_named_and_left(model_folder, preprocessed, own_plans):
    trainer = get_trainer_from_args(
        str(ID), "3d_fullres", 0, TRAINER, own_plans.stem, continue_training=True, device=CPU
    )
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    whole = (model_folder / "fold_0" / "checkpoint_final.pth").read_bytes()
    latest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged") as refusal:
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert str(latest) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert latest.read_bytes() == whole[: len(whole) // 2]


# --------------------------------------------------------------------------------------------- nnU-Net's answers


def test_a_corrupt_image_stops_the_prediction_and_earlier_ones_stay(images, model_folder, tmp_path):
    for channel in range(2):
        shutil.copy(images / f"case4_{channel:04d}.nii.gz", images / f"sound_{channel:04d}.nii.gz")
    output = tmp_path / "out"
    predict(model_folder, images, output)
    before = {file.name: file.read_bytes() for file in output.glob("*.nii.gz")}
    assert len(before) == 2
    corrupt = images / "other_0000.nii.gz"
    corrupt.write_bytes(b"no image" * 100)
    shutil.copy(images / "sound_0001.nii.gz", images / "other_0001.nii.gz")
    with pytest.raises(RuntimeError):
        predict(model_folder, images, output, overwrite=False)
    assert {file.name: file.read_bytes() for file in output.glob("*.nii.gz")} == before


def test_a_truncated_image_is_predicted_without_a_word(images, model_folder):
    """SimpleITK reads what is there and takes the rest for zeros; nnU-Net can't know."""
    file = images / "case4_0000.nii.gz"
    file.write_bytes(file.read_bytes()[:5000])
    image, properties = read(images)
    assert predictor_of(model_folder).predict_single_npy_array(image, properties).shape == image.shape[1:]


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_nan_or_one_constant_channel_is_predicted(value, images, model_folder):
    """A constant channel is a z-score of zeros. NaN takes the whole image, as it does in a stock network."""
    image, properties = read(images)
    image[1, ...] = value
    segmentation = predictor_of(model_folder).predict_single_npy_array(image, properties)
    assert segmentation.shape == image.shape[1:]
    assert set(np.unique(segmentation)) <= ({0} if np.isnan(value) else {0, 1, 2, 3})


def test_nan_in_training_ends_in_nan_weights(preprocessed, tmp_path):
    trainer = get_trainer_from_args(str(ID), "3d_fullres", 1, "nnUNetTrainerGSPNoDeepSupervision", device=CPU)
    trainer.initialize()
    patch = trainer.configuration_manager.patch_size
    trainer.network.train()
    trainer.train_step({"data": torch.full((2, 2, *patch), torch.nan), "target": torch.zeros(2, 1, *patch)})
    assert torch.isnan(next(trainer.network.parameters())).all()


def test_a_missing_modality_or_another_number_of_channels(images, model_folder, tmp_path):
    (images / "case4_0001.nii.gz").unlink()
    with pytest.raises(RuntimeError):
        predict(model_folder, images, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    image = torch.zeros(3, 20, 20, 20)
    with pytest.raises(RuntimeError, match="to have 2 channels, but got 3 channels"):
        predictor_of(model_folder).predict_logits_from_preprocessed_data(image)


def test_a_missing_modality_and_another_geometry_in_the_raw_dataset(nnunet_folders, capfd, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SpawnContext())  # whose output capfd sees
    raw = write_dataset(nnunet_folders / "nnUNet_raw", "Dataset902_Faulty", "plain", 2, ".nii.gz", "isotropic")
    label = raw / "labelsTr" / "case0.nii.gz"
    image = sitk.ReadImage(label)
    image.SetSpacing((2.0, 1.0, 1.0))
    sitk.WriteImage(image, label)
    with pytest.raises(RuntimeError, match="errors"):  # what is wrong with which file is printed above it
        verify_dataset_integrity(str(raw), 1)
    assert "Spacing mismatch" in (said := capfd.readouterr().out)
    assert str(label) in said
    (raw / "imagesTr" / "case1_0001.nii.gz").unlink()
    with pytest.raises(RuntimeError, match="errors"):
        verify_dataset_integrity(str(raw), 1)
    assert "Unexpected number of modalities" in capfd.readouterr().out


def test_an_empty_label_is_trained_on(nnunet_folders):
    """Dice is then NaN for the classes that are not there, and left out of nnU-Net's mean."""
    name = "Dataset903_EmptyLabel"
    raw = write_dataset(nnunet_folders / "nnUNet_raw", name, "plain", 1, ".nii.gz", "isotropic")
    file = raw / "labelsTr" / "case0.nii.gz"
    label = sitk.ReadImage(file)
    empty = sitk.Image(label.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(label)
    sitk.WriteImage(empty, file)
    plan(903, ["3d_fullres"])
    splits = [{"train": ["case0", "case2", "case3"], "val": ["case1", "case0"]}]
    (nnunet_folders / "nnUNet_preprocessed" / name / "splits_final.json").write_text(json.dumps(splits))
    run_training("903", "3d_fullres", 0, TRAINER, device=CPU)
    fold = nnunet_folders / "nnUNet_results" / name / f"{TRAINER}__nnUNetPlans__3d_fullres" / "fold_0"
    cases = json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]
    assert {Path(case["reference_file"]).name: case["metrics"]["1"]["n_ref"] for case in cases}["case0.nii.gz"] == 0
    weights = torch.load(fold / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def sentence_of(verb, *arguments):
    """Run a verb that must fail; returns what it says, which must be one line and come with a non-zero exit."""
    with pytest.raises(SystemExit) as end:
        main([verb, *map(str, arguments)])
    assert isinstance(end.value.code, str)  # printed by the interpreter, which then exits with 1
    assert "\n" not in end.value.code
    return end.value.code


def predict(model_folder, images, output, overwrite=True):
    predictor_of(model_folder).predict_from_files(
        str(images),
        str(output),
        overwrite=overwrite,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


def read(images):
    return SimpleITKIO().read_images([str(images / f"case4_{channel:04d}.nii.gz") for channel in range(2)])


@contextmanager
def not_as_root():
    """Permissions bind everyone but root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
