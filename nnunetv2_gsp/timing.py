"""Measures times in rounds: every contender runs once a round, so that other load affects all of them alike."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from nnunetv2_gsp.progress import progress


@dataclass(frozen=True)
class Timing:
    """Times of one contender over all rounds, in milliseconds.

    Attributes:
        median_ms: median over the rounds in milliseconds.
        low_ms: 10th percentile over the rounds in milliseconds.
        high_ms: 90th percentile over the rounds in milliseconds.

    Example:
        >>> print(Timing(median_ms=12.34, low_ms=11.9, high_ms=15.0))
        12.3 (11.9-15.0)
    """

    median_ms: float
    low_ms: float
    high_ms: float

    def __str__(self) -> str:
        """Return median and spread, for a table."""
        digits = 1 if self.median_ms >= 1 else 3
        return f"{self.median_ms:.{digits}f} ({self.low_ms:.{digits}f}-{self.high_ms:.{digits}f})"


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu") -> dict[str, Timing]:
    """Time each contender `rounds` times, taking turns, after one warm-up round.

    Args:
        contenders: functions without arguments, by name.
        rounds: number of timed calls of each contender, at least 1.
        device: device that the contenders use, cpu, cuda or mps; the clock waits until it is idle.

    Returns:
        Contender's name -> timing.

    Example:
        >>> sorted(interleaved({"sum": lambda: sum(range(9)), "max": lambda: max(range(9))}, rounds=3))
        ['max', 'sum']
    """
    wait_for_device = torch.get_device_module(device).synchronize
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in progress(range(rounds + 1), "timing", "round", stays=False):
        for name, run in contenders.items():
            wait_for_device()
            start = time.perf_counter()
            run()
            wait_for_device()
            milliseconds[name].append((time.perf_counter() - start) * 1e3)
    return {name: _summary(values[1:]) for name, values in milliseconds.items()}


def environment() -> dict[str, str | int]:
    """Return the conditions of timings: machine, processor, PyTorch's threads, versions of Python and PyTorch.

    Example:
        >>> sorted(environment())
        ['machine', 'processor', 'python', 'threads', 'torch']
    """
    return {
        "machine": platform.machine(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor_name() -> str:
    """Return the processor's name as the operating system reports it, which may be an empty string."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _summary(milliseconds: list[float]) -> Timing:
    low, median, high = np.percentile(milliseconds, (10, 50, 90)).tolist()
    return Timing(median, low, high)
