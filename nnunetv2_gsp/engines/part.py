"""A part of a network, which walks through its modules with whichever engine computes it."""

from collections.abc import Iterable
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.engines.engine import Engine
from nnunetv2_gsp.engines.plain import PLAIN


class Part(nn.Module):
    """A module that engines walk through; called by itself it runs its modules one after the other."""

    def walk(self, maps: Any, engine: Engine[Any]) -> Any:
        """Compute the part with an engine."""
        raise NotImplementedError

    def parts(self) -> Iterable[nn.Module]:
        """Return the inner parts that `walk` walks through."""
        return ()

    def forward(self, maps: Any) -> Any:
        """Compute the part module by module, from tensors (N, C, *spatial) or lists of them."""
        return self.walk(maps, PLAIN)


def own_code(part: nn.Module) -> str | None:
    """Return the class of a module whose own `forward` a walk would skip and a call would run, or None.

    Args:
        part: a `Part`, or a module in the place of one.

    Examples:
        >>> own_code(Part()), own_code(nn.ReLU())
        (None, 'ReLU')
    """
    if not (isinstance(part, Part) and type(part).forward is Part.forward) or _has_own_forward(part):
        return type(part).__name__
    for module in part.children():
        for layer in module.children() if isinstance(module, nn.ModuleList) else (module,):
            if isinstance(layer, ConvDropoutNormReLU) and (
                type(layer) is not ConvDropoutNormReLU or _has_own_forward(layer)
            ):
                return type(layer).__name__
    for inner in part.parts():
        name = own_code(inner)
        if name is not None:
            return name
    return None


def _has_own_forward(module: nn.Module) -> bool:
    return not torch.compiler.is_compiling() and "forward" in vars(module)  # the compiler runs it all the same
