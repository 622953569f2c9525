"""Group Shift, fast: one gather of whole rows of voxels, forward and backward."""
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn


def group_shift(x: torch.Tensor, spatial_groups: Sequence[int], shift_channels: int) -> torch.Tensor:
    """Move blocks of features between spatial groups (Sec. 2 and Eq. 2-8 of the paper).

    The map is cut into G = g_d·g_h·g_w equal blocks and the first `shift_channels` channels into G equal groups.
    Channel group i moves by i blocks, cyclically, the first spatial axis running fastest; the other channels stay. No
    arithmetic is done, so the result is exact in every dtype. The gradient is the inverse shift.

    Args:
        x: (N, C, *spatial), two or three spatial axes, any dtype, contiguous or not.
        spatial_groups: how many blocks along each spatial axis, each a divisor of that axis.
        shift_channels: C_s, a positive multiple of G, at most C.

    Returns:
        A new tensor with the shape and dtype of `x`.

    Raises:
        ValueError: if axes, groups and channels do not fit; says what was expected and what came.
    """
    shape, groups = tuple(x.shape), tuple(spatial_groups)
    _check(shape, groups, shift_channels)
    rows = x.reshape(-1, shape[-1] // groups[-1])
    return _ShiftRows.apply(rows, shape, groups, shift_channels, 1).view(shape)


def moving_channels(shape: Sequence[int], spatial_groups: Sequence[int], shift_channels: int, step: int,
                    device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the channels of each group that moves and, for every row of a shifted sample of them, where it comes from.

    Args:
        shape: (N, C, *spatial).
        spatial_groups: see `group_shift`.
        shift_channels: see `group_shift`.
        step: 1, or -1 for the inverse shift.
        device: where the rows' numbers are needed.

    Raises:
        ValueError: as `group_shift` does.
    """
    shape, groups = tuple(shape), tuple(spatial_groups)
    _check(shape, groups, shift_channels)
    sources = _source_rows_of_channel_groups(shape[2:], groups, step, device)
    n_groups, rows_per_channel = sources.shape
    channels_per_group = shift_channels // n_groups
    first_rows = torch.arange(channels_per_group, device=device)[:, None] * rows_per_channel
    for group in range(1, n_groups):  # channel group 0 does not move
        channels = slice(group * channels_per_group, (group + 1) * channels_per_group)
        yield channels, (first_rows + sources[group]).flatten()


class GroupShift(nn.Module):
    """`group_shift` as a module without parameters, for (N, C, *spatial) maps."""

    def __init__(self, spatial_groups: Sequence[int], shift_channels: int):
        super().__init__()
        self.spatial_groups = tuple(spatial_groups)
        self.shift_channels = shift_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shift (N, C, *spatial); see `group_shift`."""
        return group_shift(x, self.spatial_groups, self.shift_channels)

    def extra_repr(self) -> str:
        """Show the settings where a network is printed."""
        return f"spatial_groups={self.spatial_groups}, shift_channels={self.shift_channels}"


class _ShiftRows(torch.autograd.Function):
    """A permutation of rows: the backward pass is the same gather with the opposite step, not a scatter-add.

    It takes and gives rows because what a Function returns must not be a view, or nobody may change it in place.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, shape: tuple[int, ...], spatial_groups: tuple[int, ...],
                shift_channels: int, step: int) -> torch.Tensor:
        ctx.shape, ctx.spatial_groups, ctx.shift_channels, ctx.step = shape, spatial_groups, shift_channels, step
        return rows.index_select(0, _source_rows(shape, spatial_groups, shift_channels, step, rows.device))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows = _ShiftRows.apply(gradient, ctx.shape, ctx.spatial_groups, ctx.shift_channels, -ctx.step)
        return rows, None, None, None, None


def _source_rows(shape: Sequence[int], spatial_groups: tuple[int, ...], shift_channels: int, step: int,
                 device: torch.device) -> torch.Tensor:
    """Return, for every row of the shifted map, the row of the input that it comes from.

    A row is a run of voxels along the last axis that stay together, one block long. Nothing here is cached: next to
    moving the map itself it costs little, and a cached tensor would leak between real, fake and meta tensors.
    """
    batch, channels, *spatial = shape
    rows_within_channel = _source_rows_of_channel_groups(spatial, spatial_groups, step, device)
    rows_per_channel = rows_within_channel.shape[1]
    channel = torch.arange(channels, device=device)
    channels_per_group = shift_channels // math.prod(spatial_groups)
    # channel group 0 does not move (Eq. 3 and 4), and neither do the channels from C_s on
    channel_group = torch.where(channel < shift_channels, channel // channels_per_group, 0)
    first_row = torch.arange(batch * channels, device=device).view(batch, channels, 1) * rows_per_channel
    return (rows_within_channel[channel_group] + first_row).flatten()


def _source_rows_of_channel_groups(spatial: Sequence[int], spatial_groups: tuple[int, ...], step: int,
                                   device: torch.device) -> torch.Tensor:
    """Return (G, rows a channel): source rows within one channel, for each channel group."""
    n_axes = len(spatial)
    n_groups = math.prod(spatial_groups)
    block = [size // groups for size, groups in zip(spatial, spatial_groups, strict=True)]
    block[-1] = 1  # along the last axis a whole block is one row
    strides = [math.prod(spatial[axis + 1:-1]) * spatial_groups[-1] for axis in range(n_axes - 1)] + [1]
    # the block index of Eq. 2: the first axis runs fastest
    weights = [math.prod(spatial_groups[:axis]) for axis in range(n_axes)]

    def along(axis: int, size: int) -> torch.Tensor:
        """Count along one axis of (channel group, blocks of axis 0, voxels in them, blocks of axis 1, ...)."""
        shape = [1] * (2 * n_axes + 1)
        shape[axis] = size
        return torch.arange(size, device=device).view(shape)

    channel_group = along(0, n_groups)
    target_block = sum((along(1 + 2 * axis, spatial_groups[axis]) * weights[axis] for axis in range(n_axes)),
                       start=torch.zeros_like(channel_group))
    source_block = (target_block - step * channel_group) % n_groups  # Eq. 4, solved for cur_ind
    row_of_block = sum((source_block // weights[axis] % spatial_groups[axis] * block[axis] * strides[axis]
                        for axis in range(n_axes)), start=torch.zeros_like(channel_group))  # Eq. 5-7
    row_in_block = sum((along(2 + 2 * axis, block[axis]) * strides[axis] for axis in range(n_axes)),
                       start=torch.zeros_like(channel_group))
    return (row_of_block + row_in_block).flatten(1)


def _check(shape: tuple[int, ...], spatial_groups: tuple[int, ...], shift_channels: int) -> None:
    if len(shape) not in (4, 5):
        raise ValueError(f"group_shift expects (N, C, *spatial) with 2 or 3 spatial axes, got shape {shape}.")
    channels, spatial = shape[1], shape[2:]
    if len(spatial_groups) != len(spatial):
        raise ValueError(f"group_shift expects one count of groups per spatial axis, {len(spatial)} for a map of "
                         f"{spatial}, got spatial_groups {spatial_groups}.")
    if any(groups < 1 or size % groups for size, groups in zip(spatial, spatial_groups, strict=True)):
        raise ValueError(f"group_shift expects spatial_groups that divide the map, got {spatial_groups} for a map of "
                         f"{spatial}.")
    n_groups = math.prod(spatial_groups)
    if shift_channels < 1 or shift_channels % n_groups or shift_channels > channels:
        raise ValueError(f"group_shift expects shift_channels to be a positive multiple of {n_groups} (the product of "
                         f"spatial_groups {spatial_groups}) and at most {channels} (the channels), got "
                         f"{shift_channels}.")
