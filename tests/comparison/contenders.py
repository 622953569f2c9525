"""Folders of predictions, and models as nnU-Net leaves them."""

import json

import numpy as np
import torch

from nnunetv2_gsp.comparison.trained_models import pair_trained_models
from nnunetv2_gsp.counting import count_architecture
from tests.architectures.networks import stock_architecture
from tests.metrics.drawings import blob, write

LABELS = {"background": 0, "whole <tumor>": [1, 2], "core": 2}
N_CASES = 16
EPOCH_S, N_EPOCHS = 2.5, 4
DATASET, CONFIGURATION = "Dataset777_Compared", "3d_fullres"
ARCHITECTURE = stock_architecture(
    [4, 8], strides=[[1] * 3, [2] * 3], n_conv_per_stage=[1, 1], n_conv_per_stage_decoder=[1]
)
PLANS = {
    "plans_name": "nnUNetPlans",
    "configurations": {CONFIGURATION: {"patch_size": [8, 16, 16], "batch_size": 2, "architecture": ARCHITECTURE}},
}


def tumour(seed, noise=0.0):
    labels = np.zeros((17, 19, 15), np.uint8)
    labels[blob(seed)] = 1
    labels[blob(seed, radius=(2, 3))] = 2
    flipped = np.random.default_rng(seed + 1000).random(labels.shape) < noise
    return np.where(flipped & (labels > 0), 0, labels)


def write_predictions(folder, noise, cases=range(N_CASES)):
    for case in cases:
        write(tumour(case, noise), folder / f"case_{case:02d}.nii.gz", (2.0, 1.0, 1.0))


def write_model(results, trainer, noise, folds, batch_size=2, n_epochs=N_EPOCHS, learning_rate=0.01):
    """Write what nnU-Net leaves of a trained model; `folds` gives each one's validation cases."""
    model = results / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}"
    model.mkdir(parents=True)
    (model / "dataset.json").write_text(
        json.dumps(
            {"labels": LABELS, "channel_names": {"0": "MR"}, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}
        )
    )
    plans = json.loads(json.dumps(PLANS))
    plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
    (model / "plans.json").write_text(json.dumps(plans))
    n_parameters, _ = count_architecture(ARCHITECTURE, [8, 16, 16], 1, 2)
    for fold, cases in enumerate(folds):
        folder = model / f"fold_{fold}"
        write_predictions(folder / "validation", noise, cases)
        starts = [10.0 * epoch for epoch in range(n_epochs)]
        log = {
            "train_losses": [1 / (epoch + 1) for epoch in range(n_epochs)],
            "val_losses": [0.5] * n_epochs,
            "lrs": [learning_rate * (1 - epoch / n_epochs) ** 0.9 for epoch in range(n_epochs)],
            "ema_fg_dice": [np.float64(0.1 * epoch) for epoch in range(n_epochs)],
            "epoch_start_timestamps": starts,
            "epoch_end_timestamps": [start + EPOCH_S for start in starts],
        }
        weight = torch.zeros(n_parameters)
        torch.save(
            {
                "network_weights": {"a": weight, "again": weight.detach(), "settings": torch.ones(3, dtype=int)},
                "logging": log,
            },
            folder / "checkpoint_final.pth",
        )
        (folder / "training_log_2026_1_1_00_00_00.txt").write_text(
            "".join(
                f"2026-01-01 00:00:{3 * number:02d}.500000: predicting case_{case:02d} \n"
                for number, case in enumerate(cases)
            )
        )
        (folder / "debug.json").write_text(json.dumps({"device": "cpu"}))
    return model


def paired_models(trainers=("nnUNetTrainer", "nnUNetTrainerGSP"), **choices):
    """Pair the models of the fixture `trained`."""
    return pair_trained_models(DATASET, trainers, **{"configuration": CONFIGURATION, "folds": ("0", "1"), **choices})
