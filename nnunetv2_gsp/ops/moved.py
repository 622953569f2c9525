"""What only moves features has one derivative: the same movement, the other way round."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Move = Callable[..., Tensor]


class Moved(torch.autograd.Function):
    """`move(x, *settings, step)`, whose transpose is that with the opposite step, for (N, C, *spatial) maps."""

    @staticmethod
    def forward(x: Tensor, step: int, move: Move, *settings: Any) -> Tensor:
        """Move (N, C, *spatial)."""
        return move(x, *settings, step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep how it moved, and nothing of the map."""
        _, ctx.step, *ctx.move_and_settings = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Move back."""
        return Moved.apply(gradient, -ctx.step, *ctx.move_and_settings), None, *[None] * len(ctx.move_and_settings)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """A movement is linear."""
        return Moved.apply(tangent, ctx.step, *ctx.move_and_settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], x: Tensor, *others: Any) -> tuple[Tensor, int]:
        """What is mapped over is more samples."""
        samples = x.movedim(in_dims[0], 0)
        return Moved.apply(samples.flatten(0, 1), *others).unflatten(0, samples.shape[:2]), 0
