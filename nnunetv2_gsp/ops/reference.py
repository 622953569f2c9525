"""Defines the shifts, simply and slowly; the group shift line by line as in Sec. 2.3 of the paper."""

import itertools
from collections.abc import Sequence

import torch


def group_shift_reference(x: torch.Tensor, spatial_groups: Sequence[int], shift_channels: int) -> torch.Tensor:
    """Shift blocks of features by Eq. 2-8 of the paper.

    The paper calls the voxel coordinates x, y, z along D, H, W; the axes here are (N, C, D, H, W), or (N, C, D, H) for
    2D, which is the same with the third axis dropped.

    Args:
        x: (N, C, D, H[, W]), any dtype; each spatial axis is a multiple of its groups.
        spatial_groups: (g_d, g_h[, g_w]), the number of blocks along each spatial axis.
        shift_channels: C_s, a positive multiple of g_d·g_h·g_w, at most C.

    Returns:
        F_s, with the shape and dtype of `x`; differentiable by autograd.

    Example:
        >>> x = torch.arange(4).expand(2, 4).reshape(1, 2, 4, 1)  # 2 channels of the column 0 1 2 3
        >>> group_shift_reference(x, spatial_groups=(2, 1), shift_channels=2).squeeze()
        tensor([[0, 1, 2, 3],
                [2, 3, 0, 1]])
    """
    if x.ndim == 4:
        return group_shift_reference(x[..., None], (*spatial_groups, 1), shift_channels)[..., 0]
    g_d, g_h, g_w = spatial_groups
    depth, height, width = x.shape[2:]
    d, h, w = depth // g_d, height // g_h, width // g_w
    c_g = shift_channels // (g_d * g_h * g_w)
    c, x_, y, z = torch.meshgrid(*(torch.arange(size) for size in x.shape[1:]), indexing="ij")

    cur_ind = x_ // d + y // h * g_d + z // w * g_d * g_h  # Eq. 2
    sft_step = c // c_g  # Eq. 3
    sfted_ind = (cur_ind + sft_step) % (g_d * g_h * g_w)  # Eq. 4
    is_shifted = c < shift_channels
    x_new = torch.where(is_shifted, sfted_ind % g_d * d + x_ % d, x_)  # Eq. 5
    y_new = torch.where(is_shifted, sfted_ind % (g_d * g_h) // g_d * h + y % h, y)  # Eq. 6
    z_new = torch.where(is_shifted, sfted_ind // (g_d * g_h) * w + z % w, z)  # Eq. 7
    c_new = c  # Eq. 8

    shifted = torch.empty_like(x)
    shifted[:, c_new, x_new, y_new, z_new] = x[:, c, x_, y, z]  # Eq. 1
    return shifted


def local_shift_reference(x: torch.Tensor, first_channel: int, shift_channels: int) -> torch.Tensor:
    """Shift an equal part of the channels by one voxel in each of the directions -D, +D, -H, +H[, -W, +W].

    Args:
        x: (N, C, D, H[, W]), any dtype.
        first_channel: index of the first channel that moves, from 0.
        shift_channels: the number of channels that move, a positive multiple of the number of directions.

    Returns:
        A new tensor with the shape and dtype of `x`; zeros enter at the border.

    Example:
        >>> x = torch.tensor([1, 2, 3]).expand(4, 3).reshape(1, 4, 3, 1)  # 4 channels of the column 1 2 3
        >>> local_shift_reference(x, first_channel=0, shift_channels=4)[0, :2].squeeze()
        tensor([[2, 3, 0],
                [0, 1, 2]])
    """
    axes = range(2, x.ndim)
    part = shift_channels // (2 * len(axes))
    shifted = x.clone()
    for direction, (axis, step) in enumerate(itertools.product(axes, (-1, 1))):
        for channel in range(first_channel + direction * part, first_channel + (direction + 1) * part):
            for index in range(x.shape[axis]):
                source = index - step
                is_inside = 0 <= source < x.shape[axis]
                shifted[:, channel].select(axis - 1, index)[:] = (
                    x[:, channel].select(axis - 1, source) if is_inside else 0
                )
    return shifted
