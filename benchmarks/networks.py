"""Milliseconds and memory to predict one patch: stock and GSP, in PyTorch, in fused layers and in OpenVINO."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from benchmarks.measuring import HAS_OPENVINO, NOT_INSTALLED, Contender, check, check_labels, peak_megabytes, ratios
from benchmarks.models import CHANNELS, TINY_WIDTHS, Plan, gsp, prediction, stock
from benchmarks.page import Row, Table
from nnunetv2_gsp.counting import count_parameters
from nnunetv2_gsp.cpu import fused_layers
from nnunetv2_gsp.timing import interleaved

ISOTROPIC = [Plan(), Plan(features=TINY_WIDTHS)]
ANISOTROPIC = [Plan(patch=(16, 256, 256), spacing_mm=(3.6, 0.625, 0.625))]  # as prostate scans come
# of the largest logit; OpenVINO loses digits in InstanceNorm
TOLERANCE = {"fused": 1e-4, "OpenVINO": 5e-3}
BASELINE = "stock, PyTorch"


@dataclass(frozen=True)
class Network:
    """A network and the ways to compute it."""

    build: Callable[[Plan], nn.Module]
    plan: Plan
    ways: tuple[str, ...]


Networks = Mapping[str, Network]


def networks_of(plan: Plan, tiny: Plan | None = None) -> Networks:
    """Return stock and GSP for a plan, and GSP for a smaller one with the same patch.

    Where nnU-Net plans flat kernels, stock with 3×3×3 in their place is there too.
    """
    fused = ("fused",) if fused_layers() else ()
    found = {"stock": Network(stock, plan, ("PyTorch", "OpenVINO"))}
    if any(min(kernel) == 1 for kernel in plan.topology()["kernel_sizes"]):
        found["stock, 3×3×3 everywhere"] = Network(stock, replace(plan, is_cubic=True), ("PyTorch",))
    return found | {
        name: Network(gsp, each, ("PyTorch", *fused, "OpenVINO"))
        for name, each in (("GSP", plan), ("GSP, tiny", tiny))
        if each is not None
    }


def isotropic() -> list[Table]:
    """Time predictions of 128³ voxels."""
    return time_tables(networks_of(*ISOTROPIC))


def anisotropic() -> list[Table]:
    """Time predictions of 16×256×256 voxels."""
    return time_tables(networks_of(*ANISOTROPIC))


def memory() -> list[Table]:
    """Measure the peak memory of all networks of both patches."""
    return [memory_table(networks_of(*plans)) for plans in (ISOTROPIC, ANISOTROPIC)]


def time_tables(networks: Networks, rounds: int = 5) -> list[Table]:
    """Check and time every way to compute some networks of one patch."""
    contenders, errors = _contenders(networks)
    with torch.inference_mode():
        timings = interleaved(contenders, rounds)
    by_stock = ratios(timings, BASELINE)
    rows: list[Row] = []
    for name, network in networks.items():
        by_openvino = ratios(timings, f"{name}, OpenVINO") if f"{name}, OpenVINO" in timings else {}
        for way in network.ways:
            full_name = f"{name}, {way}"
            rows.append(
                {
                    "": full_name,
                    "speed-up over stock": by_stock.get(full_name, NOT_INSTALLED),
                    "speed-up over OpenVINO on the same network": by_openvino.get(full_name),
                    "ms": timings.get(full_name),
                    "error": errors.get(full_name),
                }
            )
    return [
        Table(
            f"One patch, {_title(networks)}",
            rows,
            f"{'; '.join(map(_described, networks, networks.values()))}. fp32, batch 1, {rounds} rounds. Error: "
            f"of the largest logit, against PyTorch on the same network.",
        )
    ]


def memory_table(networks: Networks) -> Table:
    """Measure the peak memory of every way to compute some networks of one patch, each in a process of its own."""
    megabytes = {
        f"{name}, {way}": peak_megabytes(partial(prediction, network.build, way, network.plan))
        for name, network in networks.items()
        for way in network.ways
        if way != "OpenVINO" or HAS_OPENVINO
    }
    rows: list[Row] = [
        {
            "": full_name,
            "part of stock's": megabytes[full_name] / megabytes[BASELINE] if full_name in megabytes else NOT_INSTALLED,
            "MB": megabytes.get(full_name),
        }
        for full_name in (f"{name}, {way}" for name, network in networks.items() for way in network.ways)
    ]
    return Table(
        f"Peak memory of predicting one patch, {_title(networks)}",
        rows,
        "Resident memory at its peak, weights, image and logits included, above that of a process with its "
        "libraries loaded. OpenVINO's includes what its conversion leaves behind.",
    )


def _contenders(networks: Networks) -> tuple[dict[str, Contender], dict[str, float]]:
    """Build the contenders that run on this machine, and compare their logits with PyTorch's; return both."""
    contenders, errors = {}, {}
    for name, network in networks.items():
        expected = None
        for way in network.ways:
            if way == "OpenVINO" and not HAS_OPENVINO:
                continue
            full_name = f"{name}, {way}"
            contenders[full_name] = run = prediction(network.build, way, network.plan)
            with torch.inference_mode():
                logits = run()
            if expected is None:
                expected = logits
                continue
            errors[full_name] = check(full_name, logits, expected, TOLERANCE[way])
            if way == "fused":
                check_labels(full_name, logits, expected)
    return contenders, errors


def _title(networks: Networks) -> str:
    return f"{CHANNELS}×{networks['stock'].plan.size}"


def _described(name: str, network: Network) -> str:
    features, n_parameters = network.plan.features, count_parameters(network.build(network.plan))
    return f"{name}: {features[0]} to {features[-1]} features, {n_parameters / 1e6:.2f} M parameters"
