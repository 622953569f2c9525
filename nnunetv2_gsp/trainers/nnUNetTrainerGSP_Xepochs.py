"""Trainers for other numbers of epochs, named like nnU-Net's own variants (nnUNetTrainer_Xepochs)."""

from nnunetv2_gsp.trainers.nnUNetTrainerGSP import nnUNetTrainerGSP


class nnUNetTrainerGSP_1epoch(nnUNetTrainerGSP):
    """Train for 1 epoch."""

    n_epochs = 1


class nnUNetTrainerGSP_5epochs(nnUNetTrainerGSP):
    """Train for 5 epochs."""

    n_epochs = 5


class nnUNetTrainerGSP_10epochs(nnUNetTrainerGSP):
    """Train for 10 epochs."""

    n_epochs = 10


class nnUNetTrainerGSP_20epochs(nnUNetTrainerGSP):
    """Train for 20 epochs."""

    n_epochs = 20


class nnUNetTrainerGSP_50epochs(nnUNetTrainerGSP):
    """Train for 50 epochs."""

    n_epochs = 50


class nnUNetTrainerGSP_100epochs(nnUNetTrainerGSP):
    """Train for 100 epochs."""

    n_epochs = 100


class nnUNetTrainerGSP_250epochs(nnUNetTrainerGSP):
    """Train for 250 epochs."""

    n_epochs = 250


class nnUNetTrainerGSP_500epochs(nnUNetTrainerGSP):
    """Train for 500 epochs."""

    n_epochs = 500
