"""Every kind of model predicts through the verb what it predicts with nnU-Net."""

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainer_onlyMirror01,
)
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

from nnunetv2_gsp.trainers import nnUNetTrainerGSP, nnUNetTrainerGSPNoMirroring
from tests.cli.commands import exit_code
from tests.conftest import set_nnunet_folders
from tests.datasets.sources import voxels
from tests.prediction.models import SHAPES, nnunets_predictions, write_images, write_model

KINDS = {
    "2d": {"patch_size": (8, 8)},
    "stock": {"trainer_class": nnUNetTrainer},
    "stock in 2d": {"trainer_class": nnUNetTrainer, "patch_size": (8, 8)},
    "without mirroring": {"trainer_class": nnUNetTrainerGSPNoMirroring},
    "mirrored along two axes": {"trainer_class": nnUNetTrainer_onlyMirror01},
    "a network of its trainer's": {"trainer_class": nnUNetTrainerBN},
}


@pytest.fixture
def nnunet_folders(tmp_path_factory):
    yield from set_nnunet_folders(tmp_path_factory)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("raw") / "images")


def predict(images, output, model, *more):
    return exit_code("predict", "-i", images, "-o", output, "-m", model, "-device", "cpu", *more)


def labels_in(folder):
    return [voxels(folder / f"{name}.nii.gz") for name in SHAPES]


def assert_same(ours, nnunets):
    for one, other in zip(labels_in(ours), labels_in(nnunets), strict=True):
        assert np.array_equal(one, other)
    assert len(np.unique(np.concatenate([labels.ravel() for labels in labels_in(ours)]))) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_predicts_as_with_nnunet(kind, images, nnunet_folders, tmp_path):
    model_folder = write_model(nnunet_folders, **KINDS[kind])
    assert predict(images, tmp_path / "ours", model_folder) == 0
    assert_same(tmp_path / "ours", nnunets_predictions(model_folder, images, tmp_path / "nnunets"))


def test_weights_in_half_precision_predict_as_with_nnunet(images, nnunet_folders, tmp_path):
    model_folder = write_model(nnunet_folders)
    checkpoint = model_folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    halves = {name: tensor.half() for name, tensor in content["network_weights"].items() if tensor.is_floating_point()}
    torch.save({**content, "network_weights": {**content["network_weights"], **halves}}, checkpoint)
    assert predict(images, tmp_path / "ours", model_folder) == 0
    assert_same(tmp_path / "ours", nnunets_predictions(model_folder, images, tmp_path / "nnunets"))


def test_a_cascade_takes_the_previous_stage_s_predictions(images, nnunet_folders, tmp_path):
    first = write_model(nnunet_folders, trainer_class=nnUNetTrainer)
    assert predict(images, tmp_path / "first", first) == 0
    last = write_model(nnunet_folders, previous_stage="3d_lowres")
    assert predict(images, tmp_path / "ours", last, "-prev_stage_predictions", tmp_path / "first") == 0
    nnunets = nnunets_predictions(last, images, tmp_path / "nnunets", previous_stage=str(tmp_path / "first"))
    assert_same(tmp_path / "ours", nnunets)

    message = predict(images, tmp_path / "none", last)
    assert "expected segmentations by 3d_lowres" in message.lower()
    assert message.endswith("name the folder with -prev_stage_predictions.")
    (tmp_path / "first" / "b.nii.gz").unlink()
    assert predict(images, tmp_path / "two", last, "-prev_stage_predictions", tmp_path / "first") == 1
    assert {file.name for file in (tmp_path / "two").glob("*.nii.gz")} == {"a.nii.gz", "c.nii.gz"}
    whole = (tmp_path / "first" / "c.nii.gz").read_bytes()
    (tmp_path / "first" / "c.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert predict(images, tmp_path / "one", last, "-prev_stage_predictions", tmp_path / "first") == 1
    assert {file.name for file in (tmp_path / "one").glob("*.nii.gz")} == {"a.nii.gz"}


def test_a_model_of_one_stage_takes_no_previous_stage(images, nnunet_folders, tmp_path):
    model_folder = write_model(nnunet_folders, trainer_class=nnUNetTrainerGSP)
    message = predict(images, tmp_path / "out", model_folder, "-prev_stage_predictions", images)
    assert "expected no segmentations by a previous stage" in message.lower()
    assert not (tmp_path / "out").exists()
