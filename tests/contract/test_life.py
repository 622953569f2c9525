"""The life of a training: killed, continued, validated again, begun from other weights, in every fold."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training

from tests.contract.conftest import CPU, DATASET, ID, TRAINER, predictor_of


def test_killed_while_a_checkpoint_is_written_and_continued(preprocessed, nnunet_folders, tmp_path):
    """The second checkpoint is cut off by SIGKILL: the first stands whole, and --c goes on from it."""
    trainer = "nnUNetTrainerGSPKilledWhileSaving"
    folder = nnunet_folders / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres"
    train = [
        sys.executable,
        "-m",
        "nnunetv2.run.run_training",
        str(ID),
        "3d_fullres",
        "0",
        "-tr",
        trainer,
        "-device",
        "cpu",
    ]
    log = tmp_path / "log"  # no pipe: nnU-Net's workers outlive the kill, and would hold it open
    with (
        log.open("w") as output,
        subprocess.Popen(
            train, stdout=output, stderr=output, start_new_session=True, env={**os.environ, "KILL_AT_CHECKPOINT": "2"}
        ) as process,
    ):
        process.wait()
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, log.read_text()
    fold = folder / "fold_0"
    assert {file.name for file in fold.glob("*.pth")} == {"checkpoint_latest.pth", "unfinished_checkpoint_latest.pth"}
    plans = (folder / "plans.json").read_bytes()
    saved = torch.load(fold / "checkpoint_latest.pth", weights_only=False)
    assert saved["current_epoch"] == 1

    continued = get_trainer_from_args(str(ID), "3d_fullres", 0, trainer, continue_training=True, device=CPU)
    maybe_load_checkpoint(continued, continue_training=True, validation_only=False)
    momenta = continued.optimizer.state_dict()["state"]
    assert momenta.keys() == saved["optimizer_state"]["state"].keys()
    for key, state in momenta.items():
        assert torch.equal(state["momentum_buffer"], saved["optimizer_state"]["state"][key]["momentum_buffer"])
    # a bias in front of a norm has no gradient
    assert any(state["momentum_buffer"].abs().sum() > 0 for state in momenta.values())

    run_training(str(ID), "3d_fullres", 0, trainer, continue_training=True, device=CPU)
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert len(final["logging"]["train_losses"]) == 3
    assert final["logging"]["train_losses"][0] == saved["logging"]["train_losses"][0]
    assert (folder / "plans.json").read_bytes() == plans
    assert not (fold / "unfinished_checkpoint_latest.pth").exists()


def test_validation_alone_repeats_what_the_training_found(model_folder):
    summary = model_folder / "fold_0" / "validation" / "summary.json"
    found = json.loads(summary.read_text())["metric_per_case"]
    weights = (model_folder / "fold_0" / "checkpoint_final.pth").read_bytes()
    shutil.rmtree(summary.parent)
    run_training(str(ID), "3d_fullres", 0, TRAINER, only_run_validation=True, device=CPU)
    assert json.loads(summary.read_text())["metric_per_case"] == found
    assert (model_folder / "fold_0" / "checkpoint_final.pth").read_bytes() == weights


def test_pretrained_weights_of_another_gsp_training(model_folder, preprocessed):
    """Trained further from there: the first loss differs from that of a network without a past."""
    trainer = get_trainer_from_args(str(ID), "3d_fullres", 1, "nnUNetTrainerGSP", device=CPU)
    file = str(model_folder / "fold_0" / "checkpoint_final.pth")
    maybe_load_checkpoint(trainer, continue_training=False, validation_only=False, pretrained_weights_file=file)
    pretrained = torch.load(file, weights_only=False)["network_weights"]
    for name, weight in trainer.network.state_dict().items():
        if ".seg_layers." not in name:  # which nnU-Net leaves out
            assert torch.equal(weight, pretrained[name]), name


def test_pretrained_weights_of_a_stock_training_are_refused_by_nnunet(preprocessed, tmp_path):
    stock = get_trainer_from_args(str(ID), "3d_fullres", 1, "nnUNetTrainer", device=CPU)
    stock.initialize()
    file = tmp_path / "checkpoint_final.pth"
    stock.save_checkpoint(str(file))
    trainer = get_trainer_from_args(str(ID), "3d_fullres", 1, "nnUNetTrainerGSP", device=CPU)
    with pytest.raises(AssertionError, match="missing in the pretrained model weights") as refusal:
        maybe_load_checkpoint(
            trainer, continue_training=False, validation_only=False, pretrained_weights_file=str(file)
        )
    assert "\n" not in str(refusal.value)


def test_folds_and_all(model_folder, nnunet_folders):
    """Fold 1 and `all` share the model folder with fold 0; prediction averages over folds, and takes `all`."""
    plans = (model_folder / "plans.json").read_bytes()
    run_training(str(ID), "3d_fullres", 1, TRAINER, export_validation_probabilities=True, device=CPU)
    run_training(str(ID), "3d_fullres", "all", TRAINER, device=CPU)
    assert (model_folder / "plans.json").read_bytes() == plans
    assert len(list((model_folder / "fold_1" / "validation").glob("*.npz"))) == 2

    image = torch.randn(2, 24, 30, 30)
    logits = {
        folds: predictor_of(model_folder, folds).predict_logits_from_preprocessed_data(image)
        for folds in ((0,), (1,), (0, 1), ("all",))
    }
    torch.testing.assert_close(logits[0, 1], (logits[0,] + logits[1,]) / 2)
    assert not torch.equal(logits["all",], logits[0,])
