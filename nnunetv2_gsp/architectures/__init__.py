"""The network: a U-Net of pointwise convolutions with group shifts in between."""

from nnunetv2_gsp.architectures.gsp_unet import GSPUNet

__all__ = ["GSPUNet"]
