"""Derivatives of operators that only move features: the same movement in the opposite direction."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Move = Callable[..., Tensor]


def moved(x: Tensor, step: int, move: Move, *settings: Any) -> Tensor:
    """Compute `move(x, *settings, step)`, differentiable backward, forward, twice and under `torch.func`.

    Args:
        x: feature map (N, C, *spatial), any dtype.
        step: direction of the movement, 1, or -1 for the opposite one.
        move: function that only moves features, and whose transpose is itself with the opposite step.
        settings: arguments that `move` takes between the map and the step.

    Examples:
        >>> x = torch.arange(3.0, requires_grad=True)
        >>> y = moved(x, 1, torch.roll)  # 2, 0, 1
        >>> torch.autograd.grad(y, x, torch.tensor([1.0, 0.0, 0.0]))
        (tensor([0., 0., 1.]),)
    """
    result: Tensor = _Moved.apply(x, step, move, *settings)
    return result


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, step: int, move: Move, *settings: Any) -> Tensor:
        return move(x, *settings, step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # how it moved, and nothing of the map
        _, ctx.step, *ctx.move_and_settings = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return moved(gradient, -ctx.step, *ctx.move_and_settings), None, *[None] * len(ctx.move_and_settings)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return moved(tangent, ctx.step, *ctx.move_and_settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], x: Tensor, *others: Any) -> tuple[Tensor, int]:
        samples = x.movedim(in_dims[0], 0)
        return moved(samples.flatten(0, 1), *others).unflatten(0, samples.shape[:2]), 0
