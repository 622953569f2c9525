"""Predicts on a CPU with compiled layers that move the data once: their programs, their memory, and the call."""

from nnunetv2_gsp.cpu.library import fused_layers

__all__ = ["fused_layers"]
