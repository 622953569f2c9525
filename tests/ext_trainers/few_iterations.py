"""Test-only trainers, found by nnU-Net through the user's own value of nnUNet_extTrainer."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from nnunetv2_gsp.trainers import nnUNetTrainerGSP, nnUNetTrainerGSPDistill, nnUNetTrainerGSPPaper


class _FewIterations:
    def initialize(self):
        self.num_epochs = 3
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        super().initialize()


class nnUNetTrainerGSPFewIterations(_FewIterations, nnUNetTrainerGSP):
    pass


class nnUNetTrainerGSPDistillFewIterations(_FewIterations, nnUNetTrainerGSPDistill):
    pass


class nnUNetTrainerFewIterations(_FewIterations, nnUNetTrainer):
    pass


class nnUNetTrainerBNFewIterations(_FewIterations, nnUNetTrainerBN):
    pass


class nnUNetTrainerNoDeepSupervisionFewIterations(_FewIterations, nnUNetTrainerNoDeepSupervision):
    pass


class nnUNetTrainerGSPPaperFewIterations(_FewIterations, nnUNetTrainerGSPPaper):
    pass


class nnUNetTrainerGSPPaperFailing(nnUNetTrainerGSPPaperFewIterations):
    """Trains for two epochs on how many threads it logs; fails between them where a fault is on for its plans."""

    def initialize(self):
        super().initialize()
        self.num_epochs = 2
        self.print_to_log_file(f"threads: {torch.get_num_threads()}")

    def on_epoch_end(self):
        super().on_epoch_end()
        if self.current_epoch == 1 and self.plans_manager.plans_name == os.environ.get("FAULT_IN_PLANS"):
            raise ZeroDivisionError("the fault that was switched on")


class nnUNetTrainerGSPKilledWhileSaving(nnUNetTrainerGSPFewIterations):
    """Saves after each epoch, and is killed amid the checkpoint that KILL_AT_CHECKPOINT counts to."""

    def initialize(self):
        super().initialize()
        self.save_every, self.n_checkpoints = 1, 0

    def save_checkpoint(self, filename):
        if not filename.endswith("checkpoint_best.pth"):  # saved when the Dice has grown, which here is chance
            self.n_checkpoints += 1
            is_last = str(self.n_checkpoints) == os.environ.get("KILL_AT_CHECKPOINT")
            with mock.patch("torch.save", self.save_half) if is_last else nullcontext():
                super().save_checkpoint(filename)

    @staticmethod
    def save_half(checkpoint, filename, save=torch.save):
        save(checkpoint, filename)
        os.truncate(filename, Path(filename).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
