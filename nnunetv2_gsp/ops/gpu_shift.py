"""When is a shift one kernel on a GPU? Where there is no Triton, or it fails, PyTorch's own operators shift."""
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_kernels_run = importlib.util.find_spec("triton") is not None


def moved_blocks(x: Tensor, spatial_groups: tuple[int, ...], shift_channels: int, step: int) -> Tensor | None:
    """Compute `group_shift` of a map on a GPU, or with a `step` of -1 its inverse; None where no kernel does it."""
    return _moved(_move_blocks, x, x.shape[-1] // spatial_groups[-1], spatial_groups, shift_channels, step)


def moved_voxels(x: Tensor, first_channel: int, shift_channels: int, step: int) -> Tensor | None:
    """Compute `local_shift` of a map on a GPU, or with a `step` of -1 its transpose; None where no kernel does it."""
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
    except Exception as reason:  # a compiler has many: no C compiler, a card it does not know, no room ...
        _kernels_run = False
        logging.getLogger(__name__).warning(f"Shifts run in PyTorch's own operators, which take longer, for Triton "
                                            f"failed: {reason}")
        return None


def _is_on_gpu(x: Tensor) -> bool:
    return x.is_cuda


# operators of PyTorch, so that whoever records or counts what runs sees them, and fake maps pass through


@torch.library.custom_op("nnunetv2_gsp::move_blocks", mutates_args=(),
                         schema="(Tensor x, int[] spatial_groups, int shift_channels, int step) -> Tensor")
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
