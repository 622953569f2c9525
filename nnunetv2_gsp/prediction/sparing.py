"""Runs networks that nnU-Net plans in less memory on the CPU, which decides what a machine can predict at all."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn
from torch.fx import symbolic_trace
from torch.overrides import TorchFunctionMode

from nnunetv2_gsp.ops.recording import has_hooks

_PLANNED = (PlainConvUNet, ResidualEncoderUNet)
_SLICES = 8  # of a slab
_LARGE = 1 << 24  # elements


def sparing(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes the logits of a network in evaluation mode, with less memory where nnU-Net plans such ones.

    Modules of those call each other, and each call holds what it was given until it returns: a fourth of the peak. A
    trace lets a map go when nothing reads it any more; as they ask for no value of a tensor, it does what a call does.
    Weights that are loaded into the network count. A tenth more are copies in oneDNN's own layouts, of a whole map for
    a whole convolution (`_InSlabs`).

    Args:
        network: network that maps an image (N, channels, *patch) to logits (N, classes, *patch).

    Examples:
        >>> network = nn.Conv3d(1, 2, 1)  # which nnU-Net does not plan
        >>> sparing(network) is network
        True
    """
    if type(network) not in _PLANNED or "forward" in vars(network) or has_hooks(network):
        return network
    traced = symbolic_trace(network)

    def logits_of(image: Tensor) -> Tensor:
        with _InSlabs():
            logits: Tensor = traced(image)
        return logits

    return logits_of


class _InSlabs(TorchFunctionMode):
    """Computes large 3D convolutions some slices at a time."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.conv3d and arguments[0].numel() >= _LARGE and _is_spelt_out(arguments) and not keywords:
            return _convolved(*arguments)
        return function(*arguments, **(keywords or {}))


def _is_spelt_out(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 7 and all(isinstance(numbers, tuple) for numbers in arguments[3:6])


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Return what `torch.conv3d` does of (N, channels, D, H, W)."""
    reach = dilation[0] * (weight.shape[2] - 1) + 1
    size = (x.shape[2] + 2 * padding[0] - reach) // stride[0] + 1
    convolved = x.new_empty(0)
    for first in range(0, size, _SLICES):
        end = min(first + _SLICES, size)
        begin, stop = (index * stride[0] - padding[0] for index in (first, end - 1))
        stop += reach
        slab = F.pad(x[:, :, max(begin, 0) : stop], (0, 0, 0, 0, max(-begin, 0), max(stop - x.shape[2], 0)))
        slices = torch.conv3d(slab, weight, bias, stride, (0, *padding[1:]), dilation, groups)
        if first == 0:
            convolved = slices.new_empty((*slices.shape[:2], size, *slices.shape[3:]))
        convolved[:, :, first:end] = slices
    return convolved
