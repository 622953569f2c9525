"""A GSPUNet as a flat program of fused layers: what each of them reads, computes and writes."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from torch import nn

from nnunetv2_gsp.ops import (
    GroupShift,
    LinearUpsampling,
    LocalShift,
    PointwiseConv2d,
    PointwiseConv3d,
    SteadyInstanceNorm2d,
    SteadyInstanceNorm3d,
)

# floats of a tile: all channels that a layer reads stay in the second-level cache until its last output is computed
TILE_FLOATS = 1 << 16
# longer runs through memory gain nothing more, and shorter ones lose more than a fitting tile gains
_MIN_VOXELS, _MAX_VOXELS = 512, 2048
# rows and the voxels of one are counted in 32 bits
_MAX_VOXELS_AN_AXIS = 1 << 15
_CONVOLUTIONS = {2: (nn.Conv2d, PointwiseConv2d), 3: (nn.Conv3d, PointwiseConv3d)}


class NotFusable(Exception):  # noqa: N818 (an answer, not a mistake: the plain path takes over)
    """The network or the image has something that the fused layers do not know; says what."""


class Buffer:
    """Memory for a map of `channels` × `size` (D, H, W; D is 1 in 2D), cut into tiles of whole rows."""

    def __init__(self, channels: int, size: tuple[int, ...]):
        self.channels = channels
        self.size = size

    @cached_property
    def log2_rows(self) -> int:
        """Rows of a tile as a power of two; where the map is small there are at least four tiles."""
        voxels = min(_MAX_VOXELS, max(_MIN_VOXELS, TILE_FLOATS // self.channels), max(16, math.prod(self.size) // 4))
        return _log2(min(voxels // self.size[2], self.size[0] * self.size[1]))

    @cached_property
    def channel_stride(self) -> int:
        """Floats from one channel of a tile to the next."""
        return round_up((1 << self.log2_rows) * self.size[2])

    @property
    def tile_stride(self) -> int:
        """Floats of a tile."""
        return self.channels * self.channel_stride

    @cached_property
    def sample_stride(self) -> int:
        """Floats of a sample."""
        return -(-self.size[0] * self.size[1] // (1 << self.log2_rows)) * self.tile_stride


@dataclass(frozen=True)
class Read:
    """A map as the next layer reads it: nonlinearity(norm(buffer)), shifted, then max-pooled."""

    buffer: Buffer
    producer: "Step | None" = None  # whose norm applies
    nonlin: nn.LeakyReLU | None = None
    group_shift: GroupShift | None = None
    local_shift: LocalShift | None = None
    pool: tuple[int, ...] = (1, 1, 1)


class Weights(NamedTuple):
    """Columns of a convolution's weight; those of the whole concatenation are more than those of one of its parts."""

    convolution: Any
    first_column: int = 0
    has_bias: bool = True


@dataclass(frozen=True, eq=False)
class Step:
    """out = weights · reads (+ the interpolation of `low`), and the moments for `norm`."""

    reads: tuple[Read, ...]
    out: Buffer
    weights: Weights | None = None  # None: the identity
    norm: nn.Module | None = None
    low: Buffer | None = None
    factor: tuple[int, ...] = (1, 1, 1)

    @property
    def log2_rows(self) -> int:
        """Rows of `out` that are computed at once, as a power of two: pooling reads more voxels than it writes."""
        window = max((math.prod(read.pool) for read in self.reads), default=1)
        channels = sum(read.buffer.channels for read in self.reads)
        if window == 1:
            return self.out.log2_rows
        return min(self.out.log2_rows, _log2(TILE_FLOATS // (channels * window * self.out.size[2])))


class Program(NamedTuple):
    """The steps of a network, from `image` to `logits`."""

    steps: list[Step]
    image: Buffer
    logits: Buffer
    n_axes: int  # 2 or 3


def program_of(network: Any, image_shape: Sequence[int]) -> Program:
    """Write down what a GSPUNet computes for an image.

    Args:
        network: a GSPUNet.
        image_shape: (N, C, D, H, W) or (N, C, H, W).

    Raises:
        NotFusable: where the fused layers would not compute the same, or the plain path would raise.
    """
    _, channels, *size = image_shape
    _check(len(size) in (2, 3) and max(size) < _MAX_VOXELS_AN_AXIS, image_shape)
    image = Buffer(channels, three(size, 1))
    writer = _Writer(len(size))
    skips = writer.encoder(network.encoder, Read(image))
    return Program(writer.steps, image, writer.decoder(network.decoder, skips), len(size))


def round_up(n: int, multiple: int = 16) -> int:
    """Round up, to whole cache lines of floats if nothing else is said."""
    return -(-n // multiple) * multiple


def three(values: Any, fill: int) -> tuple[int, ...]:
    """Return one value for each of D, H and W."""
    values = (values,) * 3 if isinstance(values, int) else tuple(values)
    return (fill,) * (3 - len(values)) + values


def _log2(n: int) -> int:
    return max(1, n).bit_length() - 1


class _Writer:
    """Appends steps, module by module, checked to compute what the module does in `n_axes` axes."""

    def __init__(self, n_axes: int) -> None:
        self.n_axes = n_axes
        self.steps: list[Step] = []

    def encoder(self, encoder: Any, read: Read) -> list[Read]:
        skips = []
        for pool, stage in zip(encoder.pools, encoder.stages, strict=True):
            read = self._block(stage, self._pooled(read, pool))
            skips.append(read)
        return skips

    def decoder(self, decoder: Any, skips: Sequence[Read]) -> Buffer:
        _check(not decoder.deep_supervision, "deep supervision")
        read = skips[-1]
        for upsampling, stage, skip in zip(decoder.upsamplings, decoder.stages, reversed(skips[:-1]), strict=True):
            read = self._decoder_stage(upsampling, stage, read, skip)
        head = decoder.seg_layers[len(decoder.stages) - 1]
        self._check_pointwise(head, read.buffer.channels)
        return self._append((read,), Weights(head)).out

    def _decoder_stage(self, upsampling: Any, stage: Any, read: Read, skip: Read) -> Read:
        low = self._convolution(upsampling.convolution, (read,))
        factor = self._factor(upsampling.interpolation, low.buffer.size, skip.buffer.size)
        first, n_columns = stage.convs[0], low.buffer.channels
        if isinstance(upsampling.shift, nn.Identity):
            # W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution
            self._check_pointwise(first.conv, n_columns + skip.buffer.channels)
            product = self._append((low,), Weights(first.conv))
            read = self._convolution(first, (skip,), Weights(first.conv, n_columns, False), product.out, factor)
        else:
            # a shift at the high resolution does not commute with the weights: it needs the interpolated map
            activated = self._append((low,), None)
            high = Step((), Buffer(n_columns, skip.buffer.size), low=activated.out, factor=factor)
            self.steps.append(high)
            read = self._convolution(first, (self._shifted(Read(high.out), upsampling.shift), skip))
        return self._block(stage, read, n_done=1)

    def _block(self, block: Any, read: Read, n_done: int = 0) -> Read:
        """Append a GSPConvBlock of which `n_done` convolutions, but not the shift behind them, are already there."""
        if n_done:
            read = self._shifted(read, block.shifts[n_done - 1])
        for convolution, shift in list(zip(block.convs, block.shifts, strict=True))[n_done:]:
            read = self._shifted(self._convolution(convolution, (read,)), shift)
        return read

    def _convolution(self, block: Any, reads: tuple[Read, ...], weights: Weights | None = None,
                     low: Buffer | None = None, factor: tuple[int, ...] = (1, 1, 1)) -> Read:
        """Append convolution, norm and nonlinearity of a ConvDropoutNormReLU."""
        weights = weights or Weights(block.conv)
        self._check_pointwise(block.conv, weights.first_column + sum(read.buffer.channels for read in reads))
        norm, nonlin = self._norm_and_nonlin(block)
        step = self._append(reads, weights, norm, low, factor)
        _check(norm is None or math.prod(step.out.size) > 1, "InstanceNorm of a single voxel")
        return Read(step.out, step, nonlin)

    def _append(self, reads: tuple[Read, ...], weights: Weights | None, norm: nn.Module | None = None,
                low: Buffer | None = None, factor: tuple[int, ...] = (1, 1, 1)) -> Step:
        channels = reads[0].buffer.channels if weights is None else weights.convolution.out_channels
        step = Step(reads, Buffer(channels, _pooled_size(reads[0])), weights, norm, low, factor)
        self.steps.append(step)
        return step

    def _pooled(self, read: Read, pool: nn.Module) -> Read:
        if isinstance(pool, nn.Identity):
            return read
        _check(type(pool) is {2: nn.MaxPool2d, 3: nn.MaxPool3d}[self.n_axes], pool)
        _check(pool.kernel_size == pool.stride and not pool.ceil_mode and not pool.return_indices, pool)
        _check(three(pool.padding, 0) == (0, 0, 0) and three(pool.dilation, 1) == (1, 1, 1), pool)
        stride = three(pool.stride, 1)
        _check(all(size % step == 0 for size, step in zip(read.buffer.size, stride, strict=True)), read.buffer.size)
        return replace(read, pool=stride)

    def _factor(self, interpolation: Any, low: tuple[int, ...], high: tuple[int, ...]) -> tuple[int, ...]:
        scale = interpolation.scale_factor
        _check(type(interpolation) is LinearUpsampling
               and interpolation.mode == {2: "bilinear", 3: "trilinear"}[self.n_axes]
               and not interpolation.align_corners and isinstance(scale, tuple) and len(scale) == self.n_axes
               and all(step == int(step) for step in scale), interpolation)
        factor = three([int(step) for step in scale], 1)
        _check(tuple(size * step for size, step in zip(low, factor, strict=True)) == high, interpolation)
        return factor

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
            _check(len(groups) == self.n_axes and min(groups) > 0 and 0 < n_shifted <= channels
                   and n_shifted % math.prod(groups) == 0
                   and all(n % count == 0 for n, count in zip(size, three(groups, 1), strict=True)), read.group_shift)
        if read.local_shift is not None:
            first, n_local = read.local_shift.first_channel, read.local_shift.shift_channels
            _check((first == n_shifted or read.group_shift is None) and 0 < n_local <= channels - first
                   and first >= 0 and n_local % (2 * self.n_axes) == 0, read.local_shift)

    def _norm_and_nonlin(self, block: Any) -> tuple[nn.Module | None, nn.LeakyReLU]:
        """Return the two of a ConvDropoutNormReLU, checked to come in this order."""
        convolution, *rest = [module for module in block.all_modules
                              if not isinstance(module, (nn.Dropout, nn.Dropout2d, nn.Dropout3d))]
        _check(convolution is block.conv and 1 <= len(rest) <= 2 and type(rest[-1]) is nn.LeakyReLU, block)
        norm = rest[0] if len(rest) == 2 else None
        if norm is not None:
            _check(type(norm) is {2: SteadyInstanceNorm2d, 3: SteadyInstanceNorm3d}[self.n_axes]
                   and not norm.track_running_stats, norm)
        return norm, rest[-1]

    def _check_pointwise(self, convolution: Any, channels: int) -> None:
        _check(type(convolution) in _CONVOLUTIONS[self.n_axes]
               and convolution.groups == 1 and convolution.in_channels == channels
               and {*convolution.kernel_size, *convolution.stride} == {1} and set(convolution.padding) == {0},
               convolution)


def _pooled_size(read: Read) -> tuple[int, ...]:
    return tuple(size // step for size, step in zip(read.buffer.size, read.pool, strict=True))


def _check(is_known: bool, what: object) -> None:
    if not is_known:
        raise NotFusable(f"not known to the fused layers: {what}")
