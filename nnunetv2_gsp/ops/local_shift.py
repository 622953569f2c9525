"""Local shift: moves channels by single voxels, where a group shift moves whole blocks; not in the paper."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import pad

from nnunetv2_gsp.ops.gpu_shift import moved_voxels
from nnunetv2_gsp.ops.moved import moved
from nnunetv2_gsp.ops.recording import is_recording


def local_shift(x: torch.Tensor, first_channel: int, shift_channels: int) -> torch.Tensor:
    """Move channels by one voxel along each axis in both directions, zeros entering at the border (as in ShiftNet).

    The channels from `first_channel` on are cut into equal parts, one a direction: the first moves towards the start of
    the first spatial axis (voxel i takes the value of voxel i+1), the second towards its end, and so on for every axis.
    The other channels stay. No arithmetic is done, so the result is exact in every dtype.

    Args:
        x: (N, C, *spatial), two or three spatial axes, any dtype, contiguous or not.
        first_channel: index of the first channel that moves, from 0.
        shift_channels: number of channels that move, a positive multiple of 4 in 2D and of 6 in 3D; at most
            C - first_channel.

    Returns:
        A new tensor with the shape and dtype of `x`.

    Raises:
        ValueError: axes and channels do not fit; the message says what was expected and what was given.

    Example:
        >>> x = torch.tensor([1, 2, 3]).expand(4, 3).reshape(1, 4, 1, 3)  # 4 channels of the row 1 2 3
        >>> local_shift(x, first_channel=0, shift_channels=4).squeeze()  # up, down, to the left, to the right
        tensor([[0, 0, 0],
                [0, 0, 0],
                [2, 3, 0],
                [0, 1, 2]])
    """
    _check(tuple(x.shape), first_channel, shift_channels)
    if x.is_cuda and not (torch.compiler.is_compiling() or is_recording()):
        # in the backward pass every voxel goes back to where it came from, and zeros enter at the other border
        return moved(x, 1, _moved_voxels_or_padded, first_channel, shift_channels)
    return _by_padding(x, first_channel, shift_channels, 1)


class LocalShift(nn.Module):
    """`local_shift` as a module without parameters.

    Args:
        first_channel: index of the first channel that moves, from 0; as in `local_shift`.
        shift_channels: number of channels that move, a multiple of the directions; as in `local_shift`.

    Example:
        >>> LocalShift(first_channel=16, shift_channels=12)
        LocalShift(first_channel=16, shift_channels=12)
    """

    def __init__(self, first_channel: int, shift_channels: int):
        super().__init__()
        self.first_channel = first_channel
        self.shift_channels = shift_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shift a map (N, C, *spatial); see `local_shift`."""
        return local_shift(x, self.first_channel, self.shift_channels)

    def extra_repr(self) -> str:
        """Return the settings for the printed network."""
        return f"first_channel={self.first_channel}, shift_channels={self.shift_channels}"


def _moved_voxels_or_padded(x: torch.Tensor, first_channel: int, shift_channels: int, step: int) -> torch.Tensor:
    shifted = moved_voxels(x, first_channel, shift_channels, step)
    return _by_padding(x, first_channel, shift_channels, step) if shifted is None else shifted


def _by_padding(x: torch.Tensor, first_channel: int, shift_channels: int, step: int) -> torch.Tensor:
    n_axes = x.ndim - 2
    part = shift_channels // (2 * n_axes)
    parts = [
        pad(
            x.narrow(1, first_channel + direction * part, part),
            _one_step(direction // 2, n_axes, towards_end=bool(direction % 2) == (step == 1)),
        )
        for direction in range(2 * n_axes)
    ]
    return torch.cat([x[:, :first_channel], *parts, x[:, first_channel + shift_channels :]], dim=1)


def _one_step(axis: int, n_axes: int, towards_end: bool) -> Sequence[int]:
    """Return the padding that moves a map by one voxel: one plane added at one border, one removed at the other."""
    step = (1, -1) if towards_end else (-1, 1)
    # `pad` counts axes from the last
    return (0, 0) * (n_axes - 1 - axis) + step + (0, 0) * axis


def _check(shape: tuple[int, ...], first_channel: int, shift_channels: int) -> None:
    if len(shape) not in (4, 5):
        raise ValueError(f"local_shift expects (N, C, *spatial) with 2 or 3 spatial axes, got shape {shape}.")
    n_directions = 2 * (len(shape) - 2)
    if shift_channels < 1 or shift_channels % n_directions or not 0 <= first_channel <= shape[1] - shift_channels:
        raise ValueError(
            f"local_shift expects shift_channels to be a positive multiple of {n_directions} (the "
            f"directions) and to end within the {shape[1]} channels, got {shift_channels} from channel "
            f"{first_channel} on."
        )
