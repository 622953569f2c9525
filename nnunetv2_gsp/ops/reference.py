"""The shifts' definitions, obvious and slow: Group Shift as the paper formulates it (Sec. 2.3), a line an equation."""
import itertools
from collections.abc import Sequence

import torch


def group_shift_reference(x: torch.Tensor, spatial_groups: Sequence[int], shift_channels: int) -> torch.Tensor:
    """Shift blocks of features by Eq. 2-8 of the paper.

    The paper calls the voxel coordinates x, y, z along D, H, W; the axes here are (N, C, D, H, W), or (N, C, D, H) for
    2D, which is the same with the third axis dropped.

    Args:
        x: (N, C, D, H[, W]), any dtype; the axes must be multiples of the groups.
        spatial_groups: (g_d, g_h[, g_w]).
        shift_channels: C_s, a positive multiple of g_d·g_h·g_w.

    Returns:
        F_s, with the shape and dtype of `x`; differentiable by autograd.
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
    """Shift single voxels by one, for each direction -D, +D, -H, +H[, -W, +W] an equal part of the channels.

    Args:
        x: (N, C, D, H[, W]), any dtype.
        first_channel: where the moving channels begin.
        shift_channels: how many move, a positive multiple of the directions.
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
                    x[:, channel].select(axis - 1, source) if is_inside else 0)
    return shifted
