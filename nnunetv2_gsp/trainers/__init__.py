"""Trainers of GSP networks, to be named with `-tr`."""

from nnunetv2_gsp.trainers.nnUNetTrainerGSP import (
    nnUNetTrainerGSP,
    nnUNetTrainerGSPNoDeepSupervision,
    nnUNetTrainerGSPNoMirroring,
    nnUNetTrainerGSPPaper,
)
from nnunetv2_gsp.trainers.nnUNetTrainerGSP_Xepochs import (
    nnUNetTrainerGSP_1epoch,
    nnUNetTrainerGSP_5epochs,
    nnUNetTrainerGSP_10epochs,
    nnUNetTrainerGSP_20epochs,
    nnUNetTrainerGSP_50epochs,
    nnUNetTrainerGSP_100epochs,
    nnUNetTrainerGSP_250epochs,
    nnUNetTrainerGSP_500epochs,
)
from nnunetv2_gsp.trainers.nnUNetTrainerGSPDistill import nnUNetTrainerGSPDistill

__all__ = [
    "nnUNetTrainerGSP",
    "nnUNetTrainerGSPDistill",
    "nnUNetTrainerGSPNoDeepSupervision",
    "nnUNetTrainerGSPNoMirroring",
    "nnUNetTrainerGSPPaper",
    "nnUNetTrainerGSP_1epoch",
    "nnUNetTrainerGSP_5epochs",
    "nnUNetTrainerGSP_10epochs",
    "nnUNetTrainerGSP_20epochs",
    "nnUNetTrainerGSP_50epochs",
    "nnUNetTrainerGSP_100epochs",
    "nnUNetTrainerGSP_250epochs",
    "nnUNetTrainerGSP_500epochs",
]
