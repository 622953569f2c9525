"""When do the fused layers run, and with which memory? Everything else goes PyTorch's way."""
from collections import deque
from contextlib import suppress
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nnunetv2_gsp.cpu.library import fused_layers
from nnunetv2_gsp.cpu.program import NotFusable, program_of
from nnunetv2_gsp.cpu.runner import Runner
from nnunetv2_gsp.ops.recording import is_watched

# whose `forward` program.py knows; a module from elsewhere may compute anything
_KNOWN_CODE = ("torch.nn.modules.", "nnunetv2_gsp.", "dynamic_network_architectures.")
# of each network at most one piece of memory that no call uses: fresh memory costs more time than a small patch
_idle_arenas: WeakKeyDictionary[nn.Module, deque[Tensor]] = WeakKeyDictionary()


def fused_forward(network: Any, image: Tensor) -> Tensor | None:
    """Compute a GSPUNet's logits with the fused layers, or return None where they do not apply.

    They do in evaluation mode with gradients off, for fp32 tensors of the CPU, without autocast, deep supervision,
    hooks, or anything that traces, and for convolutions of one voxel with InstanceNorm or none and leaky ReLU.
    The network is read anew at every call, so whatever was changed in it counts. A value that is not a number gives a
    logit that is none, as in PyTorch.

    Args:
        network: a GSPUNet.
        image: (N, C, *spatial).

    Returns:
        (N, classes, *spatial) fp32.
    """
    if torch.compiler.is_compiling() or not _is_plain_prediction(image) or network.training:
        return None
    library = fused_layers()
    if library is None or not all(map(_is_as_written, chain(network.encoder.modules(), network.decoder.modules()))):
        return None
    try:
        program = program_of(network, image.shape)
        runner = Runner(program, image.shape[0])
        arena = _take_arena(network, runner.arena_floats)
        logits = library.new_memory(image.shape[0], program.logits.channels, *program.logits.size[-program.n_axes:])
        runner.run(library, image.contiguous(), logits, arena)
    except NotFusable:
        return None
    _idle_arenas_of(network).append(arena)
    return logits


def _is_plain_prediction(image: Tensor) -> bool:
    return (type(image) is Tensor and image.device.type == "cpu" and image.dtype is torch.float32
            and image.layout is torch.strided and image.numel() > 0
            and not image.is_neg() and not image._is_zerotensor()  # their memory holds something else, or nothing
            and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and not is_watched()
            and not _has_global_hooks())


def _has_global_hooks() -> bool:
    hooks = nn.modules.module
    return bool(getattr(hooks, "_global_forward_hooks", True) or getattr(hooks, "_global_forward_pre_hooks", True))


def _is_as_written(module: nn.Module) -> bool:
    """Tell whether a call runs the `forward` that program.py knows in evaluation mode, and nothing else."""
    return not (module.training or module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
                ) and type(module).__module__.startswith(_KNOWN_CODE)


def _take_arena(network: nn.Module, floats: int) -> Tensor:
    """Return memory that is this call's alone; whoever predicts patch by patch gets the same again and again."""
    arena = torch.empty(0)
    with suppress(IndexError):  # of two threads one finds nothing
        arena = _idle_arenas_of(network).pop()
    if arena.numel() < floats:
        del arena  # before there is another
        arena = torch.empty(floats, dtype=torch.float32)
    return arena


def _idle_arenas_of(network: nn.Module) -> deque[Tensor]:
    return _idle_arenas.setdefault(network, deque(maxlen=1))
