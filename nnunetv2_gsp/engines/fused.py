"""The engine of predictions on the CPU: records a network as a program for the compiled layers, and runs it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.cpu.arenas import Arenas
from nnunetv2_gsp.cpu.library import FusedLayers, Target
from nnunetv2_gsp.cpu.program import NotFusable, Program
from nnunetv2_gsp.cpu.runner import Runner, new_logits, target_in
from nnunetv2_gsp.engines.engine import NotApplicable, NotMeant
from nnunetv2_gsp.engines.recorder import Recorder, layers_for
from nnunetv2_gsp.ops.recording import is_watched

_arenas = Arenas()


class Fused(Recorder):
    """Records one call, and runs it.

    Each module is checked to compute what the compiled layers do. The network is read anew at every call, so whatever
    was changed in it counts. A NaN in the image gives NaN logits, as in PyTorch.

    Args:
        network: network to compute, a `Part`.
        layers: build of the compiled layers, as `library.fused_layers` returns it.
    """

    def __init__(self, network: nn.Module, layers: FusedLayers):
        super().__init__()
        self.network = network
        self.layers = layers

    def end(self, logits: Any) -> Tensor | list[Tensor]:
        """Run the program, and return logits (N, classes, *patch) in fp32, of one resolution or a list of them."""
        program = self.program(logits)
        computed = new_logits(self.layers, program, self.image.shape[0])
        self._run(program, computed)
        return computed if isinstance(logits, list) else computed[0]

    def add(self, logits: Any, weights: Tensor, sums: Tensor, mirrored: Sequence[int]) -> None:
        """Add weights · logits to `sums` tile by tile."""
        program = self.program(logits)
        target = target_in(program, sums, weights, mirrored)
        if target is None or len(self.image) > 1:
            super().add(logits, weights, sums, mirrored)
        else:
            self._run(program, [], target)

    def _run(self, program: Program, logits: Sequence[Tensor], target: Target | None = None) -> None:
        try:
            runner = Runner(program, self.image.shape[0], target)
        except NotFusable as reason:
            raise NotApplicable(str(reason)) from reason
        arena = _arenas.take(self.network, runner.arena_floats)
        runner.run(self.layers, self.image.contiguous(), logits, arena)
        _arenas.give_back(self.network, arena)


def fused(network: Any, image: Tensor) -> Fused:
    """Return the engine for one call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotMeant: it is no prediction, or operators are watched.
        NotApplicable: the image is no fp32 tensor of the CPU, there are no compiled layers here, or the network has a
            module that they do not know; also raised while the network walks through it.
    """
    if torch.compiler.is_compiling() or is_watched():
        raise NotMeant("operators are compiled, recorded, counted or transformed")
    if network.training or torch.is_grad_enabled():
        raise NotMeant("it is no prediction: modules in evaluation mode, gradients off")
    layers = layers_for(network, image)
    for module in network.modules():
        if module is not network and module.training:
            raise NotApplicable(f"a module in training mode: {type(module).__name__}")
    return Fused(network, layers)
