"""Training steps: a program run forward, which keeps its products, and differentiated backward."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_gsp.cpu.library import (
    GRADIENTS,
    LOGITS,
    NONE,
    PACKED_MULTIPLE,
    FloatPointer,
    FusedLayers,
    Gradient,
    Map,
)
from nnunetv2_gsp.cpu.program import Buffer, NotFusable, Program, Step, round_up
from nnunetv2_gsp.cpu.runner import DOUBLE, Layout, check_memory, map_of, n_chunks, place, spaces_in, spaces_of

_Pair = ctypes.c_int32 * 2
_FLOAT_BYTES = ctypes.sizeof(ctypes.c_float)
_COEFFICIENTS = 4  # floats of layers/gradient.h's Coefficients


class TrainingStep:
    """A program for one batch: forward, then backward as often as wanted.

    What the backward pass needs lies in the arena of the forward pass: the map that each convolution made, and its
    moments. What layers read is computed from them again.

    Args:
        program: program of the network.
        n_samples: number of samples in the batch, from 1 on.

    Attributes:
        arena_floats: size in floats of the arena, which is kept until the last backward pass.
        parameters: those of the network that the program uses.

    Raises:
        NotFusable: see `runner.Runner`; or two layers share their weights.
    """

    def __init__(self, program: Program, n_samples: int):
        self.program = program
        self.n_samples = n_samples
        read = {read.buffer for step in program.steps for read in step.reads}
        layout = Layout(program.steps, spaces_in(program), n_samples, program.n_axes, kept=read)
        self._layers = layout.layers()
        self.arena_floats = layout.floats
        self.parameters = _parameters_of(program.steps)

    def forward(self, layers: FusedLayers, image: Tensor, arena: Tensor, logits: Sequence[Tensor]) -> None:
        """Compute logits, and fill the arena.

        Args:
            layers: build of the compiled layers, as `library.fused_layers` returns it.
            image: input (N, channels, *spatial), contiguous fp32.
            arena: at least `arena_floats` floats, which nobody else writes until the last `backward`.
            logits: outputs (N, classes, *spatial) of every resolution, contiguous fp32; overwritten.

        Raises:
            MemoryError: no memory is left for the threads.
        """
        check_memory(
            layers.run(
                self._layers,
                len(self._layers),
                self.n_samples,
                torch.get_num_threads(),
                spaces_of(arena, image, None, *logits),
            )
        )

    def backward(self, of_logits: Sequence[Tensor | None], wants_image: bool) -> "BackwardPass":
        """Lay out the backward pass.

        Args:
            of_logits: gradients of the logits of every resolution, contiguous fp32; None where there is none.
            wants_image: True computes the gradient of the image, too.
        """
        return BackwardPass(self, self._layers, of_logits, wants_image)


class BackwardPass:
    """The backward pass of a training step: the layers that gradients reach, the last layer first.

    Attributes:
        arena_floats: size in floats of the memory that is needed while it runs.
    """

    def __init__(self, step: TrainingStep, layers: Any, of_logits: Sequence[Tensor | None], wants_image: bool):
        program, self.n_samples = step.program, step.n_samples
        self._layers, self._of_logits = layers, of_logits
        self._image = program.image if wants_image else None
        self._spaces = spaces_in(program, image=LOGITS + len(of_logits))
        given = {logits for logits, gradient in zip(program.logits, of_logits, strict=True) if gradient is not None}
        self._reached = self._reached_steps(program, given)
        self._steps = [program.steps[index] for index in self._reached]
        self._offsets, self.arena_floats = place(self._steps, self._spaces, step.n_samples)
        self._gradients_of = {id(parameter): torch.empty_like(parameter) for parameter in _parameters_of(self._steps)}
        self._gradients = self._described()

    def run(self, layers: FusedLayers, image: Tensor, kept: Tensor, arena: Tensor) -> Tensor | None:
        """Compute all gradients, and return that of the image, or None if it is not wanted.

        Args:
            layers: build of the compiled layers, as `library.fused_layers` returns it.
            image: input of the forward pass, unchanged.
            kept: arena of the forward pass, unchanged.
            arena: at least `arena_floats` floats that nobody else uses meanwhile.

        Raises:
            MemoryError: no memory is left for the threads.
        """
        of_image = None if self._image is None else torch.zeros_like(image)
        check_memory(
            layers.differentiate(
                self._layers,
                len(self._layers),
                self._gradients,
                len(self._gradients),
                self.n_samples,
                torch.get_num_threads(),
                spaces_of(kept, image, arena, *self._of_logits, of_image),
            )
        )
        return of_image

    def of(self, parameter: nn.Parameter) -> Tensor | None:
        """Return the gradient of a parameter, or None where no gradient reaches it."""
        return self._gradients_of.get(id(parameter))

    def _reached_steps(self, program: Program, given: set[Buffer]) -> list[int]:
        """Return the numbers of the steps whose output gets a gradient, the last first."""
        reached, numbers = set(given), []
        for number in reversed(range(len(program.steps))):
            step = program.steps[number]
            if step.out in reached:
                numbers.append(number)
                reached.update(read.buffer for read in step.reads)
                reached.update([] if step.low is None else [step.low])
        return numbers

    def _described(self) -> Any:
        """Describe the steps to C, in an array."""
        parts = self._reserve(max((self._part_floats(step) for step in self._steps), default=0))
        sums = self._reserve(max((self._sums_floats(step) for step in self._steps), default=0))
        index_of = {step: index for index, step in enumerate(self._steps)}
        written: set[Buffer] = set()
        gradients = (Gradient * len(self._steps))()
        for gradient, number, step in zip(gradients, self._reached, self._steps, strict=True):
            gradient.layer, gradient.parts, gradient.sums = number, parts, sums
            gradient.packed = self._reserve(
                sum(round_up(read.buffer.channels, PACKED_MULTIPLE) for read in step.reads) * step.out.channels
            )
            gradient.coefficients = self._reserve(self.n_samples * step.out.channels * _COEFFICIENTS)
            gradient.totals = self._reserve(self.n_samples * step.out.channels * 2 * DOUBLE)
            gradient.of_out = self._map(step.out)
            gradient.wants_low = step.low is not None
            gradient.of_low = Map() if step.low is None else self._map(step.low)
            buffers = [read.buffer for read in step.reads]
            gradient.wants_inputs = _Pair(*(buffer not in self._spaces or buffer is self._image for buffer in buffers))
            gradient.adds_to_inputs = _Pair(*(buffer in written for buffer in buffers))
            gradient.of_inputs = (Map * 2)(*map(self._map, buffers))
            gradient.norms_of_inputs = _Pair(
                *(
                    NONE if read.producer is None or read.producer.norm is None else index_of[read.producer]
                    for read in step.reads
                )
            )
            written.update(buffers)
            self._point_at_gradients(gradient, step)
        return gradients

    def _point_at_gradients(self, gradient: Gradient, step: Step) -> None:
        if step.weights is not None:
            convolution, first_column, has_bias = step.weights
            gradient.weight = self._pointer(convolution.weight, first_column)
            if has_bias and convolution.bias is not None:
                gradient.bias = self._pointer(convolution.bias)
        if step.norm is not None:
            gradient.gamma, gradient.beta = (
                None if parameter is None else self._pointer(parameter)
                for parameter in (step.norm.weight, step.norm.bias)
            )

    def _pointer(self, parameter: Any, first: int = 0) -> Any:
        return ctypes.cast(self._gradients_of[id(parameter)].data_ptr() + first * _FLOAT_BYTES, FloatPointer)

    def _map(self, buffer: Buffer) -> Map:
        return map_of(buffer, self._spaces.get(buffer, GRADIENTS), self._offsets.get(buffer))

    def _part_floats(self, step: Step) -> int:
        """Room for the parts that the weights' gradient is summed up in."""
        channels = sum(read.buffer.channels for read in step.reads)
        return self.n_samples * n_chunks(step) * step.out.channels * (channels + 1) if step.reads else 0

    def _sums_floats(self, step: Step) -> int:
        return self.n_samples * n_chunks(step) * sum(read.buffer.channels for read in step.reads) * 2 * DOUBLE

    def _reserve(self, floats: int) -> int:
        begin = self.arena_floats
        self.arena_floats += round_up(floats)
        return begin


def _parameters_of(steps: Sequence[Step]) -> list[nn.Parameter]:
    """Return the parameters that steps name; a concatenation's weights are named by two, each for its columns."""
    columns = [(step.weights.convolution.weight, step.weights.first_column) for step in steps if step.weights]
    others = [
        parameter
        for step in steps
        for parameter in ([step.weights.convolution.bias] if step.weights and step.weights.has_bias else [])
        + ([] if step.norm is None else [step.norm.weight, step.norm.bias])
        if parameter is not None
    ]
    n_columns = len({(id(weight), first) for weight, first in columns})
    if n_columns < len(columns) or len(set(map(id, others))) < len(others):
        raise NotFusable("layers that share parameters")
    return list({id(parameter): parameter for parameter in (*(weight for weight, _ in columns), *others)}.values())
