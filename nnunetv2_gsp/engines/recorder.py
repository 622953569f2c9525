"""Records a call of a network as a program for the compiled layers.

A norm, nonlinearity, shift or pooling stays pending until the next convolution reads the map: then it is part of the
load, and costs no pass over memory.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunetv2_gsp.cpu import fused_layers
from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.program import Buffer, Program, Read, Step, Weights, three
from nnunetv2_gsp.engines.engine import Engine, NotApplicable, NotMeant
from nnunetv2_gsp.engines.known import (
    check,
    check_modules,
    check_pointwise,
    norm_and_nonlinearity,
    pooling_stride,
    shifts_in,
    whole_factors,
)

# rows and the voxels of one are counted in 32 bits
_MAX_VOXELS_AN_AXIS = 1 << 15


class Interpolated(NamedTuple):
    """A map of a lower resolution that is still to be interpolated."""

    low: Read
    factor: tuple[int, ...]


class Joined(NamedTuple):
    """Two maps whose channels are still to be concatenated."""

    first: Read | Interpolated
    skip: Read


Recorded = Read | Interpolated | Joined


class Recorder(Engine[Recorded]):
    """Records one call of a network.

    Each module is checked to compute what the compiled layers do. The network is read anew at every call, so whatever
    was changed in it counts.

    Attributes:
        steps: steps recorded so far, in the order in which they run.
        image: input of the network, (N, C, *patch).
        first: buffer of the image.
        n_axes: number of spatial axes, 2 or 3.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def begin(self, image: Tensor) -> Read:
        """Take the image, (N, C, *patch), as what the first layer reads."""
        _, channels, *size = image.shape
        check(len(size) in (2, 3) and max(size) < _MAX_VOXELS_AN_AXIS, f"an image of shape {tuple(image.shape)}")
        self.n_axes = len(size)
        self.image = image
        self.first = Buffer(channels, three(size, 1))
        return Read(self.first)

    def convolve(self, x: Recorded, layer: ConvDropoutNormReLU, shift: nn.Module) -> Read:
        """Record convolution and norm, and leave nonlinearity and shift pending."""
        if isinstance(x, Joined) and isinstance(x.first, Interpolated):
            return self._shifted(self._convolved_with_low(x.first, x.skip, layer), shift)
        reads = (_read(x.first), x.skip) if isinstance(x, Joined) else (_read(x),)
        return self._shifted(self._convolved(layer, reads), shift)

    def pool(self, x: Recorded, pool: nn.Module) -> Read:
        """Leave the pooling pending."""
        read = _read(x)
        if isinstance(pool, nn.Identity):
            return read
        stride = three(pooling_stride(pool, self._of_axes(read.buffer.size)), 1)
        return replace(read, pool=stride)

    def interpolate(self, x: Recorded, interpolation: nn.Module, shift: nn.Module) -> Read | Interpolated:
        """Leave the interpolation pending; where a shift follows, record it: that needs the interpolated map."""
        low = _read(x)
        factor = three(whole_factors(interpolation, self.n_axes), 1)
        if isinstance(shift, nn.Identity):
            return Interpolated(low, factor)
        activated = self._append((low,), None)
        high = Step((), Buffer(low.buffer.channels, _times(low.buffer.size, factor)), low=activated.out, factor=factor)
        self.steps.append(high)
        return self._shifted(Read(high.out), shift)

    def join(self, x: Recorded, skip: Recorded) -> Joined:
        """Leave the concatenation pending."""
        check(not isinstance(x, Joined), "a concatenation of three maps")
        size = _times(x.low.buffer.size, x.factor) if isinstance(x, Interpolated) else _read(x).buffer.size
        check(size == _read(skip).buffer.size, f"maps of {size} and {_read(skip).buffer.size} voxels")
        return Joined(x, _read(skip))  # type: ignore[arg-type]

    def finish(self, x: Recorded) -> Recorded:
        """Return the map as it is: what is pending costs nothing when it is read."""
        return x

    def head(self, x: Recorded, convolution: nn.Module) -> Read:
        """Record the convolution to logits."""
        read = _read(x)
        check_pointwise(convolution, read.buffer.channels, self.n_axes)
        return Read(self._append((read,), Weights(convolution)).out)

    def program(self, logits: Read | list[Read]) -> Program:
        """Return what was recorded, up to the logits of one resolution or of several."""
        heads = logits if isinstance(logits, list) else [logits]
        return Program(self.steps, self.first, tuple(head.buffer for head in heads), self.n_axes)

    def _convolved_with_low(self, interpolated: Interpolated, skip: Read, layer: Any) -> Read:
        """Record W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution."""
        low, factor = interpolated
        n_columns = low.buffer.channels
        check_pointwise(layer.conv, n_columns + skip.buffer.channels, self.n_axes)
        product = self._append((low,), Weights(layer.conv))
        return self._convolved(layer, (skip,), Weights(layer.conv, n_columns, False), product.out, factor)

    def _convolved(
        self,
        layer: Any,
        reads: tuple[Read, ...],
        weights: Weights | None = None,
        low: Buffer | None = None,
        factor: tuple[int, ...] = (1, 1, 1),
    ) -> Read:
        """Record convolution, norm and nonlinearity of a ConvDropoutNormReLU."""
        weights = weights or Weights(layer.conv)
        n_columns = weights.first_column + sum(read.buffer.channels for read in reads)
        check_pointwise(layer.conv, n_columns, self.n_axes)
        norm, nonlinearity = norm_and_nonlinearity(layer, self.n_axes)
        check(type(nonlinearity) is nn.LeakyReLU, nonlinearity or "a layer without nonlinearity")
        step = self._append(reads, weights, norm, low, factor)
        check(norm is None or math.prod(step.out.size) > 1, "InstanceNorm of a single voxel")
        return Read(step.out, step, nonlinearity)

    def _append(
        self,
        reads: tuple[Read, ...],
        weights: Weights | None,
        norm: nn.Module | None = None,
        low: Buffer | None = None,
        factor: tuple[int, ...] = (1, 1, 1),
    ) -> Step:
        channels = reads[0].buffer.channels if weights is None else weights.convolution.out_channels
        step = Step(reads, Buffer(channels, _pooled_size(reads[0])), weights, norm, low, factor)
        self.steps.append(step)
        return step

    def _shifted(self, read: Read, shift: nn.Module) -> Read:
        """Take the shifts in; those to the side move what is behind the shifted groups."""
        group_shift, local_shift = shifts_in(shift, read.buffer.channels, self._of_axes(read.buffer.size))
        if group_shift is not None and local_shift is not None:
            check(local_shift.first_channel == group_shift.shift_channels, local_shift)
        return replace(read, group_shift=group_shift, local_shift=local_shift)

    def _of_axes(self, size: Sequence[int]) -> Sequence[int]:
        """Return the image's axes of D, H and W."""
        return size[-self.n_axes :]


def layers_for(network: Any, image: Tensor) -> FusedLayers:
    """Return the compiled layers for a call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotMeant: there is no content to compute.
        NotApplicable: the image is no fp32 tensor of the CPU, there are no compiled layers here, somebody wants to see
            each module run, or code would run that is not known here.
    """
    _check_image(image)
    layers = fused_layers()
    if layers is None:
        raise NotApplicable("the compiled layers are not there", logging.DEBUG)  # fused_layers has said so
    check_modules(network)
    return layers


def _check_image(image: Tensor) -> None:
    if image.is_meta:
        raise NotMeant("tensors without content")
    if image.device.type != "cpu":
        raise NotApplicable(f"an image on {image.device.type}, not on the CPU", logging.DEBUG)
    if not (
        type(image) is Tensor
        and image.dtype is torch.float32
        and image.layout is torch.strided
        and image.numel() > 0
        and not image.is_neg()
        and image.data_ptr() != 0
    ):
        # the memory of a negative view holds something else, an efficient zero tensor has none
        raise NotApplicable(
            f"an image that is no plain fp32 tensor with memory of its own ({type(image).__name__} of {image.dtype})",
            logging.INFO,
        )
    if torch.is_autocast_enabled("cpu"):
        raise NotApplicable("autocast", logging.INFO)


def _read(x: Recorded) -> Read:
    check(isinstance(x, Read), "maps in another order than this package has them")
    return x  # type: ignore[return-value]


def _pooled_size(read: Read) -> tuple[int, ...]:
    return tuple(size // step for size, step in zip(read.buffer.size, read.pool, strict=True))


def _times(size: tuple[int, ...], factor: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(voxels * step for voxels, step in zip(size, factor, strict=True))
