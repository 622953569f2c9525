"""A network as a sequence of fused layers: what each of them reads, computes and writes."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import nn

from nnunetv2_gsp.ops import GroupShift, LocalShift

# floats of a tile: all channels that a layer reads stay in the second-level cache until its last output is computed
TILE_FLOATS = 1 << 16
# longer runs through memory gain nothing more, and shorter ones lose more than a fitting tile gains
_MIN_VOXELS, _MAX_VOXELS = 512, 2048


class NotFusable(Exception):  # noqa: N818 (an answer, not a mistake: PyTorch takes over)
    """The network or the image is not supported by the fused layers; the message says why."""


class Buffer:
    """Memory for a map of `channels` × `size` (D, H, W; D is 1 in 2D), cut into tiles of whole rows.

    Examples:
        >>> Buffer(channels=32, size=(16, 128, 128)).log2_rows  # 16 rows of 128 voxels are a tile
        4
    """

    def __init__(self, channels: int, size: tuple[int, ...]):
        self.channels = channels
        self.size = size

    @cached_property
    def log2_rows(self) -> int:
        """Base-2 logarithm of the rows of a tile; a small map still has at least four tiles."""
        voxels = min(_MAX_VOXELS, max(_MIN_VOXELS, TILE_FLOATS // self.channels), max(16, math.prod(self.size) // 4))
        return _log2(min(voxels // self.size[2], self.size[0] * self.size[1]))

    @cached_property
    def channel_stride(self) -> int:
        """Number of floats from one channel of a tile to the next."""
        return round_up((1 << self.log2_rows) * self.size[2])

    @property
    def tile_stride(self) -> int:
        """Number of floats in a tile."""
        return self.channels * self.channel_stride

    @cached_property
    def sample_stride(self) -> int:
        """Number of floats in a sample."""
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
    """Columns of a convolution's weight: all of them, or those of one part of a concatenation."""

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
        """Base-2 logarithm of the rows of `out` computed at once: fewer behind a pooling, which reads more voxels."""
        window = max((math.prod(read.pool) for read in self.reads), default=1)
        channels = sum(read.buffer.channels for read in self.reads)
        if window == 1:
            return self.out.log2_rows
        return min(self.out.log2_rows, _log2(TILE_FLOATS // (channels * window * self.out.size[2])))


class Program(NamedTuple):
    """The steps of a network, from `image` to the logits of every resolution, the full one first."""

    steps: list[Step]
    image: Buffer
    logits: tuple[Buffer, ...]
    n_axes: int  # 2 or 3


def round_up(n: int, multiple: int = 16) -> int:
    """Round up to a multiple, by default to whole cache lines of floats.

    Examples:
        >>> round_up(17), round_up(17, multiple=4)
        (32, 20)
    """
    return -(-n // multiple) * multiple


def three(values: Any, fill: int) -> tuple[int, ...]:
    """Return one value for each of D, H and W.

    Examples:
        >>> three((2, 4), fill=1), three(2, fill=1)
        ((1, 2, 4), (2, 2, 2))
    """
    each = (values,) * 3 if isinstance(values, int) else tuple(values)
    return (*[fill] * (3 - len(each)), *each)


def _log2(n: int) -> int:
    return max(1, n).bit_length() - 1
