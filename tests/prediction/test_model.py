"""The folds and the checkpoint that predict are those that nnU-Net takes."""

import shutil

import pytest

from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from tests.prediction.models import nnunets_predictions, write_images, write_model
from tests.prediction.test_kinds import assert_same, predict

BEST = "checkpoint_best.pth"


@pytest.fixture(scope="module")
def model_folder(nnunet_folders):
    """Write a model of two folds and the fold "all"; one has another checkpoint besides, with other weights."""
    folder = write_model(nnunet_folders, folds=(0, 1, "all"))
    shutil.copy(folder / "fold_all" / FINAL_CHECKPOINT, folder / "fold_1" / BEST)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("raw") / "images")


@pytest.mark.parametrize(
    ("flags", "nnunets"),
    [
        ((), {"folds": None}),
        (("-f", 1), {"folds": (1,)}),
        (("-f", "all"), {"folds": ("all",)}),
        (("-f", 1, "all"), {"folds": (1, "all")}),
        (("-chk", BEST), {"folds": None, "checkpoint_name": BEST}),
        (("-f", 1, "-chk", BEST), {"folds": (1,), "checkpoint_name": BEST}),
    ],
)
def test_folds_and_checkpoints_are_chosen_as_with_nnunet(flags, nnunets, model_folder, images, tmp_path):
    assert predict(images, tmp_path / "ours", model_folder, *flags) == 0
    assert_same(tmp_path / "ours", nnunets_predictions(model_folder, images, tmp_path / "nnunets", **nnunets))
