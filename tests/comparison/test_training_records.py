"""Records of a training: what nnU-Net's checkpoint, logs and debug.json say, and what is blank."""

import pytest
import torch

from nnunetv2_gsp.comparison import training_records as records
from nnunetv2_gsp.errors import DamagedFileError


def test_a_checkpoint_has_each_weight_once_and_no_settings(tmp_path):
    weight = torch.zeros(5, 2)
    weights = {"conv": weight, "all_modules.conv": weight.detach(), "settings": torch.ones(3).int()}
    torch.save({"network_weights": weights, "logging": {"train_losses": [1.0]}}, tmp_path / "c.pth")
    assert records.read_checkpoint(tmp_path / "c.pth") == (10, {"train_losses": [1.0]})


def test_a_broken_checkpoint_is_refused(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(DamagedFileError, match=r"c\.pth: expected nnU-Net's checkpoint, .*; train that fold again\."):
        records.read_checkpoint(tmp_path / "c.pth")


def test_curves_are_those_of_a_whole_log():
    log = {"train_losses": [2, 1], "val_losses": [2.5, 1.5], "ema_fg_dice": [0.1, 0.2]}
    assert records.learning_curves("0", log) == records.LearningCurves("0", [2, 1], [2.5, 1.5], [0.1, 0.2])
    assert records.n_epochs(log) == 2
    for name in log:
        assert records.learning_curves("0", {**log, name: ["?"]}) is None
    assert records.n_epochs({"train_losses": None}) == 0


def test_a_learning_rate_is_the_highest_as_it_may_warm_up():
    assert records.learning_rate({"lrs": [0.001, 0.01, 0.005]}) == 0.01
    assert records.learning_rate({}) is None


def test_an_epochs_duration_is_the_median():
    log = {"epoch_start_timestamps": [0, 10, 20, 30], "epoch_end_timestamps": [1, 13, 22]}
    assert records.epoch_seconds(log) == 2
    assert records.epoch_seconds({}) is None


def write_log(folder, *lines):
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text("\n".join(lines))


def test_a_prediction_takes_from_one_case_to_the_next(tmp_path):
    write_log(
        tmp_path,
        *(f"2026-01-01 00:00:{second}: predicting case" for second in ("00.500000", "02.500000", "05.500000", "06")),
    )
    assert records.prediction_seconds(tmp_path) == 2
    write_log(tmp_path, "2026-01-01 00:00:00: predicting case")
    assert records.prediction_seconds(tmp_path) is None
    write_log(tmp_path, *["2026-99-01 00:00:00: predicting case"] * 2)
    assert records.prediction_seconds(tmp_path) is None


def test_gpu_memory_is_the_largest_that_a_log_names(tmp_path):
    assert records.gpu_memory_gib(tmp_path) is None
    write_log(tmp_path, "peak GPU memory: 512 MiB", "max CUDA memory allocated 7.25 GiB", "GPU memory: ... GB")
    assert records.gpu_memory_gib(tmp_path) == 7.25


@pytest.mark.parametrize(
    ("told", "gib"),
    [("2048 MiB", 2), ("7.25 GiB", 7.25), ("8 GB", 8e9 / 2**30), ("512 MB", 512e6 / 2**30), ("8gb", 8e9 / 2**30)],
)
def test_gpu_memory_is_in_gib_whatever_its_unit(told, gib, tmp_path):
    write_log(tmp_path, f"GPU memory: {told}")
    assert records.gpu_memory_gib(tmp_path) == pytest.approx(gib)


@pytest.mark.parametrize(
    ("content", "device"),
    [
        ('{"gpu_name": "A100", "device": "cuda"}', "A100"),
        ('{"device": "cpu"}', "cpu"),
        ("[]", None),
        ("{no json", None),
        ('{"device": 3}', None),
    ],
)
def test_the_device_is_the_gpus_name_where_there_is_one(content, device, tmp_path):
    assert records.training_device(tmp_path) is None
    (tmp_path / "debug.json").write_text(content)
    assert records.training_device(tmp_path) == device
