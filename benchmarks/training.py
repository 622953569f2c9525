"""Milliseconds of a training step: forward, nnU-Net's loss with deep supervision, backward, SGD; stock and GSP."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

from benchmarks.measuring import Contender, check, ratios
from benchmarks.models import CHANNELS, CLASSES, NNUNET_WIDTHS, TINY_WIDTHS, Plan, gsp, replace_modules, stock
from benchmarks.page import Row, Table
from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.counting import count_activation_bytes
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.ops.reference import group_shift_reference
from nnunetv2_gsp.timing import interleaved

Builder = Callable[..., Any]
BATCH = 2
PLAN = Plan(patch=(64, 64, 64), features=NNUNET_WIDTHS[:5])
TINY = Plan(patch=(64, 64, 64), features=TINY_WIDTHS)


def gsp_by(engine: str, plan: Plan, deep_supervision: bool = False) -> GSPUNet:
    """Build GSP, to be computed by one of `nnunetv2_gsp.engines.ENGINES`."""
    network = gsp(plan, deep_supervision)
    network.engine = engine
    return network


def cubic(plan: Plan, deep_supervision: bool = False) -> GSPUNet:
    """Build the paper's baseline: the same network with kernels of 3×3×3 and without shifts."""
    torch.manual_seed(0)
    return GSPUNet(
        **plan.topology(),
        kernel=3,
        spatial_groups=[(1, 1, 1)] * len(plan.features),
        shift_position="none",
        deep_supervision=deep_supervision,
    )


BUILDERS: dict[str, Builder] = {
    "stock": stock,
    "GSP": gsp,
    "GSP, checkpointed": partial(gsp_by, "checkpointed"),
    "GSP, plain": partial(gsp_by, "plain"),
    "GSP without its shifts": partial(gsp, shift_position="none"),
}
TINY_BUILDERS: dict[str, Builder] = {"3×3×3 of the same widths": cubic, "GSP, tiny": gsp}


def tables(plan: Plan = PLAN, tiny: Plan = TINY, rounds: int = 5) -> list[Table]:
    """Time a step for `plan` beside stock, and for `tiny` beside 3×3×3 kernels, and count what they keep."""
    _check_gradients()
    return [
        _table("A training step", BUILDERS, plan, rounds),
        _table("A training step of the tiny network", TINY_BUILDERS, tiny, rounds),
    ]


def _table(title: str, builders: dict[str, Builder], plan: Plan, rounds: int) -> Table:
    timings = interleaved(
        {
            name: training_step(build(plan, deep_supervision=True), _batch_shape(plan), CLASSES)
            for name, build in builders.items()
        },
        rounds,
    )
    baseline = next(iter(builders))
    faster, mebibytes = (
        ratios(timings, baseline),
        {name: _activation_mebibytes(build, plan) for name, build in builders.items()},
    )
    rows: list[Row] = [
        {
            "": name,
            f"speed-up over {baseline}": faster[name],
            f"activations relative to {baseline}": mebibytes[name] / mebibytes[baseline],
            "ms": timings[name],
            "activations, MiB": mebibytes[name],
        }
        for name in builders
    ]
    without = "GSP without its shifts"
    if without in timings:
        for row, name in zip(rows, builders, strict=True):
            row["time relative to no shifts"] = timings[name].median_ms / timings[without].median_ms
    return Table(
        f"{title}, {CHANNELS}×{plan.size}",
        rows,
        f"Batch {BATCH}, fp32, eager (nnU-Net compiles nothing on a CPU), widths {plan.features[0]} to "
        f"{plan.features[-1]}, {rounds} rounds. Activations: what autograd keeps from forward for backward, "
        f"every storage once.",
    )


def _batch_shape(plan: Plan) -> tuple[int, ...]:
    return (BATCH, CHANNELS, *plan.patch)


def training_step(network: nn.Module, shape: Sequence[int], classes: int) -> Contender:
    """Return a function that does one step of training, as nnU-Net does it on a CPU, and returns the loss.

    Args:
        network: a network with deep supervision; the steps change its weights.
        shape: shape of a batch of images, (N, C, *patch).
        classes: number of classes, background included, from 2 on.
    """
    loss_of = _loss(network, shape, classes)
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


def _loss(forward: Callable[[Tensor], Any], shape: Sequence[int], classes: int) -> Contender:
    """Return a function that computes nnU-Net's loss of a batch of noise."""
    torch.manual_seed(1)
    images = torch.randn(*shape)
    sizes = [logits.shape[2:] for logits in forward(images)]
    targets = [torch.randint(classes, (len(images), 1, *size)) for size in sizes]
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


def _activation_mebibytes(build: Builder, plan: Plan) -> float:
    network = build(plan, deep_supervision=True)
    return count_activation_bytes(network, torch.empty(_batch_shape(plan))) / 2**20


def _check_gradients() -> None:
    """Compare a small network's gradients with those of its modules one by one, each shift the paper's equations."""
    plan = replace(PLAN, patch=(16, 16, 16), features=(8, 16, 32))
    network, reference = (gsp(plan, deep_supervision=True) for _ in range(2))
    replace_modules(reference, GroupShift, _Reference)
    shape = _batch_shape(plan)
    _loss(network, shape, CLASSES)().backward()
    _loss(lambda images: reference.decoder(reference.encoder(images)), shape, CLASSES)().backward()
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
