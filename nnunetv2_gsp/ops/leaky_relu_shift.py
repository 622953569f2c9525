"""Leaky ReLU and group shift in one pass and in place: on a CPU, new memory costs more than moving its contents."""

import math
from typing import Any

import torch

from nnunetv2_gsp.ops.group_shift import moving_channels, shifted_by

_leaky_relu_into = torch.ops.aten.leaky_relu.out
_leaky_relu_backward_into = torch.ops.aten.leaky_relu_backward.grad_input


def leaky_relu_group_shift_(
    x: torch.Tensor, negative_slope: float, spatial_groups: tuple[int, ...], shift_channels: int
) -> torch.Tensor:
    """Compute `group_shift(leaky_relu(x, negative_slope), spatial_groups, shift_channels)` in place.

    Args:
        x: (N, C, *spatial), contiguous, floating point; overwritten.
        negative_slope: slope of the leaky ReLU below 0, greater than 0.
        spatial_groups: number of blocks along each spatial axis; as in `group_shift`.
        shift_channels: number of shifted channels, a multiple of the number of groups; as in `group_shift`.

    Returns:
        `x`. Backward passes can be differentiated; `torch.func` and forward-mode derivatives are not supported.

    Raises:
        ValueError: as `group_shift` does.

    Example:
        >>> x = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]).reshape(1, 2, 1, 2)
        >>> leaky_relu_group_shift_(x, 0.5, spatial_groups=(1, 2), shift_channels=2).squeeze()
        tensor([[-0.5000,  1.0000],
                [ 1.0000, -0.5000]])
    """
    result: torch.Tensor = _LeakyReLUGroupShift.apply(x, negative_slope, spatial_groups, shift_channels)
    return result


class _LeakyReLUGroupShift(torch.autograd.Function):
    """`leaky_relu_group_shift_`, one channel group at a time through a buffer of a few channels that fits the cache."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, negative_slope: float, spatial_groups: tuple[int, ...], shift_channels: int
    ) -> torch.Tensor:
        ctx.mark_dirty(x)
        ctx.settings = negative_slope, spatial_groups, shift_channels
        buffer = _buffer_of_a_group(x, spatial_groups, shift_channels)
        for channels, source_rows in moving_channels(x.shape, spatial_groups, shift_channels, 1, x.device):
            for sample in x[:, channels]:
                rows = sample.view(buffer.shape)
                torch.index_select(rows, 0, source_rows, out=buffer)
                _leaky_relu_into(buffer, negative_slope, out=rows)
        for still in _still_channels(x, spatial_groups, shift_channels):
            torch.nn.functional.leaky_relu_(still, negative_slope)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # a permutation commutes with operations on single voxels, so the shifted result shows where the slope applied
        negative_slope, spatial_groups, shift_channels = ctx.settings
        (result,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            sloped = torch.where(result.detach() > 0, gradient, gradient * negative_slope)
            return shifted_by(-1, sloped, spatial_groups, shift_channels), None, None, None
        unshifted = torch.empty_like(result)
        buffer = _buffer_of_a_group(result, spatial_groups, shift_channels)
        for channels, source_rows in moving_channels(result.shape, spatial_groups, shift_channels, -1, result.device):
            for sources, signs, target in zip(
                gradient[:, channels], result[:, channels], unshifted[:, channels], strict=True
            ):
                _leaky_relu_backward_into(sources, signs, negative_slope, True, grad_input=buffer.view(signs.shape))
                torch.index_select(buffer, 0, source_rows, out=target.view(buffer.shape))
        still = (_still_channels(maps, spatial_groups, shift_channels) for maps in (gradient, result, unshifted))
        for sources, signs, target in zip(*still, strict=True):
            _leaky_relu_backward_into(sources, signs, negative_slope, True, grad_input=target)
        return unshifted, None, None, None


def _still_channels(x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int) -> tuple[torch.Tensor, ...]:
    """Return the channels that do not move: channel group 0, and those after the shifted channels."""
    return x[:, : shift_channels // math.prod(spatial_groups)], x[:, shift_channels:]


def _buffer_of_a_group(x: torch.Tensor, spatial_groups: tuple[int, ...], shift_channels: int) -> torch.Tensor:
    """Allocate memory for one channel group of a sample, as rows of voxels that stay together."""
    channels = shift_channels // math.prod(spatial_groups)
    row = x.shape[-1] // spatial_groups[-1]
    return x.new_empty(channels * math.prod(x.shape[2:]) // row, row)
