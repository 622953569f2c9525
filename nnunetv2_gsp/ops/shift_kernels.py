"""Both shifts as Triton kernels that copy in wide loads: addresses are computed once a row, not once a voxel.

A gather by row numbers takes nine times as long as a copy on an H200 (2×32×128³, fp16), for its rows are short and the
number of each is loaded from memory.
"""

import math

import torch
import triton
import triton.language as tl

_TILE_BYTES = 8192  # of a program
# of a map; with fewer, calling a kernel takes longer than a gather (H200: 67 MB 0.24 ms against 0.17, 268 MB 0.27
# against 0.47)
_LEAST_BYTES = 1 << 27
_UNITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # a copy depends on the width alone


def fits(x: torch.Tensor, row: int) -> bool:
    """Tell whether a kernel is faster for rows of `row` elements of `x`: a large map, a supported width, long rows."""
    return (
        x.numel() * x.element_size() >= _LEAST_BYTES
        and x.element_size() in _UNITS
        and 8 <= row * x.element_size() <= 8 * _TILE_BYTES
    )


def move_blocks(x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int, step: int) -> torch.Tensor:
    """Compute `group_shift`, or with a `step` of -1 its inverse, of a contiguous (N, C, *spatial) map that `fits`."""
    depth, height, width = _volume(x)
    g_d, g_h, g_w = (1,) * (5 - x.ndim) + spatial_groups
    n_blocks = g_d * g_h * g_w
    block_depth, block_height = depth // g_d, height // g_h
    row_bytes = width // g_w * x.element_size()
    target = torch.empty_like(x)
    unit_bytes = math.gcd(row_bytes, x.data_ptr(), target.data_ptr(), 8)
    tile = _tile(row_bytes // unit_bytes, unit_bytes, block_depth * block_height)
    n_tiles = triton.cdiv(block_depth * block_height, tile["ROWS"])
    _move_blocks[(n_tiles * n_blocks * x.shape[0] * x.shape[1],)](
        _in_units(x, unit_bytes),
        _in_units(target, unit_bytes),
        n_tiles,
        x.shape[1],
        shift_channels,
        shift_channels // n_blocks,
        n_blocks,
        n_blocks - 1 if step == 1 else 1,
        block_depth,
        depth,
        height,
        g_d,
        g_h,
        g_w,
        BLOCK_HEIGHT=block_height,
        ROW=row_bytes // unit_bytes,
        **tile,
    )
    return target


def move_voxels(x: torch.Tensor, first_channel: int, shift_channels: int, step: int) -> torch.Tensor:
    """Compute `local_shift`, or with a `step` of -1 its transpose, of a contiguous (N, C, *spatial) map that `fits`."""
    depth, height, width = _volume(x)
    target = torch.empty_like(x)
    tile = _tile(width, x.element_size(), depth * height)
    n_tiles = triton.cdiv(depth * height, tile["ROWS"])
    _move_voxels[(n_tiles * x.shape[0] * x.shape[1],)](
        _in_units(x, x.element_size()),
        _in_units(target, x.element_size()),
        n_tiles,
        x.shape[1],
        first_channel,
        shift_channels,
        shift_channels // (2 * (x.ndim - 2)),
        5 - x.ndim,
        step,
        depth,
        HEIGHT=height,
        WIDTH=width,
        **tile,
    )
    return target


def _volume(x: torch.Tensor) -> tuple[int, ...]:
    return (1,) * (5 - x.ndim) + tuple(x.shape[2:])


def _in_units(x: torch.Tensor, unit_bytes: int) -> torch.Tensor:
    return x.view(-1).view(_UNITS[unit_bytes])


def _tile(row: int, unit_bytes: int, n_rows: int) -> dict[str, int]:
    """Return the rows that a program copies, the power of two that holds a row, and the warps that this keeps busy."""
    columns = triton.next_power_of_2(row)
    rows = min(max(1, _TILE_BYTES // unit_bytes // columns), triton.next_power_of_2(n_rows))
    return {"ROWS": rows, "COLUMNS": columns, "num_warps": min(max(rows * columns * unit_bytes // 2048, 1), 8)}


@triton.jit
def _row_of_block(block, plane, block_depth, depth, height, g_d, g_h, g_w, BLOCK_HEIGHT: tl.constexpr):
    """Return the first row of a block, the first axis running fastest (Eq. 2 of the paper)."""
    in_depth, in_height, in_width = block % g_d, block // g_d % g_h, block // (g_d * g_h)
    return ((plane * depth + in_depth * block_depth) * height + in_height * BLOCK_HEIGHT) * g_w + in_width


@triton.jit
def _move_blocks(
    source,
    target,
    n_tiles,
    channels,
    shift_channels,
    channels_per_group,
    n_blocks,
    back,
    block_depth,
    depth,
    height,
    g_d,
    g_h,
    g_w,
    BLOCK_HEIGHT: tl.constexpr,
    ROW: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill a tile of rows of one target block of one channel; channel group 1 comes from `back` blocks further on."""
    program = tl.program_id(0)
    block, plane = program // n_tiles % n_blocks, program // n_tiles // n_blocks
    channel = plane % channels
    group = tl.where(channel < shift_channels, channel // channels_per_group, 0)
    source_block = (block + back * group) % n_blocks  # Eq. 4, solved for cur_ind
    to = _row_of_block(block, plane.to(tl.int64), block_depth, depth, height, g_d, g_h, g_w, BLOCK_HEIGHT)
    come_from = _row_of_block(source_block, plane.to(tl.int64), block_depth, depth, height, g_d, g_h, g_w, BLOCK_HEIGHT)
    row = program % n_tiles * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    within = ((row // BLOCK_HEIGHT * height + row % BLOCK_HEIGHT) * g_w * ROW)[:, None] + column[None, :]
    is_inside = (row < block_depth * BLOCK_HEIGHT)[:, None] & (column < ROW)[None, :]
    tl.store(target + to * ROW + within, tl.load(source + come_from * ROW + within, is_inside), is_inside)


@triton.jit
def _move_voxels(
    source,
    target,
    n_tiles,
    channels,
    first_channel,
    shift_channels,
    part,
    first_axis,
    step,
    depth,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill a tile of rows of one channel from the neighbouring rows or voxels."""
    program = tl.program_id(0)
    plane = program // n_tiles
    channel = plane % channels - first_channel
    moves = (channel >= 0) & (channel < shift_channels)
    direction = tl.where(moves, channel // part, 0)
    axis = tl.where(moves, direction // 2 + first_axis, -1)
    towards = tl.where(moves, (1 - direction % 2 * 2) * step, 0)  # the source of an even direction lies ahead
    first = plane.to(tl.int64) * (depth * HEIGHT * WIDTH)
    row = program % n_tiles * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    is_inside = (row < depth * HEIGHT)[:, None] & (column < WIDTH)[None, :]
    within = (row * WIDTH)[:, None] + column[None, :]
    if axis == 2:
        beside = column + towards
        is_source = is_inside & ((beside >= 0) & (beside < WIDTH))[None, :]
        voxels = tl.load(source + first + within + towards, is_source, other=0)
    else:  # apart, for loads are wide only where the compiler knows that rows do not move within themselves
        in_depth = row // HEIGHT + tl.where(axis == 0, towards, 0)
        in_height = row % HEIGHT + tl.where(axis == 1, towards, 0)
        is_there = (in_depth >= 0) & (in_depth < depth) & (in_height >= 0) & (in_height < HEIGHT)
        come_from = ((in_depth * HEIGHT + in_height) * WIDTH)[:, None] + column[None, :]
        voxels = tl.load(source + first + come_from, is_inside & is_there[:, None], other=0)
    tl.store(target + first + within, voxels, is_inside)
