"""Correctness on a GPU: logits and gradients against the CPU in fp32, and a patch of one value."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.networks import network_of
from benchmarks.gpu.settings import KINDS, Contender, Settings
from benchmarks.measuring import WrongError, check
from benchmarks.models import CHANNELS, CLASSES, Plan
from benchmarks.page import Row, Table
from nnunetv2_gsp.ops import group_shift
from nnunetv2_gsp.ops.reference import group_shift_reference

EDGE, BATCH = 32, 2
# of the norm: of the logits, and of the whole gradient, which jumps where an activation is about zero
TOLERANCES = {torch.float32: (1e-4, 1e-2), torch.float16: (2e-2, 1e-1), torch.bfloat16: (8e-2, 3e-1)}
LOSS_SCALE = 2.0**16  # where nnU-Net's GradScaler starts
SHIFTS = (((2, 2, 2), 16), ((3, 1, 5), 15), ((1, 4, 2), 24))
CONSTANTS, NOISES = (0.0, -1.5, 37.3), (0.0, 1e-6, 1e-4)


def tables(settings: Settings) -> Iterator[Table]:
    """Compare stock and GSP, in fp32 and under AMP, with the CPU."""
    _check_shift(settings)
    rows: list[Row] = []
    with without_tf32():
        for kind in KINDS:
            rows += _rows_beside_cpu(kind, settings)
    yield Table(
        "Against the CPU in fp32",
        rows,
        f"Norm of the difference, as a part of the norm; TF32 off. Batch {BATCH}, {CHANNELS}×{EDGE}³, cross "
        f"entropy, without the biases of convolutions; half precision under AMP, the loss multiplied by 2^16 "
        f"as in nnU-Net's first steps. Everything was finite, and the shift alone is exact in all three.",
    )


def constant_tables(settings: Settings) -> Iterator[Table]:
    """Compare the logits of a constant and a nearly constant patch with what a constant patch should give."""
    rows: list[Row] = []
    for contender in settings.contenders:
        spreads = _largest_spreads(contender, settings)
        rows += [
            {
                "": f"{contender}, noise {noise:g}",
                "fp32": f"{spreads[noise, False]:.2g}",
                "fp16 AMP" if settings.on_gpu else "bf16 AMP": f"{spreads[noise, True]:.2g}",
            }
            for noise in NOISES
        ]
        yield Table(
            "A patch of one value",
            list(rows),
            f"Standard deviation of a class's logits over the patch, as a part of the largest logit; the largest "
            f"of the values {', '.join(f'{value:g}' for value in CONSTANTS)} and two patches. Stock, whose "
            f"convolutions pad with zeros, without 16 voxels at its border. Random weights.",
        )


@contextmanager
def without_tf32() -> Iterator[None]:
    """Convolve in fp32 where it says so."""
    before = torch.backends.cudnn.allow_tf32  # of convolutions; for products it is off anyway
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _check_shift(settings: Settings) -> None:
    x = torch.randn(2, 24, 12, 8, 20)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for groups, channels in SHIFTS:
            shifted = group_shift(x.to(settings.device, dtype), groups, channels).cpu()
            if not torch.equal(shifted, group_shift_reference(x.to(dtype), groups, channels)):
                raise WrongError(f"The shift of {channels} channels by groups {groups} is not exact in {dtype}.")


def _rows_beside_cpu(kind: str, settings: Settings) -> list[Row]:
    torch.manual_seed(1)
    image = torch.randn(BATCH, CHANNELS, EDGE, EDGE, EDGE)
    target = torch.randint(CLASSES, (BATCH, EDGE, EDGE, EDGE))
    network = network_of(kind, Plan((EDGE, EDGE, EDGE), settings.features[:3])).train()
    expected = logits_and_gradient(deepcopy(network), image, target)
    rows: list[Row] = []
    for dtype, tolerances in TOLERANCES.items():
        if dtype is torch.float16 and not settings.on_gpu:
            continue  # nnU-Net does not use it there, and torch takes minutes
        name = f"{kind}, {str(dtype).removeprefix('torch.')}"
        computed = logits_and_gradient(
            deepcopy(network).to(settings.device), image.to(settings.device), target.to(settings.device), dtype
        )
        pairs = zip(computed, expected, strict=True)
        errors = [
            check(f"{name}, {what}", *pair, tolerance, torch.linalg.vector_norm)
            for what, pair, tolerance in zip(("logits", "gradient"), pairs, tolerances, strict=True)
        ]
        rows.append({"": name, "logits off by": f"{errors[0]:.1e}", "whole gradient off by": f"{errors[1]:.1e}"})
    return rows


def logits_and_gradient(
    network: nn.Module, image: Tensor, target: Tensor, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Return the logits, and the gradient in one vector, on the CPU in fp32.

    A bias in front of a norm has no gradient but rounding, so it stays out.
    """
    scale = 1.0 if dtype is torch.float32 else LOSS_SCALE
    with torch.autocast(image.device.type, dtype, enabled=dtype is not torch.float32):
        logits = network(image)
        loss = functional.cross_entropy(logits.float(), target)
    (loss * scale).backward()
    gradient = torch.cat(
        [
            parameter.grad.flatten()
            for name, parameter in network.named_parameters()
            if parameter.grad is not None and not name.endswith("conv.bias")
        ]
    )
    return [logits.detach().float().cpu(), (gradient / scale).cpu()]


def _largest_spreads(contender: Contender, settings: Settings) -> dict[tuple[float, bool], float]:
    """Return the largest spread of the logits by noise and whether precision is half."""
    spreads = dict.fromkeys(product(NOISES, (False, True)), 0.0)
    for size in ((16, 16, 16),) if settings.is_tiny else ((64, 64, 64), (48, 96, 80)):
        network = network_of(contender.kind, Plan(size, settings.features[:5])).to(settings.device).eval()
        network.engine = contender.engine  # type: ignore[assignment]
        border = (4 if settings.is_tiny else 16) if contender.kind == "stock" else 0
        for value, (noise, is_half) in product(CONSTANTS, spreads):
            torch.manual_seed(2)
            image = value + noise * torch.randn(1, CHANNELS, *size)
            with torch.inference_mode(), torch.autocast(settings.device, enabled=is_half):
                logits = network(image.to(settings.device)).float()
            spreads[noise, is_half] = max(spreads[noise, is_half], _spread(logits, border))
    return spreads


def _spread(logits: Tensor, border: int) -> float:
    """Return the largest deviation of a class's logits, (1, classes, *size), as a part of the largest logit."""
    if not logits.isfinite().all():
        raise WrongError("A patch of one value gives logits that are not finite.")
    inside = functional.pad(logits, [-border] * 6)
    return float(inside.flatten(2).std(2).max() / inside.abs().max())
