"""When do the fused layers run, and with which memory? Everything else goes PyTorch's way."""
import threading
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from nnunetv2_gsp.cpu.library import fused_layers
from nnunetv2_gsp.cpu.program import NotFusable, program_of
from nnunetv2_gsp.cpu.runner import Runner

_MAX_SHAPES = 8


def fused_forward(network: Any, image: Tensor) -> Tensor | None:
    """Compute a GSPUNet's logits with the fused layers, or return None where they do not apply.

    They do in evaluation mode with gradients off, for fp32 tensors of the CPU, without autocast, deep supervision,
    hooks, or anything that traces, and for convolutions of one voxel with InstanceNorm or none and leaky ReLU.
    A value that is not a number gives a logit that is none, as in PyTorch.

    Args:
        network: a GSPUNet.
        image: (N, C, *spatial).

    Returns:
        (N, classes, *spatial) fp32.
    """
    if torch.compiler.is_compiling() or not _is_plain_prediction(image):
        return None
    library = fused_layers()
    if library is None or network.decoder.deep_supervision:
        return None
    modules = tuple(network.modules())[1:]  # without the network itself, which must not be kept alive
    if network.training or any(module.training or _has_hooks(module) for module in modules):
        return None
    memory = _memory_of(network, modules)
    try:
        runner = memory.runner(network, image.shape)
        arena = memory.take_arena(runner.arena_floats)
        logits = image.new_empty((image.shape[0], network.decoder.num_classes, *image.shape[2:]))
        runner.run(library, image.contiguous(), logits, arena)
        memory.give_back(arena)
    except NotFusable:
        return None
    return logits


def _is_plain_prediction(image: Tensor) -> bool:
    return (not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and not _is_watched()
            and type(image) is Tensor and image.device.type == "cpu" and image.dtype is torch.float32
            and image.layout is torch.strided and image.numel() > 0)


def _is_watched() -> bool:
    """Tell whether somebody wants to see PyTorch's own operators: tracing, counting FLOPs, forward derivatives ..."""
    return (torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
            or torch._C._len_torch_function_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None
            or forward_ad._current_level >= 0 or nn.modules.module._has_any_global_hook())


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _Memory:
    """What is kept of a network between calls: its programs, one a shape, and arenas that no call uses."""

    def __init__(self, modules: tuple[nn.Module, ...]):
        self.modules = modules
        self._runners: OrderedDict[torch.Size, Runner | NotFusable] = OrderedDict()
        self._arenas: list[Tensor] = []
        self._lock = threading.Lock()

    def runner(self, network: Any, shape: torch.Size) -> Runner:
        """Return the program for images of `shape`; raises NotFusable if there can be none."""
        with self._lock:
            if shape not in self._runners:
                self._runners[shape] = _new_runner(network, shape)
                if len(self._runners) > _MAX_SHAPES:
                    self._runners.popitem(last=False)
            runner = self._runners[shape]
        if isinstance(runner, NotFusable):
            raise runner
        return runner

    def take_arena(self, floats: int) -> Tensor:
        """Return memory that is this call's alone; fresh memory costs more time than a small patch."""
        with self._lock:
            arena = self._arenas.pop() if self._arenas else None
        return arena if arena is not None and arena.numel() >= floats else torch.empty(floats)

    def give_back(self, arena: Tensor) -> None:
        """Keep the memory for the next call; one is enough for whoever predicts patch by patch."""
        with self._lock:
            self._arenas = [arena]


_memories: WeakKeyDictionary[nn.Module, _Memory] = WeakKeyDictionary()
_memories_lock = threading.Lock()


def _memory_of(network: nn.Module, modules: tuple[nn.Module, ...]) -> _Memory:
    with _memories_lock:
        memory = _memories.get(network)
        if memory is None or memory.modules != modules:
            memory = _memories[network] = _Memory(modules)
        return memory


def _new_runner(network: Any, shape: torch.Size) -> Runner | NotFusable:
    try:
        if len(shape) != 2 + len(network.encoder.strides[0]):
            raise NotFusable(f"an image of shape {tuple(shape)}")
        program = program_of(network, shape[2:])
        if program.image.channels != shape[1]:
            raise NotFusable(f"{shape[1]} channels instead of {program.image.channels}")
        return Runner(program, shape[0])
    except NotFusable as reason:
        return reason
