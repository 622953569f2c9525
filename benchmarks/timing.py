"""Interleaved timing: every contender once a round, so that whatever else the machine does hits them alike."""
import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one contender over all rounds."""

    median_ms: float
    low_ms: float   # 10th percentile
    high_ms: float  # 90th percentile

    def __str__(self) -> str:
        """Median and spread, for a table."""
        return f"{self.median_ms:.1f} ({self.low_ms:.1f}-{self.high_ms:.1f})"


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time each contender `rounds` times, taking turns, after one warm-up round."""
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            milliseconds[name].append((time.perf_counter() - start) * 1e3)
    return {name: _summary(values[1:]) for name, values in milliseconds.items()}


def command_line(description: str | None, rounds: int) -> argparse.Namespace:
    """Parse what every bench takes: `rounds` and, where the figures go too, `json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args()


def save(file: Path | None, timings: dict[str, Timing]) -> None:
    """Write the figures and what they depend on, if a file was asked for."""
    if file is not None:
        file.write_text(json.dumps({"environment": environment(), "timings_ms": {
            name: asdict(timing) for name, timing in timings.items()}}, indent=1))


def environment() -> dict[str, str | int]:
    """Return what the figures depend on."""
    return {"machine": platform.machine(), "processor": processor_name(), "threads": torch.get_num_threads(),
            "python": platform.python_version(), "torch": torch.__version__}


def processor_name() -> str:
    """Return the processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _summary(milliseconds: list[float]) -> Timing:
    deciles = statistics.quantiles(milliseconds, n=10)
    return Timing(statistics.median(milliseconds), deciles[0], deciles[-1])
