"""Records a call of a network as a program for the compiled layers.

A norm, nonlinearity, shift or pooling stays pending until the next convolution reads the map: then it is part of the
load, and costs no pass over memory.
"""

import logging
import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_gsp.cpu import fused_layers
from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.program import Buffer, Program, Read, Step, Weights, three
from nnunetv2_gsp.engines.engine import Engine, NotApplicable
from nnunetv2_gsp.engines.part import own_code
from nnunetv2_gsp.ops import (
    GroupShift,
    LinearUpsampling,
    LocalShift,
    PointwiseConv2d,
    PointwiseConv3d,
    SteadyInstanceNorm2d,
    SteadyInstanceNorm3d,
)
from nnunetv2_gsp.ops.recording import has_hooks, has_hooks_of_all_modules

# whose `forward` is known here; a module from elsewhere may compute anything
_RECORDABLE_CODE = ("torch.nn.modules.", "nnunetv2_gsp.", "dynamic_network_architectures.")
_CONVOLUTIONS = {2: (nn.Conv2d, PointwiseConv2d), 3: (nn.Conv3d, PointwiseConv3d)}
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
        _check(len(size) in (2, 3) and max(size) < _MAX_VOXELS_AN_AXIS, f"an image of shape {tuple(image.shape)}")
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
        _check(
            isinstance(pool, (nn.MaxPool2d, nn.MaxPool3d))
            and type(pool) is {2: nn.MaxPool2d, 3: nn.MaxPool3d}[self.n_axes]
            and pool.kernel_size == pool.stride
            and not pool.ceil_mode
            and not pool.return_indices
            and three(pool.padding, 0) == (0, 0, 0)
            and three(pool.dilation, 1) == (1, 1, 1),
            pool,
        )
        stride = three(pool.stride, 1)
        _check(all(size % step == 0 for size, step in zip(read.buffer.size, stride, strict=True)), read.buffer.size)
        return replace(read, pool=stride)

    def interpolate(self, x: Recorded, interpolation: nn.Module, shift: nn.Module) -> Read | Interpolated:
        """Leave the interpolation pending; where a shift follows, record it: that needs the interpolated map."""
        low = _read(x)
        factor = self._factor(interpolation)
        if isinstance(shift, nn.Identity):
            return Interpolated(low, factor)
        activated = self._append((low,), None)
        high = Step((), Buffer(low.buffer.channels, _times(low.buffer.size, factor)), low=activated.out, factor=factor)
        self.steps.append(high)
        return self._shifted(Read(high.out), shift)

    def join(self, x: Recorded, skip: Recorded) -> Joined:
        """Leave the concatenation pending."""
        _check(not isinstance(x, Joined), "a concatenation of three maps")
        size = _times(x.low.buffer.size, x.factor) if isinstance(x, Interpolated) else _read(x).buffer.size
        _check(size == _read(skip).buffer.size, f"maps of {size} and {_read(skip).buffer.size} voxels")
        return Joined(x, _read(skip))  # type: ignore[arg-type]

    def finish(self, x: Recorded) -> Recorded:
        """Return the map as it is: what is pending costs nothing when it is read."""
        return x

    def head(self, x: Recorded, convolution: nn.Module) -> Read:
        """Record the convolution to logits."""
        read = _read(x)
        self._check_pointwise(convolution, read.buffer.channels)
        return Read(self._append((read,), Weights(convolution)).out)

    def program(self, logits: Read | list[Read]) -> Program:
        """Return what was recorded, up to the logits of one resolution or of several."""
        heads = logits if isinstance(logits, list) else [logits]
        return Program(self.steps, self.first, tuple(head.buffer for head in heads), self.n_axes)

    def _convolved_with_low(self, interpolated: Interpolated, skip: Read, layer: Any) -> Read:
        """Record W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution."""
        low, factor = interpolated
        n_columns = low.buffer.channels
        self._check_pointwise(layer.conv, n_columns + skip.buffer.channels)
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
        self._check_pointwise(layer.conv, weights.first_column + sum(read.buffer.channels for read in reads))
        norm, nonlin = self._norm_and_nonlin(layer)
        step = self._append(reads, weights, norm, low, factor)
        _check(norm is None or math.prod(step.out.size) > 1, "InstanceNorm of a single voxel")
        return Read(step.out, step, nonlin)

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

    def _factor(self, interpolation: Any) -> tuple[int, ...]:
        _check(
            type(interpolation) is LinearUpsampling
            and interpolation.mode == {2: "bilinear", 3: "trilinear"}[self.n_axes]
            and not interpolation.align_corners
            and isinstance(interpolation.scale_factor, tuple)
            and len(interpolation.scale_factor) == self.n_axes
            and all(step == int(step) for step in interpolation.scale_factor),
            interpolation,
        )
        return three([int(step) for step in interpolation.scale_factor], 1)

    def _shifted(self, read: Read, shift: nn.Module) -> Read:
        """Take the shifts in, whose order is of no matter where they move different channels."""
        for part in shift if isinstance(shift, nn.Sequential) else [shift]:
            if type(part) is GroupShift and read.group_shift is None:
                read = replace(read, group_shift=part)
            elif type(part) is LocalShift and read.local_shift is None:
                read = replace(read, local_shift=part)
            else:
                _check(isinstance(part, nn.Identity), part)
        self._check_shifts(read)
        return read

    def _check_shifts(self, read: Read) -> None:
        channels, size = read.buffer.channels, read.buffer.size
        n_shifted = 0
        if read.group_shift is not None:
            groups, n_shifted = read.group_shift.spatial_groups, read.group_shift.shift_channels
            _check(
                len(groups) == self.n_axes
                and min(groups) > 0
                and 0 < n_shifted <= channels
                and n_shifted % math.prod(groups) == 0
                and all(n % count == 0 for n, count in zip(size, three(groups, 1), strict=True)),
                read.group_shift,
            )
        if read.local_shift is not None:
            first, n_local = read.local_shift.first_channel, read.local_shift.shift_channels
            _check(
                (first == n_shifted or read.group_shift is None)
                and 0 < n_local <= channels - first
                and first >= 0
                and n_local % (2 * self.n_axes) == 0,
                read.local_shift,
            )

    def _norm_and_nonlin(self, layer: Any) -> tuple[nn.Module | None, nn.LeakyReLU]:
        """Return the two of a ConvDropoutNormReLU, checked to come in this order."""
        convolution, *rest = [module for module in layer.all_modules if not _is_dropout(module)]
        _check(convolution is layer.conv and 1 <= len(rest) <= 2 and type(rest[-1]) is nn.LeakyReLU, layer)
        norm = rest[0] if len(rest) == 2 else None
        if norm is not None:
            _check(
                type(norm) is {2: SteadyInstanceNorm2d, 3: SteadyInstanceNorm3d}[self.n_axes]
                and not norm.track_running_stats,
                norm,
            )
        return norm, rest[-1]

    def _check_pointwise(self, convolution: Any, channels: int) -> None:
        _check(
            type(convolution) in _CONVOLUTIONS[self.n_axes]
            and convolution.groups == 1
            and convolution.in_channels == channels
            and {*convolution.kernel_size, *convolution.stride} == {1}
            and set(convolution.padding) == {0},
            convolution,
        )


def layers_for(network: Any, image: Tensor) -> FusedLayers:
    """Return the compiled layers for a call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotApplicable: the image is no fp32 tensor of the CPU, there are no compiled layers here, somebody wants to see
            each module run, or code would run that is not known here.
    """
    _check_image(image)
    layers = fused_layers()
    if layers is None:
        raise NotApplicable("the compiled layers are not there", logging.DEBUG)  # fused_layers has said so
    if has_hooks_of_all_modules():
        raise NotApplicable("a hook of all modules sees each of them run")
    for part in network.parts():
        name = own_code(part)
        if name is not None:
            raise NotApplicable(f"a forward of its own in {name}")
    for module in network.modules():
        if module is not network:  # a hook of its own sees one call, whoever computes it
            _check_module(module)
    return layers


def _check_image(image: Tensor) -> None:
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


def _check_module(module: nn.Module) -> None:
    if has_hooks(module):
        raise NotApplicable(f"a hook of {type(module).__name__}")
    if "forward" in vars(module) or not type(module).__module__.startswith(_RECORDABLE_CODE):
        raise NotApplicable(f"code that is not known here: {type(module).__name__}")


def _is_dropout(module: nn.Module) -> bool:
    """Tell whether a module is dropout, which must drop nothing."""
    if not isinstance(module, _DropoutNd):
        return False
    _check(not module.training or module.p == 0, module)
    return True


def _read(x: Recorded) -> Read:
    _check(isinstance(x, Read), "maps in another order than this package has them")
    return x  # type: ignore[return-value]


def _pooled_size(read: Read) -> tuple[int, ...]:
    return tuple(size // step for size, step in zip(read.buffer.size, read.pool, strict=True))


def _times(size: tuple[int, ...], factor: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(voxels * step for voxels, step in zip(size, factor, strict=True))


def _check(is_known: bool, what: object) -> None:
    if not is_known:
        name = what if isinstance(what, str) else type(what).__name__
        raise NotApplicable(f"they do not know {name} as it is here", logging.INFO)  # as plans may well ask for it
