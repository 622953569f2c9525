"""The engine of predictions on the CPU: records a network as a program for the compiled layers, and runs it."""

from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.cpu import fused_layers
from nnunetv2_gsp.cpu.arenas import Arenas
from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.program import NotFusable, Program
from nnunetv2_gsp.cpu.runner import Runner
from nnunetv2_gsp.engines.engine import NotApplicable, NotMeant
from nnunetv2_gsp.engines.part import check_as_written
from nnunetv2_gsp.engines.recorder import Recorder, check_image, check_module
from nnunetv2_gsp.ops.recording import has_hooks_of_all_modules, is_watched

_arenas = Arenas()


class Fused(Recorder):
    """Records one call, and runs it.

    Each module is checked to compute what the compiled layers do. The network is read anew at every call, so whatever
    was changed in it counts. A value that is not a number gives a logit that is none, as in PyTorch.

    Args:
        network: the Part that is walked through.
        layers: the compiled layers.
    """

    def __init__(self, network: nn.Module, layers: FusedLayers):
        super().__init__()
        self.network = network
        self.layers = layers

    def end(self, logits: Any) -> Tensor:
        """Run the program, and return logits (N, classes, *patch) in fp32."""
        if isinstance(logits, list):
            raise NotMeant("deep supervision")
        program = Program(self.steps, self.first, logits.buffer, self.n_axes)
        n_samples = self.image.shape[0]
        try:
            runner = Runner(program, n_samples)
        except NotFusable as reason:
            raise NotApplicable(str(reason)) from reason
        arena = _arenas.take(self.network, runner.arena_floats)
        result = self.layers.new_memory(n_samples, program.logits.channels, *program.logits.size[-self.n_axes :])
        runner.run(self.layers, self.image.contiguous(), result, arena)
        _arenas.give_back(self.network, arena)
        return result


def fused(network: Any, image: Tensor) -> Fused:
    """Return the engine for one call of `network`.

    Args:
        network: a Part.
        image: (N, C, *patch).

    Raises:
        NotApplicable: it is no prediction of fp32 tensors on the CPU, there are no compiled layers here, or the
            network has a module that they do not know; also raised while the network walks through it.
    """
    if torch.compiler.is_compiling() or is_watched():
        raise NotMeant("operators are compiled, recorded, counted or transformed")
    if network.training or torch.is_grad_enabled() or image.device.type != "cpu":
        raise NotMeant("it is no prediction on the CPU: modules in evaluation mode, gradients off")
    check_image(image)
    layers = fused_layers()
    if layers is None:
        raise NotMeant("the compiled layers are not there")  # fused_layers has said so
    for part in network.parts():
        check_as_written(part)
    for module in network.modules():
        if module is not network:
            _check_evaluates(module)
            check_module(module)
    if has_hooks_of_all_modules():
        raise NotApplicable("a hook of all modules")
    return Fused(network, layers)


def _check_evaluates(module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:
        raise NotApplicable(f"a hook of {type(module).__name__}")
    if module.training:
        raise NotApplicable(f"a module in training mode: {type(module).__name__}")
