"""A GSPUNet as a flat program of fused layers: what each of them reads, computes and writes."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn

from nnunetv2_gsp.ops import GroupShift, LocalShift

# floats of a tile: all channels that a layer reads stay in the second-level cache until its last output is computed
TILE_FLOATS = 1 << 16
# longer runs through memory gain nothing more, and shorter ones lose more than a fitting tile gains
_MIN_VOXELS, _MAX_VOXELS = 512, 2048


class NotFusable(Exception):  # noqa: N818 (an answer, not a mistake: the plain path takes over)
    """The network or the image has something that the fused layers do not know; says what."""


class Buffer:
    """Memory for a map of `channels` × `size` (D, H, W; D is 1 in 2D), cut into tiles of whole rows."""

    def __init__(self, channels: int, size: tuple[int, ...]):
        self.channels = channels
        self.size = size

    @property
    def log2_rows(self) -> int:
        """Rows of a tile as a power of two; where the map is small there are at least four tiles."""
        voxels = min(_MAX_VOXELS, max(_MIN_VOXELS, TILE_FLOATS // self.channels), max(16, math.prod(self.size) // 4))
        return _log2(min(voxels // self.size[2], self.size[0] * self.size[1]))

    @property
    def channel_stride(self) -> int:
        """Floats from one channel of a tile to the next."""
        return round_up((1 << self.log2_rows) * self.size[2])

    @property
    def tile_stride(self) -> int:
        """Floats of a tile."""
        return self.channels * self.channel_stride

    @property
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

    convolution: nn.Module
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


def program_of(network: Any, image_size: Sequence[int]) -> Program:
    """Write down what a GSPUNet computes for an image.

    Args:
        network: a GSPUNet.
        image_size: (D, H, W) or (H, W).

    Raises:
        NotFusable: where the fused layers would not compute the same, or the plain path would raise.
    """
    writer = _Writer()
    first_convolution = network.encoder.stages[0].convs[0].conv
    image = Buffer(first_convolution.in_channels, _three(image_size, 1))
    skips = writer.encoder(network.encoder, Read(image))
    return Program(writer.steps, image, writer.decoder(network.decoder, skips), len(image_size))


def round_up(n: int, multiple: int = 16) -> int:
    """Round up, to whole cache lines of floats if nothing else is said."""
    return -(-n // multiple) * multiple


def _log2(n: int) -> int:
    return max(1, n).bit_length() - 1


class _Writer:
    """Appends steps, module by module."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def encoder(self, encoder: Any, read: Read) -> list[Read]:
        skips = []
        for pool, stage in zip(encoder.pools, encoder.stages, strict=True):
            read = self._block(stage, _pooled(read, pool))
            skips.append(read)
        return skips

    def decoder(self, decoder: Any, skips: Sequence[Read]) -> Buffer:
        read = skips[-1]
        for upsampling, stage, skip in zip(decoder.upsamplings, decoder.stages, reversed(skips[:-1]), strict=True):
            read = self._decoder_stage(upsampling, stage, read, skip)
        head = decoder.seg_layers[-1]
        return self._append((read,), head, Weights(head)).out

    def _decoder_stage(self, upsampling: Any, stage: Any, read: Read, skip: Read) -> Read:
        low = self._convolution(upsampling.convolution, (read,))
        factor = _factor(upsampling.interpolation, low.buffer.size, skip.buffer.size)
        first = stage.convs[0]
        if isinstance(upsampling.shift, nn.Identity):
            # W·cat(up(u), s) = up(W_u·u) + W_s·s: what belongs to u is computed at the low resolution
            n_columns = low.buffer.channels
            product = self._append((low,), first.conv, Weights(first.conv))
            read = self._convolution(first, (skip,), Weights(first.conv, n_columns, False), product.out, factor)
        else:
            # a shift at the high resolution does not commute with the weights: it needs the interpolated map
            activated = self._append((low,), None, None, Buffer(low.buffer.channels, low.buffer.size))
            high = Step((), Buffer(low.buffer.channels, skip.buffer.size), low=activated.out, factor=factor)
            self.steps.append(high)
            read = self._convolution(first, (_shifted(Read(high.out), upsampling.shift), skip))
        return self._block(stage, read, n_done=1)

    def _block(self, block: Any, read: Read, n_done: int = 0) -> Read:
        """Append a GSPConvBlock of which `n_done` convolutions, but not the shift behind them, are already there."""
        if n_done:
            read = _shifted(read, block.shifts[n_done - 1])
        for convolution, shift in list(zip(block.convs, block.shifts, strict=True))[n_done:]:
            read = _shifted(self._convolution(convolution, (read,)), shift)
        return read

    def _convolution(self, block: Any, reads: tuple[Read, ...], weights: Weights | None = None,
                     low: Buffer | None = None, factor: tuple[int, ...] = (1, 1, 1)) -> Read:
        """Append convolution, norm and nonlinearity of a ConvDropoutNormReLU."""
        norm, nonlin = _norm_and_nonlin(block)
        step = self._append(reads, block.conv, weights or Weights(block.conv), None, norm, low, factor)
        if norm is not None and math.prod(step.out.size) == 1:
            raise NotFusable("InstanceNorm of a single voxel")
        return Read(step.out, step, nonlin)

    def _append(self, reads: tuple[Read, ...], convolution: Any, weights: Weights | None, out: Buffer | None = None,
                norm: nn.Module | None = None, low: Buffer | None = None,
                factor: tuple[int, ...] = (1, 1, 1)) -> Step:
        if convolution is not None:
            _check_pointwise(convolution)
        size = _pooled_size(reads[0])
        out = out or Buffer(convolution.out_channels, size)
        step = Step(reads, out, weights, norm, low, factor)
        self.steps.append(step)
        return step


def _pooled(read: Read, pool: nn.Module) -> Read:
    if isinstance(pool, nn.Identity):
        return read
    _check(type(pool) in (nn.MaxPool2d, nn.MaxPool3d), pool)
    _check(pool.kernel_size == pool.stride and not pool.ceil_mode and not pool.return_indices, pool)
    _check(_three(pool.padding, 0) == (0, 0, 0) and _three(pool.dilation, 1) == (1, 1, 1), pool)
    stride = _three(pool.stride, 1)
    _check(all(size % step == 0 for size, step in zip(read.buffer.size, stride, strict=True)), read.buffer.size)
    return replace(read, pool=stride)


def _pooled_size(read: Read) -> tuple[int, ...]:
    return tuple(size // step for size, step in zip(read.buffer.size, read.pool, strict=True))


def _shifted(read: Read, shift: nn.Module) -> Read:
    for part in shift if isinstance(shift, nn.Sequential) else [shift]:
        if type(part) is GroupShift:
            groups = _three(part.spatial_groups, 1)
            _check(all(size % count == 0 for size, count in zip(read.buffer.size, groups, strict=True)), part)
            read = replace(read, group_shift=part)
        elif type(part) is LocalShift:
            _check(read.group_shift is None or part.first_channel == read.group_shift.shift_channels, part)
            read = replace(read, local_shift=part)
        else:
            _check(isinstance(part, nn.Identity), part)
    return read


def _factor(interpolation: Any, low: tuple[int, ...], high: tuple[int, ...]) -> tuple[int, ...]:
    _check(interpolation.mode in ("bilinear", "trilinear") and not interpolation.align_corners, interpolation)
    _check(isinstance(interpolation.scale_factor, tuple), interpolation)
    factor = _three(map(int, interpolation.scale_factor), 1)
    _check(tuple(size * step for size, step in zip(low, factor, strict=True)) == high, interpolation)
    return factor


def _norm_and_nonlin(block: Any) -> tuple[nn.Module | None, nn.LeakyReLU]:
    """Return the two of a ConvDropoutNormReLU, checked to come in this order."""
    convolution, *rest = [module for module in block.all_modules
                          if not isinstance(module, (nn.Dropout, nn.Dropout2d, nn.Dropout3d))]
    _check(convolution is block.conv and 1 <= len(rest) <= 2 and type(rest[-1]) is nn.LeakyReLU, block)
    norm = rest[0] if len(rest) == 2 else None
    if norm is not None:
        _check(type(norm) in (nn.InstanceNorm2d, nn.InstanceNorm3d) and not norm.track_running_stats, norm)
    return norm, rest[-1]


def _check_pointwise(convolution: Any) -> None:
    ones = {1}
    _check(type(convolution) in (nn.Conv2d, nn.Conv3d) and convolution.groups == 1
           and {*convolution.kernel_size, *convolution.stride} == ones and set(convolution.padding) == {0}, convolution)


def _three(values: Any, fill: int) -> tuple[int, ...]:
    """Return one value for each of D, H and W."""
    values = (values,) * 3 if isinstance(values, int) else tuple(values)
    return (fill,) * (3 - len(values)) + values


def _check(is_known: bool, what: object) -> None:
    if not is_known:
        raise NotFusable(f"not known to the fused layers: {what}")
