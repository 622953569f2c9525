"""Runs networks that nnU-Net plans in less memory on the CPU, which decides what a machine can predict at all."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node, symbolic_trace

from nnunetv2_gsp.ops.recording import is_intercepted

_PLANNED = (PlainConvUNet, ResidualEncoderUNet)
_SLICES = 4  # of a slab
_LARGE = 1 << 24  # elements


def sparing(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes the logits of a network in evaluation mode, with less memory where nnU-Net plans such ones.

    Modules of those call each other, and each call holds what it was given until it returns: 6.6 maps of the first
    stage at once. The trace of a call lets them go when nothing reads them any more. Large convolutions are computed
    slab by slab, so maps are joined a slab at a time, and oneDNN copies slabs into its own layouts: 3.5 maps are left.

    Args:
        network: network that maps an image (N, channels, *patch) to logits (N, classes, *patch). Weights that are
            copied into it count.

    Examples:
        >>> network = nn.Conv3d(1, 2, 1)  # which nnU-Net does not plan
        >>> sparing(network) is network
        True
    """
    if type(network) not in _PLANNED or not all(map(_is_known, network.modules())):
        return network
    traced = symbolic_trace(network)

    def logits_of(image: Tensor) -> Tensor:
        logits: Tensor = _Sparing(traced).run(image)  # a new one for each call, as it holds what it computed last
        return logits

    return logits_of


def _is_known(module: nn.Module) -> bool:
    """Tell whether a trace of the module does what a call does: it is torch's, or has nothing but modules."""
    origin, has_tensors = type(module).__module__, bool(module._parameters or module._buffers)
    is_composed = origin.startswith("dynamic_network_architectures.") and not has_tensors
    is_torchs = origin.startswith("torch.nn.modules.")
    return (is_torchs or is_composed) and not is_intercepted(module)


class _Sparing(Interpreter):
    """Carries out a trace, and joins what convolutions alone read where they read it."""

    def __init__(self, traced: GraphModule):
        super().__init__(traced)
        self._joined = {
            node for node in traced.graph.nodes if self._is_join(node) and all(map(self._slabs, node.users))
        }

    def run_node(self, node: Node) -> Any:
        if node in self._joined:
            parts: Any = node.args[0]
            return [self.env[part] for part in parts]
        return super().run_node(node)

    def call_module(self, target: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if _is_convolution(module):
            [read] = arguments
            return _convolved(module, read if isinstance(read, list) else [read])
        if _is_upsampling(module):
            return _upsampled(module, *arguments)
        return module(*arguments, **keywords)

    def _slabs(self, node: Node) -> bool:
        return node.op == "call_module" and _is_convolution(self.fetch_attr(str(node.target)))

    @staticmethod
    def _is_join(node: Node) -> bool:
        is_cat = node.target is torch.cat and (*node.args[1:], *node.kwargs.values()) == (1,)
        return is_cat and isinstance(node.args[0], (list, tuple))


def _is_convolution(module: object) -> bool:
    return type(module) is nn.Conv3d and module.padding_mode == "zeros" and isinstance(module.padding, tuple)


def _is_upsampling(module: object) -> bool:
    """Tell whether a module makes a block of its own of each voxel."""
    return (
        type(module) is nn.ConvTranspose3d
        and module.kernel_size == module.stride
        and {*module.padding, *module.output_padding} == {0}
        and {*module.dilation} == {1}
    )


def _convolved(convolution: nn.Conv3d, parts: Sequence[Tensor]) -> Tensor:
    """Return what the convolution makes of the joined channels of its parts (N, channels, D, H, W)."""
    depth, [stride, *_] = parts[0].shape[2], convolution.stride
    [padding, *in_slices] = map(int, convolution.padding)
    reach = convolution.dilation[0] * (convolution.kernel_size[0] - 1) + 1

    def slab_of(first: int, end: int) -> Tensor:
        begin, stop = first * stride - padding, (end - 1) * stride - padding + reach
        read = [part[:, :, max(begin, 0) : stop] for part in parts]
        slab = read[0] if len(read) == 1 else torch.cat(read, 1)
        before, behind = max(-begin, 0), max(stop - max(begin, depth), 0)
        if before or behind:
            slab = F.pad(slab, (0, 0, 0, 0, before, behind))
        described = (convolution.stride, (0, *in_slices), convolution.dilation, convolution.groups)
        return F.conv3d(slab, convolution.weight, convolution.bias, *described)

    return _of_slabs(slab_of, (depth + 2 * padding - reach) // stride + 1, sum(part.numel() for part in parts))


def _upsampled(convolution: nn.ConvTranspose3d, x: Tensor) -> Tensor:
    """Return what the transposed convolution makes of a map (N, channels, D, H, W)."""
    [stride, *_] = convolution.stride

    def slab_of(first: int, end: int) -> Tensor:
        slab = x[:, :, first // stride : end // stride]
        described = (convolution.stride, 0, 0, convolution.groups)
        return F.conv_transpose3d(slab, convolution.weight, convolution.bias, *described)

    return _of_slabs(slab_of, x.shape[2] * stride, x.numel(), stride)


def _of_slabs(slab_of: Callable[[int, int], Tensor], size: int, n_elements: int, multiple: int = 1) -> Tensor:
    """Put a map of `size` slices together; `slab_of(first, end)` computes some, ends at multiples."""
    n_slices = -(-_SLICES // multiple) * multiple
    if n_elements < _LARGE or size <= n_slices:
        return slab_of(0, size)
    slab = slab_of(0, n_slices)
    whole = slab.new_empty((*slab.shape[:2], size, *slab.shape[3:]))
    whole[:, :, :n_slices] = slab
    for first in range(n_slices, size, n_slices):
        end = min(first + n_slices, size)
        whole[:, :, first:end] = slab_of(first, end)
    return whole
