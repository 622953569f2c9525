"""Computes the group shift as one gather of whole rows of voxels, forward and backward."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from nnunetv2_gsp.ops.gpu_shift import moved_blocks
from nnunetv2_gsp.ops.moved import moved
from nnunetv2_gsp.ops.recording import is_recording


def group_shift(x: torch.Tensor, spatial_groups: Sequence[int], shift_channels: int) -> torch.Tensor:
    """Move blocks of features between spatial groups (Sec. 2.3 and Eq. 2-8 of the paper).

    The map is cut into G = g_d·g_h·g_w equal blocks and the first `shift_channels` channels into G equal groups.
    Channel group i moves by i blocks, cyclically, the first spatial axis running fastest; the other channels stay. No
    arithmetic is done, so the result is exact in every dtype. The gradient is the inverse shift.

    Args:
        x: (N, C, *spatial), two or three spatial axes, any dtype, contiguous or not.
        spatial_groups: (g_d, g_h, g_w), or (g_h, g_w) in 2D: number of blocks along each spatial axis, each a divisor
            of that axis's size in voxels.
        shift_channels: C_s, the number of shifted channels, a positive multiple of G, at most C.

    Returns:
        A new tensor with the shape and dtype of `x`.

    Raises:
        ValueError: axes, groups and channels do not fit; the message says what was expected and what was given.

    Example:
        >>> x = torch.arange(4).expand(3, 4).reshape(1, 3, 1, 4)  # 3 channels of the row 0 1 2 3
        >>> group_shift(x, spatial_groups=(1, 2), shift_channels=2).squeeze()  # the second moves by a block of two
        tensor([[0, 1, 2, 3],
                [2, 3, 0, 1],
                [0, 1, 2, 3]])
    """
    return shifted_by(1, x, tuple(spatial_groups), shift_channels)


def shifted_by(step: int, x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int) -> torch.Tensor:
    """Compute `group_shift` of `x` for a `step` of 1, and its inverse for -1; raises the same errors.

    Example:
        >>> x = torch.rand(1, 8, 4, 4)
        >>> torch.equal(shifted_by(-1, group_shift(x, (2, 2), 8), (2, 2), 8), x)
        True
    """
    _check(tuple(x.shape), spatial_groups, shift_channels)
    if torch.compiler.is_compiling() or is_recording():
        return _shifted_by_operators(step, x, spatial_groups, shift_channels)
    # a permutation: its gradient is the same gather with the opposite step, not a scatter-add
    return moved(x, step, _moved_blocks_or_gathered, spatial_groups, shift_channels)


def moving_channels(
    shape: Sequence[int], spatial_groups: Sequence[int], shift_channels: int, step: int, device: torch.device
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield each channel group that moves: its channels, and the source row of every row of them.

    A row is a run of voxels along the last axis that stay together; it is one block long.

    Args:
        shape: shape (N, C, *spatial) of the map.
        spatial_groups: number of blocks along each spatial axis; as in `group_shift`.
        shift_channels: number of shifted channels; as in `group_shift`.
        step: 1 for the shift, -1 for its inverse.
        device: device of the tensors of row numbers.

    Yields:
        A slice of channels, and the row numbers, int64 (rows of these channels in one sample,).

    Raises:
        ValueError: as `group_shift` does.

    Example:
        >>> list(moving_channels((1, 3, 1, 4), (1, 2), shift_channels=2, step=1, device=torch.device("cpu")))
        [(slice(1, 2, None), tensor([1, 0]))]
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
    """`group_shift` as a module without parameters.

    Args:
        spatial_groups: number of blocks along each spatial axis; as in `group_shift`.
        shift_channels: number of shifted channels, a multiple of the number of groups; as in `group_shift`.

    Example:
        >>> GroupShift((2, 2, 2), shift_channels=16)
        GroupShift(spatial_groups=(2, 2, 2), shift_channels=16)
    """

    def __init__(self, spatial_groups: Sequence[int], shift_channels: int):
        super().__init__()
        self.spatial_groups = tuple(spatial_groups)
        self.shift_channels = shift_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shift a map (N, C, *spatial); see `group_shift`."""
        return group_shift(x, self.spatial_groups, self.shift_channels)

    def extra_repr(self) -> str:
        """Return the settings for the printed network."""
        return f"spatial_groups={self.spatial_groups}, shift_channels={self.shift_channels}"


def _moved_blocks_or_gathered(
    x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int, step: int
) -> torch.Tensor:
    shifted = moved_blocks(x, spatial_groups, shift_channels, step)
    return _gathered(x, spatial_groups, shift_channels, step) if shifted is None else shifted


def _gathered(x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int, step: int) -> torch.Tensor:
    # a fake tensor needs fake row numbers, which must not get into the cache
    source_rows = _kept_source_rows if type(x) is torch.Tensor and not x.is_meta else _source_rows
    numbers = source_rows(tuple(x.shape[1:]), spatial_groups, shift_channels, step, x.device)
    shifted = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, shifted_rows = _rows(x, spatial_groups), _rows(shifted, spatial_groups)
    if x.is_cpu:  # where torch gathers along the first axis alone with all threads
        for sample, shifted_sample in zip(rows, shifted_rows, strict=True):
            torch.index_select(sample, 0, numbers, out=shifted_sample)
    else:
        torch.index_select(rows, 1, numbers, out=shifted_rows)
    return shifted


def _shifted_by_operators(
    step: int, x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int
) -> torch.Tensor:
    """Shift by operators that compilers and exporters know, for any batch size."""
    sizes = tuple(x.shape[1:])
    if torch.jit.is_tracing():  # or row numbers would be computed from the sizes at each call
        sizes = tuple(map(int, sizes))
    rows = x.reshape(-1, *_rows_of_a_sample(sizes, spatial_groups))
    if torch.is_grad_enabled() and x.requires_grad and not is_recording():
        # the gradient of a gather would be a scatter-add; the gradient of a copy to other rows is a gather
        target_rows = _source_rows(sizes, spatial_groups, shift_channels, -step, x.device)
        shifted = torch.empty_like(rows).index_copy(1, target_rows, rows)
    else:
        shifted = rows.index_select(1, _source_rows(sizes, spatial_groups, shift_channels, step, x.device))
    return shifted.view(-1, *sizes)


def _rows_of_a_sample(sizes: Sequence[int], spatial_groups: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of rows in a sample (C, *spatial), and of voxels in a row, which stay together."""
    return math.prod(sizes[:-1]) * spatial_groups[-1], sizes[-1] // spatial_groups[-1]


def _rows(x: torch.Tensor, spatial_groups: tuple[int, ...]) -> torch.Tensor:
    return x.reshape(x.shape[0], *_rows_of_a_sample(x.shape[1:], spatial_groups))


_kept_rows: dict[tuple[Any, ...], torch.Tensor] = {}


def _kept_source_rows(
    shape: tuple[int, ...], spatial_groups: tuple[int, ...], shift_channels: int, step: int, device: torch.device
) -> torch.Tensor:
    """Return `_source_rows` from a cache, as the sizes of feature maps recur."""
    settings = shape, spatial_groups, shift_channels, step, device
    rows = _kept_rows.get(settings)
    if rows is None:
        # one copy to a GPU instead of fifty launches there
        rows = _source_rows(shape, spatial_groups, shift_channels, step, torch.device("cpu")).to(device)
        if len(_kept_rows) >= 100:  # maps of ever new sizes
            _kept_rows.clear()
        _kept_rows[settings] = rows
    return rows


def _source_rows(
    shape: Sequence[int], spatial_groups: tuple[int, ...], shift_channels: int, step: int, device: torch.device
) -> torch.Tensor:
    """Return, for every row of a shifted sample (C, *spatial), the number of the input row that it comes from.

    A row is a run of voxels along the last axis that stay together; it is one block long.
    """
    channels, *spatial = shape
    rows_within_channel = _source_rows_of_channel_groups(spatial, spatial_groups, step, device)
    rows_per_channel = rows_within_channel.shape[1]
    channel = torch.arange(channels, device=device)
    channels_per_group = shift_channels // math.prod(spatial_groups)
    # channel group 0 does not move (Eq. 3 and 4), and neither do the channels from C_s on
    channel_group = torch.where(channel < shift_channels, channel // channels_per_group, 0)
    return (rows_within_channel[channel_group] + channel[:, None] * rows_per_channel).flatten()


def _source_rows_of_channel_groups(
    spatial: Sequence[int], spatial_groups: tuple[int, ...], step: int, device: torch.device
) -> torch.Tensor:
    """Return (G, rows a channel): source rows within one channel, for each channel group."""
    n_axes = len(spatial)
    n_groups = math.prod(spatial_groups)
    block = [size // groups for size, groups in zip(spatial, spatial_groups, strict=True)]
    block[-1] = 1  # along the last axis a whole block is one row
    strides = [math.prod(spatial[axis + 1 : -1]) * spatial_groups[-1] for axis in range(n_axes - 1)] + [1]
    # the block index of Eq. 2: the first axis runs fastest
    weights = [math.prod(spatial_groups[:axis]) for axis in range(n_axes)]

    def along(axis: int, size: int) -> torch.Tensor:
        """Count from 0 along one axis of (channel group, blocks of axis 0, voxels in them, blocks of axis 1, ...)."""
        shape = [1] * (2 * n_axes + 1)
        shape[axis] = size
        return torch.arange(size, device=device).view(shape)

    channel_group = along(0, n_groups)
    target_block = sum(
        (along(1 + 2 * axis, spatial_groups[axis]) * weights[axis] for axis in range(n_axes)),
        start=torch.zeros_like(channel_group),
    )
    # Eq. 4, solved for cur_ind; never below 0, where ONNX has another remainder
    source_block = (target_block + n_groups - step * channel_group) % n_groups
    row_of_block = sum(
        (source_block // weights[axis] % spatial_groups[axis] * block[axis] * strides[axis] for axis in range(n_axes)),
        start=torch.zeros_like(channel_group),
    )  # Eq. 5-7
    row_in_block = sum(
        (along(2 + 2 * axis, block[axis]) * strides[axis] for axis in range(n_axes)),
        start=torch.zeros_like(channel_group),
    )
    return (row_of_block + row_in_block).flatten(1)


def _check(shape: tuple[int, ...], spatial_groups: tuple[int, ...], shift_channels: int) -> None:
    if len(shape) not in (4, 5):
        raise ValueError(f"group_shift expects (N, C, *spatial) with 2 or 3 spatial axes, got shape {shape}.")
    channels, spatial = shape[1], shape[2:]
    if len(spatial_groups) != len(spatial):
        raise ValueError(
            f"group_shift expects one count of groups per spatial axis, {len(spatial)} for a map of "
            f"{spatial}, got spatial_groups {spatial_groups}."
        )
    if any(groups < 1 or size % groups for size, groups in zip(spatial, spatial_groups, strict=True)):
        raise ValueError(
            f"group_shift expects spatial_groups that divide the map, got {spatial_groups} for a map of {spatial}."
        )
    n_groups = math.prod(spatial_groups)
    if shift_channels < 1 or shift_channels % n_groups or shift_channels > channels:
        raise ValueError(
            f"group_shift expects shift_channels to be a positive multiple of {n_groups} (the product of "
            f"spatial_groups {spatial_groups}) and at most {channels} (the channels), got "
            f"{shift_channels}."
        )
