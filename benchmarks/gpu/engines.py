"""Which engine trains faster on a GPU, and how near do they come to fp64? GSP by each of its engines, beside stock.

The second question comes first, in a process of its own: an engine on request that fails there is not timed.
"""

from collections.abc import Iterator
from copy import deepcopy

import torch

from benchmarks.gpu.checks import BATCH, EDGE, TOLERANCES, logits_and_gradient, without_tf32
from benchmarks.gpu.meters import free, longest_kernels
from benchmarks.gpu.networks import network_of
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.training import Training
from benchmarks.gpu.training import warm_stock as warm_stock  # which compiles what `tables` will need, too
from benchmarks.measuring import WrongError, ratios, relative_error
from benchmarks.models import CHANNELS, CLASSES, Plan
from benchmarks.page import Row, Table
from nnunetv2_gsp.timing import interleaved
from nnunetv2_gsp.wording import times

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def tables(settings: Settings) -> Iterator[Table]:
    """Time steps, and name the longest kernels of the first engine's."""
    rows: list[Row] = []
    for way in settings.ways:
        contenders = {name: Training("GSP", way, settings, name) for name in _engines(settings)}
        contenders["stock"] = Training("stock", way, settings)
        for what in ("step", "forward"):
            timings = interleaved(
                {name: getattr(each, what) for name, each in contenders.items()}, settings.rounds(20), settings.device
            )
            faster = {f"stock / {name}": ratio for name, ratio in ratios(timings, "stock").items() if name != "stock"}
            rows.append({"": f"{what}, {way}", **faster, **{f"{name}, ms": timings[name] for name in contenders}})
        rows[-2].update(
            {
                f"{name}'s {what}": getattr(each, attribute)
                for name, each in contenders.items()
                for what, attribute in (("peak, GiB", "peak_gib"), ("first step, s", "first_step_s"))
            }
        )
        yield Table(
            f"Engines, {settings.batch}×{CHANNELS}×{times(settings.patch)}",
            list(rows),
            f"As in the table of trainings; {settings.rounds(20)} rounds.",
        )
        first = _engines(settings)[0]
        yield from longest_kernels(f"a training step, {first}, {way}", contenders[first].step, settings)
        del contenders
        free()


def warm_triton(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    Training("GSP", settings.ways[0], settings, settings.asked_engine).forward()
    yield from ()


def warm_checkpointed(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    Training("GSP", settings.ways[0], settings, "checkpointed").forward()
    yield from ()


def _engines(settings: Settings) -> tuple[str, ...]:
    return (*([settings.asked_engine] if settings.takes_asked else []), "checkpointed")


def errors(settings: Settings) -> Iterator[Table]:
    """Compare logits and gradient of each engine with fp64; fail at the end if one is off in any precision."""
    torch.manual_seed(1)
    image = torch.randn(BATCH, CHANNELS, EDGE, EDGE, EDGE)
    target = torch.randint(CLASSES, (BATCH, EDGE, EDGE, EDGE))
    network = network_of("GSP", Plan((EDGE, EDGE, EDGE), settings.features[:3])).train()
    exact = logits_and_gradient(deepcopy(network).double(), image.double(), target)
    rows, wrong = list[Row](), list[str]()
    with without_tf32():
        for dtype in DTYPES if settings.on_gpu else DTYPES[-1:]:
            for name in reversed(_engines(settings)):
                ours = deepcopy(network).to(settings.device)
                ours.engine = name  # type: ignore[assignment]
                found = logits_and_gradient(ours, image.to(settings.device), target.to(settings.device), dtype)
                far = [relative_error(*pair, torch.linalg.vector_norm) for pair in zip(found, exact, strict=True)]
                title = f"{name}, {str(dtype).removeprefix('torch.')}"
                rows.append({"": title, "logits off by": f"{far[0]:.1e}", "whole gradient off by": f"{far[1]:.1e}"})
                yield Table(
                    "Engines against fp64",
                    list(rows),
                    f"Norm of the difference, as a part of the norm, to plain PyTorch in fp64 on the CPU. Batch "
                    f"{BATCH}, {CHANNELS}×{EDGE}³, three stages; half precision under AMP, the loss times 2^16.",
                )
                if not all(error <= most for error, most in zip(far, TOLERANCES[dtype], strict=True)):
                    wrong.append(f"{title} is off by {far}")
    if wrong:
        raise WrongError("; ".join(wrong))
