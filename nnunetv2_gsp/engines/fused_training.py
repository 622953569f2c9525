"""The engine of training steps on the CPU: one node of autograd for the whole network, in compiled layers.

Forward keeps the output of each convolution and its moments. Backward computes what the convolution read again while
loading it, so no gradient moves through memory more than once a layer.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.cpu.arenas import Arenas
from nnunetv2_gsp.cpu.library import FusedLayers
from nnunetv2_gsp.cpu.program import NotFusable
from nnunetv2_gsp.cpu.runner import new_logits
from nnunetv2_gsp.cpu.training import TrainingStep
from nnunetv2_gsp.engines.checkpointed import CHECKPOINTED, is_training_step
from nnunetv2_gsp.engines.engine import NotApplicable, NotMeant
from nnunetv2_gsp.engines.recorder import Recorder, layers_for
from nnunetv2_gsp.ops.recording import is_watched

_kept, _meanwhile = Arenas(), Arenas()


class FusedTraining(Recorder):
    """Records one call, and runs it as one node of autograd.

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
        try:
            step = TrainingStep(self.program(logits), self.image.shape[0])
        except NotFusable as reason:
            raise NotApplicable(str(reason)) from reason
        computed = _Network.apply(_Call(self.network, self.layers, step), self.image.contiguous(), *step.parameters)
        return list(computed) if isinstance(logits, list) else computed[0]


class _Call:
    """One training step of a network: its program, and the memory that it takes."""

    def __init__(self, network: Any, layers: FusedLayers, step: TrainingStep):
        self.network, self.layers, self.step = network, layers, step

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what is kept, and the logits."""
        arena = _kept.take(self.network, self.step.arena_floats, self.layers.new_memory)
        kept = arena.view(-1)
        # whoever holds the graph holds the view; the memory is free when that is gone
        weakref.finalize(kept, _kept.give_back, self.network, arena).atexit = False
        logits = new_logits(self.layers, self.step.program, len(image))
        self.step.forward(self.layers, image, kept, logits)
        return kept, logits

    def backward(
        self, image: Tensor, kept: Tensor, of_logits: Sequence[Tensor | None], wants_image: bool
    ) -> list[Tensor | None]:
        """Return the gradients of the image and of the parameters."""
        plain = [None if gradient is None else gradient.contiguous().resolve_neg() for gradient in of_logits]
        backward = self.step.backward(plain, wants_image)
        arena = _meanwhile.take(self.network, backward.arena_floats, self.layers.new_memory)
        of_image = backward.run(self.layers, image, kept, arena)
        _meanwhile.give_back(self.network, arena)
        return [of_image, *map(backward.of, self.step.parameters)]

    def differentiable_backward(self, image: Tensor, of_logits: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return what `backward` does, by operators that autograd can differentiate again."""
        logits = CHECKPOINTED.end(self.network.walk(CHECKPOINTED.begin(image), CHECKPOINTED))
        pairs = [
            (each, gradient)
            for each, gradient in zip(logits if isinstance(logits, list) else [logits], of_logits, strict=True)
            if gradient is not None
        ]
        inputs = [image, *self.step.parameters]
        wanted = [each for each in inputs if each.requires_grad]
        gradients = torch.autograd.grad(
            [each for each, _ in pairs],
            wanted,
            [gradient for _, gradient in pairs],
            create_graph=True,
            allow_unused=True,
        )
        found = {id(each): gradient for each, gradient in zip(wanted, gradients, strict=True)}
        return [found.get(id(each)) for each in inputs]


class _Network(torch.autograd.Function):
    """A network's logits, of its image and its parameters."""

    @staticmethod
    def forward(ctx: Any, call: _Call, image: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        kept, logits = call.forward(image)
        ctx.call = call
        ctx.save_for_backward(image, kept, *parameters)  # parameters, so that autograd sees whether they were changed
        ctx.set_materialize_grads(False)
        return tuple(logits)

    @staticmethod
    def backward(ctx: Any, *of_logits: Tensor | None) -> tuple[Tensor | None, ...]:
        image, kept, *_ = ctx.saved_tensors
        call, wanted = ctx.call, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # create_graph
            gradients = call.differentiable_backward(image, of_logits)
        else:
            gradients = call.backward(image, kept, of_logits, wanted[0])
        return None, *(gradient if is_wanted else None for gradient, is_wanted in zip(gradients, wanted, strict=True))


def fused_training(network: Any, image: Tensor) -> FusedTraining:
    """Return the engine for one call of `network`.

    Args:
        network: network to compute, a `Part`.
        image: input of the network, (N, C, *patch).

    Raises:
        NotMeant: it is no training step, or operators are watched.
        NotApplicable: the image is no fp32 tensor of the CPU, there are no compiled layers here, somebody wants to see
            each module run, or the network has a module that they do not know; also raised while the network walks
            through it.
    """
    if torch.compiler.is_compiling() or is_watched():
        raise NotMeant("operators are compiled, recorded, counted or transformed")
    if not is_training_step(network):
        raise NotMeant("it is no training step")
    return FusedTraining(network, layers_for(network, image))
