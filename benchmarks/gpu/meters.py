"""Meters of a run: time without kernel launches, peak memory, and the kernels that take longest."""

import gc
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.settings import Settings
from benchmarks.measuring import package_version
from benchmarks.page import Cell, Row, Table
from nnunetv2_gsp import timing
from nnunetv2_gsp.timing import Timing, interleaved

N_KERNELS, PROFILED_RUNS, LONGEST_NAME = 15, 3, 100
PACKAGES = ("triton", "nnunetv2", "dynamic-network-architectures", "numpy")
Run = Callable[[], object]


def environment(settings: Settings) -> dict[str, Cell]:
    """Return date, machine and versions of a measurement."""
    card: dict[str, Cell] = {}
    if settings.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        card = {
            "GPU": properties.name,
            "GiB": f"{properties.total_memory / 2**30:.1f}",
            "multiprocessors": properties.multi_processor_count,
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return {
        "date": date.today().isoformat(),
        **card,
        **timing.environment(),
        **{package: package_version(package) for package in PACKAGES},
        "code": settings.code,
    }


def state_of_the_code() -> str:
    """Return git's name for what is checked out here, or `unknown`."""
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def free() -> None:
    """Free memory and compiled code before the next contenders come."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def allocated_bytes(settings: Settings) -> int:
    """Return the bytes that tensors occupy on the GPU."""
    return torch.cuda.memory_allocated() if settings.on_gpu else 0


def peak_gibibytes(run: Run, of_others: int, settings: Settings) -> float | None:
    """Return the peak memory of a run in GiB, less the bytes that others hold; None on a CPU."""
    if not settings.on_gpu:
        run()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - of_others) / 2**30


def in_a_row(contenders: Mapping[str, Run], calls: int, rounds: int, device: str) -> dict[str, Timing]:
    """Time short contenders, taking turns: the device is waited for once in some calls, which hides their launches."""
    timings = interleaved({name: _repeated(run, calls) for name, run in contenders.items()}, rounds, device)
    return {name: Timing(*(value / calls for value in astuple(each))) for name, each in timings.items()}


def longest_kernels(title: str, run: Run, settings: Settings) -> Iterator[Table]:
    """Yield the kernels in which a run spends most of its time; on a CPU, torch's operators.

    Where the profiler sees none, as on machines that let nobody count, nothing is yielded.
    """
    events = _profiled(run, settings)
    if not events:
        return
    total = sum(map(_microseconds(settings), events))
    rows: list[Row] = [
        {
            "": f"`{event.key[:LONGEST_NAME]}`",
            "part of all": _microseconds(settings)(event) / total,
            "ms": _microseconds(settings)(event) / 1e3 / PROFILED_RUNS,
            "calls": event.count / PROFILED_RUNS,
        }
        for event in events[:N_KERNELS]
    ]
    yield Table(
        f"The {N_KERNELS} longest kernels of {title}",
        rows,
        f"Of {total / 1e3 / PROFILED_RUNS:.1f} ms in all kernels, by torch's profiler, the mean of "
        f"{PROFILED_RUNS} runs.",
    )


def _repeated(run: Run, calls: int) -> Run:
    def repeated() -> None:
        for _ in range(calls):
            run()

    return repeated


def _profiled(run: Run, settings: Settings) -> list[Any]:
    activity = torch.profiler.ProfilerActivity
    run()
    with torch.profiler.profile(activities=[activity.CPU, *[activity.CUDA] * settings.on_gpu]) as profiler:
        for _ in range(PROFILED_RUNS):
            run()
        if settings.on_gpu:
            torch.cuda.synchronize()
    microseconds = _microseconds(settings)
    # what a kernel takes counts for the operator that launched it, too
    of_the_device = [
        event
        for event in profiler.key_averages()
        if microseconds(event) > 0 and (not settings.on_gpu or str(event.device_type).endswith("CUDA"))
    ]
    return sorted(of_the_device, key=microseconds, reverse=True)


def _microseconds(settings: Settings) -> Callable[[Any], float]:
    return lambda event: event.self_device_time_total if settings.on_gpu else event.self_cpu_time_total
