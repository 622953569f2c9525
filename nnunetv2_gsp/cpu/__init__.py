"""How does a network run on a CPU at the price of moving its data once? Fused layers in C, and when they are taken."""
from nnunetv2_gsp.cpu.forward import fused_forward
from nnunetv2_gsp.cpu.library import fused_layers

__all__ = ["fused_forward", "fused_layers"]
