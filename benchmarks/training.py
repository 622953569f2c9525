"""Milliseconds of a training step: forward, nnU-Net's loss with deep supervision, backward, SGD; stock and GSP."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from benchmarks.measuring import Contender, check, ratios
from benchmarks.models import CHANNELS, CLASSES, NNUNET_WIDTHS, Plan, gsp, replace_modules, stock
from benchmarks.page import Row, Table
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.ops.reference import group_shift_reference
from nnunetv2_gsp.profiling import count_activation_bytes
from nnunetv2_gsp.timing import interleaved

BATCH = 2
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "stock": stock,
    "GSP": gsp,
    "GSP without its shifts": partial(gsp, shift_position="none"),
}
FULL_SIZE = Plan()


def tables(plan: Plan = Plan(patch=(64, 64, 64), features=NNUNET_WIDTHS[:5]), rounds: int = 5) -> list[Table]:  # noqa: B008 (frozen)
    """Time a step for `plan`, and count the activations that a step keeps for nnU-Net's plan of 128³ voxels."""
    _check_gradients()
    timings = interleaved(
        {name: _step(build(plan, deep_supervision=True), plan) for name, build in BUILDERS.items()}, rounds
    )
    by_stock, without = ratios(timings, "stock"), ratios(timings, "GSP without its shifts")
    gibibytes = {name: _activation_gibibytes(build) for name, build in BUILDERS.items()}
    rows: list[Row] = [
        {
            "": name,
            "speed-up over stock": by_stock[name],
            "time relative to no shifts": 1 / without[name],
            "activations, part of stock's": gibibytes[name] / gibibytes["stock"],
            "ms": timings[name],
            f"activations at {CHANNELS}×{FULL_SIZE.size}, GiB": gibibytes[name],
        }
        for name in BUILDERS
    ]
    return [
        Table(
            f"A training step, {CHANNELS}×{plan.size}",
            rows,
            f"Batch {BATCH}, fp32, eager (nnU-Net compiles nothing on a CPU), widths {plan.features[0]} to "
            f"{plan.features[-1]}, {rounds} rounds. Activations: what autograd keeps from forward for backward, "
            f"every storage once, at widths {FULL_SIZE.features[0]} to {FULL_SIZE.features[-1]}.",
        )
    ]


def _step(network: nn.Module, plan: Plan) -> Contender:
    """Return a function that does one step of training and returns the loss."""
    loss_of = _loss(network, plan)
    # as nnUNetTrainer
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        return loss.detach()

    return step


def _loss(forward: Callable[[Tensor], Any], plan: Plan) -> Contender:
    """Return a function that computes nnU-Net's loss of a batch of noise."""
    torch.manual_seed(1)
    images = torch.randn(BATCH, CHANNELS, *plan.patch)
    with torch.no_grad():
        sizes = [logits.shape[2:] for logits in forward(images)]
    targets = [torch.randint(CLASSES, (BATCH, 1, *size)) for size in sizes]
    weights = [0.5**index for index in range(len(sizes) - 1)] + [0.0]
    loss = DeepSupervisionWrapper(
        DC_and_CE_loss(
            {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
            {},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        [weight / sum(weights) for weight in weights],
    )
    return lambda: loss(forward(images), targets)


def _activation_gibibytes(build: Callable[..., nn.Module]) -> float:
    with torch.device("meta"):
        network = build(FULL_SIZE, deep_supervision=True)
        return count_activation_bytes(network, torch.empty(BATCH, CHANNELS, *FULL_SIZE.patch)) / 2**30


def _check_gradients() -> None:
    """Compare a small network's gradients with those of its modules one by one, each shift the paper's equations."""
    plan = replace(FULL_SIZE, patch=(16, 16, 16), features=(8, 16, 32))
    network, reference = (gsp(plan, deep_supervision=True) for _ in range(2))
    replace_modules(reference, GroupShift, _Reference)
    _loss(network, plan)().backward()
    _loss(lambda images: reference.decoder(reference.encoder(images)), plan)().backward()
    check(
        "a training step of GSP",
        _gradient(network),
        _gradient(reference),
        tolerance=1e-3,
        size=torch.linalg.vector_norm,
    )


def _gradient(network: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


class _Reference(nn.Module):
    def __init__(self, shift: GroupShift):
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return group_shift_reference(x, self.shift.spatial_groups, self.shift.shift_channels)
