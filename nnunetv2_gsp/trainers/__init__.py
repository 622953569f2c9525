"""How does nnU-Net train it? `-tr` takes each of these names."""
from nnunetv2_gsp.trainers import nnUNetTrainerGSP as _module
from nnunetv2_gsp.trainers.nnUNetTrainerGSP import *  # noqa: F403  (the variants are made, not written, so no list)

__all__ = _module.__all__
