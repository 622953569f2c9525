"""Shifts as one Triton kernel on a GPU; where Triton is missing or fails, the caller shifts by PyTorch's operators."""

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_kernels_run = importlib.util.find_spec("triton") is not None


def moved_blocks(x: Tensor, spatial_groups: tuple[int, ...], shift_channels: int, step: int) -> Tensor | None:
    """Compute `group_shift` by a Triton kernel, or its inverse.

    Args:
        x: (N, C, *spatial), any dtype, contiguous or not.
        spatial_groups: number of blocks along each spatial axis, a divisor of its size; as in `group_shift`.
        shift_channels: number of shifted channels, a multiple of the number of groups; as in `group_shift`.
        step: 1 for the shift, -1 for its inverse.

    Returns:
        The shifted map, or None if `x` is not on a GPU, has no suitable size, or Triton is missing or fails.

    Example:
        >>> moved_blocks(torch.zeros(1, 2, 1, 2), (1, 2), 2, step=1) is None  # not on a GPU
        True
    """
    return _moved(_move_blocks, x, x.shape[-1] // spatial_groups[-1], spatial_groups, shift_channels, step)


def moved_voxels(x: Tensor, first_channel: int, shift_channels: int, step: int) -> Tensor | None:
    """Compute `local_shift` by a Triton kernel, or its transpose.

    Args:
        x: (N, C, *spatial), any dtype, contiguous or not.
        first_channel: index of the first channel that moves, from 0; as in `local_shift`.
        shift_channels: number of channels that move, a multiple of the directions; as in `local_shift`.
        step: 1 for the shift, -1 for its transpose.

    Returns:
        The shifted map, or None if `x` is not on a GPU, has no suitable size, or Triton is missing or fails.
    """
    return _moved(_move_voxels, x, x.shape[-1], first_channel, shift_channels, step)


def _moved(move: Any, x: Tensor, row: int, *settings: Any) -> Tensor | None:
    global _kernels_run
    if not (_kernels_run and _is_on_gpu(x)):
        return None
    try:
        from nnunetv2_gsp.ops import shift_kernels

        return move(x, *settings) if shift_kernels.fits(x, row) else None
    except torch.OutOfMemoryError:
        raise
    except Exception as reason:  # Triton fails in many ways: no C compiler, an unknown GPU, a full disk ...
        _kernels_run = False
        logging.getLogger(__name__).warning(
            "Shifts run in PyTorch's own operators, which take longer, for Triton failed: %s", reason
        )
        return None


def _is_on_gpu(x: Tensor) -> bool:
    return x.is_cuda


# registered with PyTorch, so that tools that record or count operators see them, and fake tensors pass through


@torch.library.custom_op(
    "nnunetv2_gsp::move_blocks",
    mutates_args=(),
    schema="(Tensor x, int[] spatial_groups, int shift_channels, int step) -> Tensor",
)
def _move_blocks(x: Tensor, spatial_groups: Sequence[int], shift_channels: int, step: int) -> Tensor:
    from nnunetv2_gsp.ops import shift_kernels

    with torch.cuda.device_of(x):  # Triton launches on the current GPU
        return shift_kernels.move_blocks(x.contiguous(), tuple(spatial_groups), shift_channels, step)


@torch.library.custom_op("nnunetv2_gsp::move_voxels", mutates_args=())
def _move_voxels(x: Tensor, first_channel: int, shift_channels: int, step: int) -> Tensor:
    from nnunetv2_gsp.ops import shift_kernels

    with torch.cuda.device_of(x):  # Triton launches on the current GPU
        return shift_kernels.move_voxels(x.contiguous(), first_channel, shift_channels, step)


@_move_blocks.register_fake
@_move_voxels.register_fake
def _as_large(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
