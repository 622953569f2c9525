"""Predicts on a CPU at the price of moving the data once: programs of compiled layers, their memory, and the call."""

from nnunetv2_gsp.cpu.library import fused_layers

__all__ = ["fused_layers"]
