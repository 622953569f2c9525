"""The plain engine: calls the network's modules one after the other.

Hooks, tracers and transforms see each module run.
"""

from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunetv2_gsp.engines.engine import Engine
from nnunetv2_gsp.ops import GroupShift, leaky_relu_group_shift_
from nnunetv2_gsp.ops.recording import has_hooks, is_intercepted, is_watched


class Plain(Engine[Tensor]):
    """Calls each module at once; a map is a tensor (N, C, *spatial)."""

    def begin(self, image: Tensor) -> Tensor:
        """Take the image as it is."""
        return image

    def through(self, part: Any, maps: Any) -> Any:
        """Call the part, whatever it is."""
        return part(maps)

    def convolve(self, x: Tensor, layer: ConvDropoutNormReLU, shift: nn.Module) -> Tensor:
        """Call the layer, and the shift behind it."""
        if torch.compiler.is_compiling() or type(layer) is not ConvDropoutNormReLU or is_intercepted(layer):
            return shift(layer(x))  # type: ignore[no-any-return]
        return then_shift(layer.all_modules, shift, x)

    def pool(self, x: Tensor, pool: nn.Module) -> Tensor:
        """Call the pooling."""
        return pool(x)  # type: ignore[no-any-return]

    def interpolate(self, x: Tensor, interpolation: nn.Module, shift: nn.Module) -> Tensor:
        """Call the interpolation, and the shift behind it."""
        return shift(interpolation(x))  # type: ignore[no-any-return]

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Concatenate the channels."""
        return torch.cat((x, skip), dim=1)

    def finish(self, x: Tensor) -> Tensor:
        """Return the map as it is."""
        return x

    def head(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Call the convolution."""
        return convolution(x)  # type: ignore[no-any-return]

    def end(self, logits: Any) -> Any:
        """Return the logits as they are."""
        return logits


PLAIN = Plain()


def then_shift(layer: Any, shift: Any, x: Tensor) -> Tensor:
    """Compute `shift(layer(x))`; a leaky ReLU at the layer's end and a group shift run as one operation in place.

    This does not happen on a GPU, where new memory costs nothing, nor under the compiler, which fuses them itself, nor
    while PyTorch's own operators are watched.

    Args:
        layer: modules that run first, an nn.Sequential.
        shift: module behind the layer, a shift or the identity.
        x: input of the layer, (N, C, *spatial).

    Examples:
        >>> layer, shift = nn.Sequential(nn.Conv2d(4, 8, kernel_size=1), nn.LeakyReLU()), GroupShift((2, 2), 8)
        >>> x = torch.rand(1, 4, 6, 6)
        >>> torch.equal(then_shift(layer, shift, x), shift(layer(x)))
        True
    """
    if (
        x.device.type != "cpu"
        or torch.compiler.is_compiling()
        or is_watched()
        or not isinstance(shift, GroupShift)
        or len(layer) < 2
        or not isinstance(layer[-1], nn.LeakyReLU)
        or layer[-1].negative_slope <= 0
        or any(map(has_hooks, (layer, layer[-1], shift)))
    ):
        return shift(layer(x))  # type: ignore[no-any-return]
    return leaky_relu_group_shift_(
        layer[:-1](x).contiguous(), layer[-1].negative_slope, shift.spatial_groups, shift.shift_channels
    )
