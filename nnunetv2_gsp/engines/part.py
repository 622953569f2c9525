"""A part of a network, which walks through its modules with whichever engine computes it."""

from collections.abc import Iterable
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from nnunetv2_gsp.engines.engine import Engine, NotApplicable
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


def check_as_written(part: nn.Module) -> None:
    """Raise NotApplicable if a subclass has its own `forward`, which a call would run and a walk would not."""
    if not (isinstance(part, Part) and type(part).forward is Part.forward and "forward" not in vars(part)):
        raise NotApplicable(f"a part with a forward of its own: {type(part).__name__}")
    for module in part.modules():
        if isinstance(module, ConvDropoutNormReLU) and (
            type(module) is not ConvDropoutNormReLU or "forward" in vars(module)
        ):
            raise NotApplicable(f"a layer with a forward of its own: {type(module).__name__}")
    for inner in part.parts():
        check_as_written(inner)
