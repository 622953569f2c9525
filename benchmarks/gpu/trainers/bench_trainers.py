"""Short trainings, found by nnU-Net through its variable for trainers; how short, the environment says."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs_noDataLoading import (
    nnUNetTrainerBenchmark_5epochs_noDataLoading,
)

from nnunetv2_gsp.trainers import nnUNetTrainerGSP


class _Short:
    def initialize(self) -> None:
        self.num_epochs = int(os.environ["GSP_BENCH_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["GSP_BENCH_ITERATIONS"])
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)  # as nnU-Net's 250 and 50
        torch.manual_seed(int(os.environ.get("GSP_BENCH_SEED", "0")))
        super().initialize()  # type: ignore[misc]


class nnUNetTrainerBench(_Short, nnUNetTrainer):
    """nnU-Net's, short."""


class nnUNetTrainerGSPBench(_Short, nnUNetTrainerGSP):
    """GSP's, short."""


class nnUNetTrainerBenchNoDataLoading(_Short, nnUNetTrainerBenchmark_5epochs_noDataLoading):
    """nnU-Net's benchmark of epochs, with as many as are asked for."""
