"""Test-only trainers, found by nnU-Net through the user's own value of nnUNet_extTrainer."""
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_gsp.trainers import nnUNetTrainerGSP


class _FewIterations:
    def initialize(self):
        self.num_epochs = 3
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        super().initialize()


class nnUNetTrainerGSPFewIterations(_FewIterations, nnUNetTrainerGSP):
    pass


class nnUNetTrainerFewIterations(_FewIterations, nnUNetTrainer):
    pass
