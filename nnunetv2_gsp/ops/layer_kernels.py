"""A pointwise convolution as Triton kernels that read each map once: what comes before it is done while loading.

    z = W · maxpool(shift(nonlinearity((y - mean) · scale + offset))) + interpolated(low),   and the moments of z

`y` is the raw product of the layer before; the norm between them is an affine map for each channel of each sample. A
shift is an address, so its transpose is: store the gradient where its value was loaded. Nothing is added up with
atomics; programs leave parts that are summed in a fixed order.

A tile is the voxels of a product. Where it lies within one spatial group (RUN > 0), a group shift is one number a
channel instead of one a voxel.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import floordiv
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunetv2_gsp.ops.gpu_layer import Access, Affine, Through, interpolation_factors, pooled

_MOST_TILES = 16  # of a program, which keeps its weights over them; behind a pooling, which loads more, it takes one
_ENOUGH_PROGRAMS = 1024  # to keep a card busy to the end; with fewer, a program takes fewer tiles
# where each leaves a whole block of a weight's gradient, which is more than the maps it comes from at low resolutions
_ENOUGH_WITH_WEIGHTS = 256
_BLOCK = 64  # channels of a product; with more, and 64 voxels, a thread's registers overflow
_LEAST_EDGE = 16  # of what tl.dot multiplies
_LOW_VOXELS = 256  # of a program that gathers the gradient of a map that was interpolated
_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)


class _Map(NamedTuple):
    """What a kernel is compiled for of the map that a product reads, (N, channels, D, H, W), D being 1 in 2D.

    Attributes:
        channels, d, h, w: its size.
        access: how it is read.
        first_axis: the first that a local shift moves along: 0, or 1 in 2D.
        channels_a_way: how many channels of a local shift move along one axis in one direction.
        run: how many voxels of a tile are neighbours, if a tile is rows within one spatial group; else 0.
        align: how many addresses lie together wherever they are loaded.
    """

    channels: int
    d: int
    h: int
    w: int
    access: Access
    first_axis: int
    channels_a_way: int
    run: int
    align: int


class _Tiles(NamedTuple):
    """What a kernel is compiled for of the voxels of a product.

    Attributes:
        voxels: of a sample and channel.
        size: voxels of a tile.
        a_program: tiles of a program.
        align: how many addresses of the product lie together wherever they are stored.
    """

    voxels: int
    size: int
    a_program: int
    align: int

    @property
    def parts(self) -> int:
        """Programs a sample and block of channels."""
        return _ceil(self.voxels, self.size * self.a_program)


class _Low(NamedTuple):
    """What a kernel is compiled for of a map that is interpolated: its size (D, H, W), and by which factors."""

    d: int
    h: int
    w: int
    f_d: int
    f_h: int
    f_w: int


def product(
    y: Tensor,
    affine: Affine | None,
    weight: Tensor,
    low: Tensor | None,
    slope: float,
    access: Access,
    dtype: torch.dtype,
    has_moments: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return z, (N, channels out, *spatial), and its mean and variance, (N, channels out) in fp32, or empty.

    Args:
        y: (N, C, *spatial), contiguous.
        affine: the norm of `y`; None: `y` as it is.
        weight: (channels out, C), contiguous, fp32.
        low: what the product is added to, after a linear interpolation to the size of z, which is a multiple of its
            own; (N, channels out, *low), contiguous; None: nothing.
        slope: of the nonlinearity below zero; 1: there is none.
        access: the shift and the pooling.
        dtype: of z, and of the factors of the product.
        has_moments: whether somebody asks for mean and variance.
    """
    n, channels_in, channels_out = y.shape[0], y.shape[1], weight.shape[0]
    z = y.new_empty(n, channels_out, *pooled(y.shape[2:], access), dtype=dtype)
    block_in, block_out = _block(channels_in), _block(channels_out)
    is_narrow = dtype.itemsize == 2 and block_in <= 64 and block_out <= 32
    n_blocks = _ceil(channels_out, block_out)
    is_interpolated = low is not None and low.shape != z.shape
    most_voxels = (32 if channels_in <= block_in else 16) if access.is_pooled else 128 if is_narrow else 64
    map_, tiles = _tiling(
        y, z, access, most_voxels // 2 if is_interpolated else most_voxels, n_blocks, has_one_tile=access.is_pooled
    )
    parts = torch.empty(2, n, channels_out, tiles.parts * has_moments, dtype=torch.float32, device=y.device).unbind()
    _product[(tiles.parts * n_blocks, n)](
        y,
        *(affine or (y, y, y)),
        weight,
        z if low is None else low,
        z,
        *parts,
        slope,
        NORM=affine is not None,
        ADDED=low is not None,
        MOMENTS=has_moments,
        MAP=map_,
        LOW=_interpolation(*(tuple(each.shape[2:]) for each in (z if low is None else low, z))),
        TILES=tiles,
        CO=channels_out,
        BCI=block_in,
        BCO=block_out,
        STAGES=3 if is_narrow and not access.is_pooled else 1,
        num_warps=8 if is_interpolated else 4,
    )
    if not has_moments:
        return z, y.new_empty(n, 0, dtype=torch.float32), y.new_empty(n, 0, dtype=torch.float32)
    mean, variance = (torch.empty(n, channels_out, dtype=torch.float32, device=y.device) for _ in range(2))
    _moments[(n * channels_out,)](
        *parts,
        mean,
        variance,
        V=tiles.voxels,
        PARTS=tiles.parts,
        COUNT=tiles.size * tiles.a_program,
        BLOCK=_power_of_two(tiles.parts),
    )
    return z, mean, variance


def norm(
    mean: Tensor,
    variance: Tensor,
    bias: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    least: float,
) -> Affine:
    """Return mean, scale and offset of the norm of a product, (N, C) in fp32.

    Args:
        mean, variance, bias, gamma, beta, eps: as in `gpu_layer.norm`.
        least: the least variance that is none of rounding, as a part of the mean over the channels of mean².
    """
    n, channels = mean.shape
    scale, offset = torch.empty(2, n, channels, dtype=torch.float32, device=mean.device).unbind()
    _norm[(n,)](
        mean,
        variance,
        mean if bias is None else bias,
        mean if gamma is None else gamma,
        mean if beta is None else beta,
        scale,
        offset,
        eps,
        least,
        BIAS=bias is not None,
        GAMMA=gamma is not None,
        BETA=beta is not None,
        C=channels,
        BLOCK=_power_of_two(channels),
    )
    return Affine(mean, scale, offset)


def gradients(
    dz: Tensor,
    through: Through | None,
    y: Tensor,
    affine: Affine | None,
    weight: Tensor,
    slope: float,
    access: Access,
    factors: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of y, of scale and offset, (2, N, C), of the weight and of `low` (or empty).

    Args:
        dz: of the product, contiguous.
        through: how z counts through its moments; None: it does not.
        y, affine, weight, slope, access: as in `product`.
        factors: by which `low` was interpolated, one an axis; none: there was none.
    """
    n, channels_in, channels_out = y.shape[0], y.shape[1], weight.shape[0]
    block_in, block_out = _block(channels_in), _block(channels_out)
    is_one_kernel = channels_in <= block_in and channels_out <= block_out
    is_half, n_blocks = dz.element_size() == 2, _ceil(channels_in, block_in)
    map_, tiles = _tiling(y, dz, access, 16 if access.is_pooled else 64 if is_half else 32, n_blocks)
    dy, dhigh = torch.empty_like(y), torch.empty_like(dz) if factors else dz.new_empty(0)
    daffine = torch.empty(2, n, channels_in, tiles.parts, dtype=torch.float32, device=y.device)
    dweight = y.new_empty(n * tiles.parts if is_one_kernel else 0, channels_out, channels_in, dtype=torch.float32)
    _gradients[(tiles.parts * n_blocks, n)](
        y,
        *(affine or (y, y, y)),
        weight,
        dz,
        *(through or (dz, dz, dz, dz)),
        dy,
        *daffine,
        dweight,
        dhigh,
        slope,
        NORM=affine is not None,
        ADDED=len(factors) > 0,
        MOMENTS=through is not None,
        WEIGHT=is_one_kernel,
        MAP=map_,
        TILES=tiles,
        CO=channels_out,
        BCI=block_in,
        BCO=block_out,
        STAGES=3 if is_half and max(block_in, block_out) <= 32 and not access.is_pooled else 1,
        FENCE=_is_fenced(dz),
        num_warps=8 if min(block_in, block_out) >= 64 else 4,
    )
    dweight = dweight.sum(0) if is_one_kernel else gradient_of_weight(dz, through, y, affine, weight, slope, access)
    return dy, daffine.sum(3), dweight, _gradient_of_low(dhigh, factors)


def gradient_of_weight(
    dz: Tensor, through: Through | None, y: Tensor, affine: Affine | None, weight: Tensor, slope: float, access: Access
) -> Tensor:
    """Return the gradient of the weight alone, (channels out, C) in fp32; arguments as in `gradients`."""
    n, channels_in, channels_out = y.shape[0], y.shape[1], weight.shape[0]
    block_in, block_out = _block(channels_in), _block(channels_out)
    n_blocks = _ceil(channels_in, block_in) * _ceil(channels_out, block_out)
    map_, tiles = _tiling(y, dz, access, 16 if access.is_pooled else 64, n_blocks, leaves_weights=True)
    dweight = y.new_empty(n * tiles.parts, channels_out, channels_in, dtype=torch.float32)
    _gradient_of_weight[(tiles.parts * n_blocks, n)](
        y,
        *(affine or (y, y, y)),
        dz,
        *(through or (dz, dz, dz, dz)),
        dweight,
        slope,
        NORM=affine is not None,
        MOMENTS=through is not None,
        MAP=map_,
        TILES=tiles,
        CO=channels_out,
        BCI=block_in,
        BCO=block_out,
        STAGES=1,
        FENCE=_is_fenced(dz),
        num_warps=4,
    )
    return dweight.sum(0)


def _gradient_of_low(dhigh: Tensor, factors: Sequence[int]) -> Tensor:
    """Return the gradient of a map, (N, C, *low), from that of what it is interpolated to by these factors.

    Computed from indices alone: weights kept from one call to the next are nothing that a CUDA graph allows.
    """
    if math.prod(factors) == 1:
        return dhigh
    n, channels, *size = dhigh.shape
    dlow = dhigh.new_empty(n, channels, *map(floordiv, size, factors))
    _low_gradient[(_ceil(dlow[0].numel(), _LOW_VOXELS), n)](
        dhigh, dlow, LOW=_interpolation(tuple(dlow.shape[2:]), tuple(size)), C=channels, BLOCK=_LOW_VOXELS
    )
    return dlow


def _tiling(
    y: Tensor,
    z: Tensor,
    access: Access,
    most_voxels: int,
    n_blocks: int,
    leaves_weights: bool = False,
    has_one_tile: bool = False,
) -> tuple[_Map, _Tiles]:
    """Return how y is read, and tiles of at most so many voxels for the product z, of so many blocks of channels."""
    # the same for every step, and no short computation beside a launch
    return _tiling_of(
        tuple(y.shape),
        tuple(z.shape[2:]),
        access,
        most_voxels,
        n_blocks,
        _ENOUGH_WITH_WEIGHTS if leaves_weights else _ENOUGH_PROGRAMS,
        1 if has_one_tile else _MOST_TILES,
    )


@lru_cache(maxsize=1000)
def _tiling_of(
    shape: tuple[int, ...],
    size_out: tuple[int, ...],
    access: Access,
    most_voxels: int,
    n_blocks: int,
    enough: int,
    most_tiles: int,
) -> tuple[_Map, _Tiles]:
    n_samples, channels, *size = shape
    n_axes, voxels = len(size), math.prod(size_out)
    tile = max(_LEAST_EDGE, min(most_voxels, _power_of_two(voxels)))
    d, h, w = size = [1] * (3 - n_axes) + size
    if access.shift_channels == access.local_channels == 0 and not access.is_pooled:
        d, h, w = size = [1, 1, voxels]  # nothing moves: any shape does, and equal numbers of voxels are compiled once
    run = _run(size, access, tile)
    # a power of two, so that few kernels are compiled
    tiles_of_all = _ceil(voxels, tile) * n_samples * n_blocks
    a_program = min(most_tiles, 1 << max((tiles_of_all // enough).bit_length() - 1, 0))
    moves_within_rows = access.is_pooled or access.local_channels > 0
    together = voxels if access.shift_channels == 0 else run or w // access.g_w
    return (
        _Map(
            channels,
            d,
            h,
            w,
            access,
            first_axis=3 - n_axes,
            channels_a_way=max(access.local_channels // (2 * n_axes), 1),
            run=run,
            align=1 if moves_within_rows else math.gcd(8, together, voxels),
        ),
        _Tiles(voxels, tile, a_program, align=math.gcd(8, voxels, run or tile)),
    )


def _run(size: list[int], access: Access, tile: int) -> int:
    """Return how many voxels of a tile are neighbours if it can be rows of one spatial group, else 0."""
    if access.shift_channels == 0 or access.is_pooled:
        return 0
    run = math.gcd(size[2] // access.g_w, tile)  # a tile is a power of two
    return run if size[1] // access.g_h % (tile // run) == 0 else 0


@lru_cache(maxsize=1000)
def _interpolation(low: tuple[int, ...], size: tuple[int, ...]) -> _Low:
    one = (1,) * (3 - len(size))
    return _Low(*one, *low, *one, *interpolation_factors(low, size))


def _block(channels: int) -> int:
    return max(_LEAST_EDGE, min(_BLOCK, _power_of_two(channels)))


def _power_of_two(n: int) -> int:
    """Return the least that is not below n; `triton.next_power_of_2` is a compiler's, and slow."""
    return 1 << (n - 1).bit_length()


def _ceil(n: int, step: int) -> int:
    return -(-n // step)


def _is_fenced(dz: Tensor) -> bool:
    return dz.is_cuda and dz.element_size() == 2 and torch.version.cuda is not None


@triton.jit
def _dot(a, b, acc):
    """Multiply on the tensor cores; factors in fp32 as three products of their leading and trailing bits."""
    return tl.dot(a, b, acc, input_precision="tf32x3")


@triton.jit
def _fence(x):
    """Keep what made the half-precision x where it is: else the compiler makes it again for each warp that reads it."""
    return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], dtype=x.dtype, is_pure=False, pack=2)


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _add_pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def _sum(a, AXIS: tl.constexpr):
    """Sum over an axis."""
    return tl.reduce(a, AXIS, _add)


@triton.jit
def _sums(a, b):
    """Sum both over voxels, in one exchange between warps."""
    return tl.reduce((a, b), 1, _add_pairs)


@triton.jit
def _aligned(at, ALIGN: tl.constexpr):
    """Say that runs of ALIGN addresses lie together, so that they are loaded at once."""
    if ALIGN > 1:
        at = tl.max_contiguous(tl.multiple_of(at, (1, ALIGN)), (1, ALIGN))
    return at


@triton.jit
def _per_channel(values, n, c, C: tl.constexpr):
    """Load (N, C) numbers of one sample as a column."""
    return tl.load(values + n * C + c, mask=c < C, other=0.0)[:, None]


@triton.jit
def _norm_of(mean, scale, offset, n, c, NORM: tl.constexpr, C: tl.constexpr):
    """Load the norm of channels c as three columns, if there is one."""
    m, s, o = 0.0, 0.0, 0.0
    if NORM:
        m, s, o = _per_channel(mean, n, c, C), _per_channel(scale, n, c, C), _per_channel(offset, n, c, C)
    return m, s, o


@triton.jit
def _weight_of(weight, co, c, MAP: tl.constexpr, CO: tl.constexpr):
    """Load a block of the weight, or where co is a row and c a column, of its transpose."""
    return tl.load(weight + co * MAP.channels + c, mask=(co < CO) & (c < MAP.channels), other=0.0)


@triton.jit
def _voxels(tile, MAP: tl.constexpr, TILES: tl.constexpr):
    """Return the first voxel of a tile, and all of them."""
    i = tl.arange(0, TILES.size)
    if MAP.run == 0:
        first = tile * TILES.size
        v = first + i
    else:
        RUNS: tl.constexpr = MAP.w // MAP.run
        first = tile // RUNS * (TILES.size // MAP.run) * MAP.w + tile % RUNS * MAP.run
        v = first + i // MAP.run * MAP.w + i % MAP.run
    return first, v


@triton.jit
def _sources(c, v, first, ok, MAP: tl.constexpr):
    """Return where in its sample channel c of the shifted map finds voxel v, and whether there is something.

    What a local shift would read outside of the map is 0. Its address is then that of the voxel that nobody reads, so
    that the addresses are a permutation all the same, and a backward pass writes each voxel once.
    """
    D: tl.constexpr = MAP.d
    H: tl.constexpr = MAP.h
    W: tl.constexpr = MAP.w
    ACCESS: tl.constexpr = MAP.access
    at = c[:, None] * (D * H * W) + v[None, :]
    if ACCESS.shift_channels > 0:
        GD: tl.constexpr = ACCESS.g_d
        GH: tl.constexpr = ACCESS.g_h
        G: tl.constexpr = GD * GH * ACCESS.g_w
        BD: tl.constexpr = D // GD
        BH: tl.constexpr = H // GH
        BW: tl.constexpr = W // ACCESS.g_w
        CS: tl.constexpr = ACCESS.shift_channels
        here = v[None, :] if MAP.run == 0 else first
        gd, gh, gw = here // (H * W) // BD, here // W % H // BH, here % W // BW
        source = gd + gh * GD + gw * (GD * GH) - tl.where(c < CS, c // (CS // G), 0)[:, None]  # Eq. 2-4
        source = tl.where(source < 0, source + G, source)
        at += (
            (source % GD - gd) * (BD * H * W) + (source // GD % GH - gh) * (BH * W) + (source // (GD * GH) - gw) * BW
        )  # Eq. 5-7
    if ACCESS.local_channels > 0:
        nth = c - ACCESS.first_local
        moves = (nth >= 0) & (nth < ACCESS.local_channels)
        way = tl.where(moves, nth // MAP.channels_a_way, 0)
        axis = tl.where(moves, way // 2 + MAP.first_axis, -1)[:, None]
        step = (1 - way % 2 * 2)[:, None]  # the source of an even direction lies ahead
        d, h, w = (v // (H * W))[None, :], (v // W % H)[None, :], (v % W)[None, :]
        to_d, to_h, to_w = (
            d + tl.where(axis == 0, step, 0),
            h + tl.where(axis == 1, step, 0),
            w + tl.where(axis == 2, step, 0),
        )
        ok = ok & (to_d >= 0) & (to_d < D) & (to_h >= 0) & (to_h < H) & (to_w >= 0) & (to_w < W)
        at += ((to_d + D) % D - d) * (H * W) + ((to_h + H) % H - h) * W + (to_w + W) % W - w
    return _aligned(at, MAP.align), ok


@triton.jit
def _load(y, c, v, first, ok, mean, scale, offset, i, NORM: tl.constexpr, MAP: tl.constexpr):
    """Load voxel i of the pooling windows: its address, whether it is there, its value without mean, and normalised."""
    PD: tl.constexpr = MAP.access.pool_d
    PH: tl.constexpr = MAP.access.pool_h
    PW: tl.constexpr = MAP.access.pool_w
    if PD * PH * PW > 1:
        HO: tl.constexpr = MAP.h // PH
        WO: tl.constexpr = MAP.w // PW
        d, h, w = v // (HO * WO) * PD + i // (PH * PW), v // WO % HO * PH + i // PW % PH, v % WO * PW + i % PW
        v = (d * MAP.h + h) * MAP.w + w
    at, is_there = _sources(c, v, first, ok, MAP)
    value = tl.load(y + at, mask=is_there, other=0.0).to(tl.float32)
    normalised = value
    if NORM:
        value -= mean
        normalised = value * scale + offset
    return at, is_there, value, normalised


@triton.jit
def _activated(normalised, is_there, slope, MAP: tl.constexpr):
    x = tl.where(normalised > 0, normalised, normalised * slope)
    if MAP.access.local_channels > 0:
        x = tl.where(is_there, x, 0.0)
    return x


@triton.jit
def _input(y, c, v, first, ok, mean, scale, offset, slope, NORM: tl.constexpr, MAP: tl.constexpr):
    """Return what a product multiplies, which voxel of each window that was, and how the first was loaded."""
    WINDOW: tl.constexpr = MAP.access.pool_d * MAP.access.pool_h * MAP.access.pool_w
    at, is_there, value, normalised = _load(y, c, v, first, ok, mean, scale, offset, 0, NORM, MAP)
    x = _activated(normalised, is_there, slope, MAP)
    which = at * 0
    for i in tl.static_range(1, WINDOW):
        _, there, _, other = _load(y, c, v, first, ok, mean, scale, offset, i, NORM, MAP)
        other = _activated(other, there, slope, MAP)
        is_larger = (other > x) | (other != other)  # the first of equal ones counts, and what is not a number stays
        x, which = tl.where(is_larger, other, x), tl.where(is_larger, i, which)
    return x, which, at, is_there, value, normalised


@triton.jit
def _whole_gradient(
    dz, z, mean, dmean, dvariance, n, co, v, MOMENTS: tl.constexpr, TILES: tl.constexpr, CO: tl.constexpr
):
    """Return what reaches z in all, directly and through its moments, in fp32."""
    V: tl.constexpr = TILES.voxels
    ok = (co < CO)[:, None] & (v < V)[None, :]
    at = _aligned(co[:, None] * V + v[None, :], TILES.align)
    sample = n.to(tl.int64) * CO * V
    e = tl.load(dz + sample + at, mask=ok, other=0.0).to(tl.float32)
    if MOMENTS:
        deviation = tl.load(z + sample + at, mask=ok, other=0.0).to(tl.float32) - _per_channel(mean, n, co, CO)
        e += _per_channel(dmean, n, co, CO) / V + _per_channel(dvariance, n, co, CO) * (2.0 / V) * deviation
        if V % (TILES.size * TILES.a_program) != 0:
            e = tl.where(ok, e, 0.0)
    return e


@triton.jit
def _between(v, L: tl.constexpr, F: tl.constexpr):
    """Return the two low voxels of an axis between which voxel v lies, and the part of the way to the second.

    Pixels are areas: the middle of voxel v lies at (v + 1/2) / F - 1/2. Beyond the outermost one, both are the same.
    """
    near, phase = v // F, v % F
    far = near + tl.where(2 * phase + 1 < F, -1, 1)
    return near, tl.minimum(tl.maximum(far, 0), L - 1), tl.abs((2 * phase + 1 - F) / (2.0 * F))


@triton.jit
def _along_w(low, at, near, far, part, ok, F: tl.constexpr):
    x = tl.load(low + at + near[None, :], mask=ok, other=0.0).to(tl.float32)
    if F > 1:  # a + t·(b - a) is a where b is: a constant map stays constant to the last bit
        x += part[None, :] * (tl.load(low + at + far[None, :], mask=ok, other=0.0).to(tl.float32) - x)
    return x


@triton.jit
def _interpolated(low, co, v, ok, LOW: tl.constexpr, ALIGN: tl.constexpr):
    """Load what a map of lower resolution comes to at voxels v."""
    LD: tl.constexpr = LOW.d
    LH: tl.constexpr = LOW.h
    LW: tl.constexpr = LOW.w
    FD: tl.constexpr = LOW.f_d
    FH: tl.constexpr = LOW.f_h
    FW: tl.constexpr = LOW.f_w
    if FD * FH * FW == 1:
        x = tl.load(low + _aligned(co[:, None] * (LD * LH * LW) + v[None, :], ALIGN), mask=ok, other=0.0)
        x = x.to(tl.float32)
    else:
        near_w, far_w, part_w = _between(v % (LW * FW), LW, FW)
        near_h, far_h, part_h = _between(v // (LW * FW) % (LH * FH), LH, FH)
        near_d, far_d, part_d = _between(v // (LW * FW * LH * FH), LD, FD)
        channel = co[:, None] * (LD * LH * LW)
        x = _along_w(low, channel + ((near_d * LH + near_h) * LW)[None, :], near_w, far_w, part_w, ok, FW)
        if FH > 1:
            x += part_h[None, :] * (
                _along_w(low, channel + ((near_d * LH + far_h) * LW)[None, :], near_w, far_w, part_w, ok, FW) - x
            )
        if FD > 1:
            behind = _along_w(low, channel + ((far_d * LH + near_h) * LW)[None, :], near_w, far_w, part_w, ok, FW)
            if FH > 1:
                behind += part_h[None, :] * (
                    _along_w(low, channel + ((far_d * LH + far_h) * LW)[None, :], near_w, far_w, part_w, ok, FW)
                    - behind
                )
            x += part_d[None, :] * (behind - x)
    return x


@triton.jit
def _product(
    y,
    mean,
    scale,
    offset,
    weight,
    low,
    z,
    part_mean,
    part_m2,
    slope,
    NORM: tl.constexpr,
    ADDED: tl.constexpr,
    MOMENTS: tl.constexpr,
    MAP: tl.constexpr,
    LOW: tl.constexpr,
    TILES: tl.constexpr,
    CO: tl.constexpr,
    BCI: tl.constexpr,
    BCO: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute a block of channels of some tiles, and their moments around the mean of the first, so nothing cancels."""
    CI: tl.constexpr = MAP.channels
    V: tl.constexpr = TILES.voxels
    OF_PART: tl.constexpr = TILES.size * TILES.a_program
    BLOCKS: tl.constexpr = (CO + BCO - 1) // BCO
    # blocks of the same tiles are neighbours: they share their input
    part, parts, n = tl.program_id(0) // BLOCKS, tl.num_programs(0) // BLOCKS, tl.program_id(1)
    c, co = tl.arange(0, BCI), tl.program_id(0) % BLOCKS * BCO + tl.arange(0, BCO)
    m, s, o = _norm_of(mean, scale, offset, n, c, NORM, CI)
    dtype = z.dtype.element_ty
    w = _weight_of(weight, co[:, None], c[None, :], MAP, CO).to(dtype)
    y += n.to(tl.int64) * CI * (MAP.d * MAP.h * MAP.w)
    sample = n.to(tl.int64) * CO * V
    centre = tl.full((BCO,), 0.0, tl.float32)
    s1, s2 = tl.full((BCO,), 0.0, tl.float32), tl.full((BCO,), 0.0, tl.float32)
    for turn in tl.range(0, TILES.a_program, num_stages=STAGES):
        first, v = _voxels(part * TILES.a_program + turn, MAP, TILES)
        is_real = (v < V)[None, :]
        x, _, _, _, _, _ = _input(y, c, v, first, (c < CI)[:, None] & is_real, m, s, o, slope, NORM, MAP)
        acc = _dot(w, x.to(dtype), tl.full((BCO, TILES.size), 0.0, tl.float32))
        for block in range(1, (CI + BCI - 1) // BCI):
            k = block * BCI + c
            km, ks, ko = _norm_of(mean, scale, offset, n, k, NORM, CI)
            x, _, _, _, _, _ = _input(y, k, v, first, (k < CI)[:, None] & is_real, km, ks, ko, slope, NORM, MAP)
            acc = _dot(_weight_of(weight, co[:, None], k[None, :], MAP, CO).to(dtype), x.to(dtype), acc)
        ok = (co < CO)[:, None] & is_real
        at = _aligned(co[:, None] * V + v[None, :], TILES.align)
        if ADDED:
            acc += _interpolated(low + n.to(tl.int64) * CO * (LOW.d * LOW.h * LOW.w), co, v, ok, LOW, TILES.align)
        rounded = acc.to(dtype)
        tl.store(z + sample + at, rounded, mask=ok)
        if MOMENTS:
            values = rounded.to(tl.float32)
            if V % TILES.size != 0:
                values = tl.where(ok, values, 0.0)
            if turn == 0:
                centre = _sum(values, 1) / tl.minimum(V - part * OF_PART, TILES.size)
            off = values - centre[:, None]
            if V % OF_PART != 0:
                off = tl.where(ok, off, 0.0)
            d1, d2 = _sums(off, off * off)
            s1, s2 = s1 + d1, s2 + d2
    if MOMENTS:
        count = tl.minimum(V - part * OF_PART, OF_PART)
        at = (n * CO + co) * parts + part
        tl.store(part_mean + at, centre + s1 / count, mask=co < CO)
        tl.store(part_m2 + at, s2 - s1 * s1 / count, mask=co < CO)


@triton.jit
def _moments(
    part_mean, part_m2, mean, variance, V: tl.constexpr, PARTS: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr
):
    """Merge the parts' moments (Chan et al.); all parts but the last have COUNT voxels."""
    i = tl.arange(0, BLOCK)
    count = tl.minimum(V - i * COUNT, COUNT).to(tl.float32)
    is_part = i < PARTS
    means = tl.load(part_mean + tl.program_id(0) * PARTS + i, mask=is_part, other=0.0)
    squares = tl.load(part_m2 + tl.program_id(0) * PARTS + i, mask=is_part, other=0.0)
    of_all = _sum(tl.where(is_part, means * (count / V), 0.0), 0)
    off = means - of_all
    tl.store(mean + tl.program_id(0), of_all)
    tl.store(variance + tl.program_id(0), _sum(tl.where(is_part, squares + off * off * count, 0.0), 0) / V)


@triton.jit
def _norm(
    mean,
    variance,
    bias,
    gamma,
    beta,
    scale,
    offset,
    eps,
    least,
    BIAS: tl.constexpr,
    GAMMA: tl.constexpr,
    BETA: tl.constexpr,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute scale and offset of one sample's channels, as `instance_norm` has them."""
    c = tl.arange(0, BLOCK)
    at, is_channel = tl.program_id(0) * C + c, c < C
    m = tl.load(mean + at, mask=is_channel, other=0.0)
    v = tl.load(variance + at, mask=is_channel, other=0.0)
    if BIAS:
        m += tl.load(bias + c, mask=is_channel, other=0.0).to(tl.float32)
    threshold = _sum(m * m, 0) / C * least
    keep = (v - threshold) / (threshold + _TINY)
    s = tl.where(keep < 0, 0.0, tl.where(keep > 1, 1.0, keep)) * tl.rsqrt(v + eps)  # what is not a number stays none
    o = tl.full((BLOCK,), 0.0, tl.float32)
    if GAMMA:
        s *= tl.load(gamma + c, mask=is_channel, other=0.0).to(tl.float32)
    if BETA:
        o += tl.load(beta + c, mask=is_channel, other=0.0).to(tl.float32)
    tl.store(scale + at, s, mask=is_channel)
    tl.store(offset + at, o, mask=is_channel)


@triton.jit
def _gradients(
    y,
    mean,
    scale,
    offset,
    weight,
    dz,
    z,
    z_mean,
    dmean,
    dvariance,
    dy,
    dscale,
    doffset,
    dweight,
    dhigh,
    slope,
    NORM: tl.constexpr,
    ADDED: tl.constexpr,
    MOMENTS: tl.constexpr,
    WEIGHT: tl.constexpr,
    MAP: tl.constexpr,
    TILES: tl.constexpr,
    CO: tl.constexpr,
    BCI: tl.constexpr,
    BCO: tl.constexpr,
    STAGES: tl.constexpr,
    FENCE: tl.constexpr,
):
    """Compute what a block of channels of y gets from some tiles, and parts of what weight, scale and offset get."""
    CI: tl.constexpr = MAP.channels
    V: tl.constexpr = TILES.voxels
    WINDOW: tl.constexpr = MAP.access.pool_d * MAP.access.pool_h * MAP.access.pool_w
    BLOCKS: tl.constexpr = (CI + BCI - 1) // BCI
    part, parts, n = tl.program_id(0) // BLOCKS, tl.num_programs(0) // BLOCKS, tl.program_id(1)
    c, co = tl.program_id(0) % BLOCKS * BCI + tl.arange(0, BCI), tl.arange(0, BCO)
    # programs of the other blocks of channels have the same e
    real, is_first = c < CI, tl.program_id(0) % BLOCKS == 0
    m, s, o = _norm_of(mean, scale, offset, n, c, NORM, CI)
    dtype = dz.dtype.element_ty
    wt = _weight_of(weight, co[None, :], c[:, None], MAP, CO).to(dtype)
    y += n.to(tl.int64) * CI * (MAP.d * MAP.h * MAP.w)
    dy += n.to(tl.int64) * CI * (MAP.d * MAP.h * MAP.w)
    dhigh += n.to(tl.int64) * CO * V
    dw = tl.full((BCO, BCI), 0.0, tl.float32)
    ds, do = tl.full((BCI,), 0.0, tl.float32), tl.full((BCI,), 0.0, tl.float32)
    for turn in tl.range(0, TILES.a_program, num_stages=STAGES):
        first, v = _voxels(part * TILES.a_program + turn, MAP, TILES)
        ok = real[:, None] & (v < V)[None, :]
        e = _whole_gradient(dz, z, z_mean, dmean, dvariance, n, co, v, MOMENTS, TILES, CO).to(dtype)
        if FENCE:
            e = _fence(e)
        if ADDED:
            _store_once(dhigh, e, co, v, is_first, TILES, CO)
        x, which, at, is_there, value, normalised = _input(y, c, v, first, ok, m, s, o, slope, NORM, MAP)
        if WEIGHT:
            dw = _dot(e, tl.trans(x.to(dtype)), dw)
        g = _dot(wt, e, tl.full((BCI, TILES.size), 0.0, tl.float32))
        for block in range(1, (CO + BCO - 1) // BCO):
            k = block * BCO + co
            e = _whole_gradient(dz, z, z_mean, dmean, dvariance, n, k, v, MOMENTS, TILES, CO).to(dtype)
            if ADDED:
                _store_once(dhigh, e, k, v, is_first, TILES, CO)
            g = _dot(_weight_of(weight, k[None, :], c[:, None], MAP, CO).to(dtype), e, g)
        with_value, alone = tl.full((BCI, TILES.size), 0.0, tl.float32), tl.full((BCI, TILES.size), 0.0, tl.float32)
        for i in tl.static_range(WINDOW):
            mine = g
            if WINDOW > 1:
                mine = tl.where(which == i, g, 0.0)
                at, is_there, value, normalised = _load(y, c, v, first, ok, m, s, o, i, NORM, MAP)
            if MAP.access.local_channels > 0:
                mine = tl.where(is_there, mine, 0.0)
            mine = tl.where(normalised > 0, mine, mine * slope)
            tl.store(dy + at, (mine * s if NORM else mine).to(dy.dtype.element_ty), mask=ok)
            if NORM:
                with_value, alone = with_value + mine * value, alone + mine
        if NORM:
            d1, d2 = _sums(with_value, alone)
            ds, do = ds + d1, do + d2
    tl.store(dscale + (n * CI + c) * parts + part, ds, mask=real)
    tl.store(doffset + (n * CI + c) * parts + part, do, mask=real)
    if WEIGHT:
        tl.store(
            dweight + (n * parts + part) * (CO * CI) + co[:, None] * CI + c[None, :],
            dw,
            mask=(co < CO)[:, None] & real[None, :],
        )


@triton.jit
def _store_once(dhigh, e, co, v, is_first, TILES: tl.constexpr, CO: tl.constexpr):
    """Store what reaches z, for what was added to it."""
    at = _aligned(co[:, None] * TILES.voxels + v[None, :], TILES.align)
    tl.store(dhigh + at, e, mask=(co < CO)[:, None] & (v < TILES.voxels)[None, :] & is_first)


@triton.jit
def _gradient_of_weight(
    y,
    mean,
    scale,
    offset,
    dz,
    z,
    z_mean,
    dmean,
    dvariance,
    dweight,
    slope,
    NORM: tl.constexpr,
    MOMENTS: tl.constexpr,
    MAP: tl.constexpr,
    TILES: tl.constexpr,
    CO: tl.constexpr,
    BCI: tl.constexpr,
    BCO: tl.constexpr,
    STAGES: tl.constexpr,
    FENCE: tl.constexpr,
):
    """Compute a part of a block of the weight's gradient, from some tiles."""
    CI: tl.constexpr = MAP.channels
    BLOCKS: tl.constexpr = (CI + BCI - 1) // BCI
    ALL_BLOCKS: tl.constexpr = BLOCKS * ((CO + BCO - 1) // BCO)
    part, parts, n = tl.program_id(0) // ALL_BLOCKS, tl.num_programs(0) // ALL_BLOCKS, tl.program_id(1)
    c = tl.program_id(0) % BLOCKS * BCI + tl.arange(0, BCI)
    co = tl.program_id(0) % ALL_BLOCKS // BLOCKS * BCO + tl.arange(0, BCO)
    m, s, o = _norm_of(mean, scale, offset, n, c, NORM, CI)
    dtype = dz.dtype.element_ty
    y += n.to(tl.int64) * CI * (MAP.d * MAP.h * MAP.w)
    dw = tl.full((BCO, BCI), 0.0, tl.float32)
    for turn in tl.range(0, TILES.a_program, num_stages=STAGES):
        first, v = _voxels(part * TILES.a_program + turn, MAP, TILES)
        e = _whole_gradient(dz, z, z_mean, dmean, dvariance, n, co, v, MOMENTS, TILES, CO).to(dtype)
        if FENCE:
            e = _fence(e)
        ok = (c < CI)[:, None] & (v < TILES.voxels)[None, :]
        x, _, _, _, _, _ = _input(y, c, v, first, ok, m, s, o, slope, NORM, MAP)
        dw = _dot(e, tl.trans(x.to(dtype)), dw)
    tl.store(
        dweight + (n * parts + part) * (CO * CI) + co[:, None] * CI + c[None, :],
        dw,
        mask=(co < CO)[:, None] & (c < CI)[None, :],
    )


@triton.jit
def _share(low, step, L: tl.constexpr, F: tl.constexpr):
    """Return the voxel so many steps behind the first of low voxel's own, whether it exists, and low's weight in it.

    As in `_between`, the middle of step s lies (s + 1/2) / F - 1/2 behind that of the low voxel, if not beyond an edge.
    """
    v = low * F + step
    away = tl.minimum(tl.maximum((2 * step + 1 - F) / (2.0 * F), -low.to(tl.float32)), (L - 1 - low).to(tl.float32))
    return v, (v >= 0) & (v < L * F), 1 - tl.abs(away)


@triton.jit
def _low_gradient(dhigh, dlow, LOW: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr):
    """Gather what some voxels of one sample get from those that are interpolated from them."""
    LD: tl.constexpr = LOW.d
    LH: tl.constexpr = LOW.h
    LW: tl.constexpr = LOW.w
    FD: tl.constexpr = LOW.f_d
    FH: tl.constexpr = LOW.f_h
    FW: tl.constexpr = LOW.f_w
    V: tl.constexpr = LD * LH * LW
    IN_ROW: tl.constexpr = 2 * FW - FW % 2  # as many voxels of an axis as the low one has a part in
    at, n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1).to(tl.int64)
    channel, low, ok = at // V, at % V, at < C * V
    dhigh += n * (C * V * FD * FH * FW)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for i in range(2 * FD - FD % 2):
        d, is_d, part_d = _share(low // (LH * LW), i - FD // 2, LD, FD)
        for j in range(2 * FH - FH % 2):
            h, is_h, part_h = _share(low // LW % LH, j - FH // 2, LH, FH)
            row = ((channel * (LD * FD) + d) * (LH * FH) + h) * (LW * FW)
            for k in tl.static_range(IN_ROW):
                w, is_w, part_w = _share(low % LW, k - FW // 2, LW, FW)
                e = tl.load(dhigh + row + w, mask=ok & is_d & is_h & is_w, other=0.0).to(tl.float32)
                total += part_d * part_h * part_w * e
    tl.store(dlow + n * (C * V) + at, total.to(dlow.dtype.element_ty), mask=ok)
