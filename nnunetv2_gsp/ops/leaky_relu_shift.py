"""Leaky ReLU and group shift in one, in place: eager PyTorch spends more on new memory than on moving what is in it."""
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import leaky_relu_

from nnunetv2_gsp.ops.group_shift import group_shift_


def leaky_relu_group_shift_(x: torch.Tensor, negative_slope: float, spatial_groups: tuple[int, ...],
                            shift_channels: int) -> torch.Tensor:
    """Compute `group_shift(leaky_relu(x, negative_slope), spatial_groups, shift_channels)` where `x` lies.

    Args:
        x: (N, C, *spatial), contiguous, floating point; overwritten.
        negative_slope: of leaky ReLU, positive.
        spatial_groups: see `group_shift`.
        shift_channels: see `group_shift`.

    Returns:
        `x`. It can be differentiated once.

    Raises:
        ValueError: as `group_shift` does.
    """
    return _LeakyReLUGroupShift.apply(x, negative_slope, spatial_groups, shift_channels)


class _LeakyReLUGroupShift(torch.autograd.Function):
    """A permutation commutes with what is done to each voxel, so the shifted result has all the gradient needs."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, negative_slope: float, spatial_groups: tuple[int, ...],
                shift_channels: int) -> torch.Tensor:
        ctx.mark_dirty(x)
        ctx.settings = negative_slope, spatial_groups, shift_channels
        group_shift_(leaky_relu_(x, negative_slope), spatial_groups, shift_channels)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        negative_slope, spatial_groups, shift_channels = ctx.settings
        result, = ctx.saved_tensors
        gradient = torch.ops.aten.leaky_relu_backward(gradient, result, negative_slope, True).contiguous()
        return group_shift_(gradient, spatial_groups, shift_channels, inverse=True), None, None, None
