"""Measurements of contenders: checked first, then timed in turns; memory in a process of its own.

A contender is a function without arguments that computes a tensor.
"""

import importlib.util
import multiprocessing
import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from nnunetv2_gsp import timing
from nnunetv2_gsp.cpu import fused_layers

Contender = Callable[[], Tensor]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
NOT_INSTALLED = "not installed"
# what `nnUNetv2_gsp predict --verbose` tells of a case
TIMES = re.compile(r"([\d.]+) s waited for the image, ([\d.]+) s in the network, ([\d.]+) s to labels")
PACKAGES = ("nnunetv2", "dynamic-network-architectures", "openvino")


class WrongError(Exception):
    """A contender computes a wrong result, so its time means nothing."""


def environment() -> dict[str, str | int]:
    """Return what timings depend on: machine, threads and versions."""
    library = fused_layers()
    return {
        **timing.environment(),
        "cores": os.cpu_count() or 0,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "fused layers": library.build if library else "not built",
        **{package: package_version(package) for package in PACKAGES},
    }


def largest(values: Tensor) -> Tensor:
    """Return the largest absolute value."""
    return values.abs().max()


def check(
    name: str, output: Tensor, expected: Tensor, tolerance: float, size: Callable[[Tensor], Tensor] = largest
) -> float:
    """Return the relative error of a contender's output.

    Args:
        name: of the contender, for the message.
        output: of the contender, any shape.
        expected: of the same shape, computed in a way that is known to be right.
        tolerance: the largest relative error that is allowed, greater than 0.
        size: maps a tensor to its size, a number; for gradients a norm, since they jump where an activation is about
            zero.

    Raises:
        WrongError: the error is above `tolerance`, or the shapes differ.
    """
    if output.shape != expected.shape:
        raise WrongError(f"{name} gives {tuple(output.shape)} instead of {tuple(expected.shape)}: no figures.")
    error = relative_error(output, expected, size)
    if not error <= tolerance:
        raise WrongError(f"{name} is off by {error:.1e}, more than {tolerance:.0e}: no figures.")
    return error


def relative_error(output: Tensor, expected: Tensor, size: Callable[[Tensor], Tensor] = largest) -> float:
    """Return the size of the difference, as a part of the size of what is expected; arguments as in `check`."""
    return float(size(output - expected) / size(expected))


def check_labels(name: str, logits: Tensor, expected: Tensor) -> None:
    """Raise WrongError unless more than 99.99 % of the voxels get the same label, (N, classes, *spatial) each."""
    same = (logits.argmax(1) == expected.argmax(1)).double().mean().item()
    if same <= 0.9999:
        raise WrongError(f"{name} gives only {same:.4%} of the voxels the label they should have: no figures.")


def peak_megabytes(make_contender: Callable[[], Contender]) -> float:
    """Return the peak memory of a first run in MB, with weights and input, above a process with its libraries alone.

    Args:
        make_contender: picklable; memory that it keeps counts, memory that it frees again does not.
    """
    with multiprocessing.get_context("spawn").Pool(1) as child:
        return child.apply(_peak_megabytes, (make_contender, torch.get_num_threads()))


def _peak_megabytes(make_contender: Callable[[], Contender], n_threads: int) -> float:
    torch.set_num_threads(n_threads)
    if HAS_OPENVINO:
        importlib.import_module("openvino")
    before = _status_megabytes("VmRSS")
    contender = make_contender()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    with torch.inference_mode():
        contender()
    return _status_megabytes("VmHWM") - before


def _status_megabytes(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e6


def ratios(timings: Mapping[str, timing.Timing], baseline: str) -> dict[str, float]:
    """Return each contender's speed-up over the baseline, by the medians."""
    return {name: timings[baseline].median_ms / each.median_ms for name, each in timings.items()}


def package_version(package: str) -> str:
    """Return the installed version of a package, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED
