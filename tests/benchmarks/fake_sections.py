"""Sections that end in every way; light to import, for each process does."""

import os
import subprocess
import time

from benchmarks.gpu.workers import Section
from benchmarks.page import Table


def section(name, limit_s=200.0):
    """One of these functions as a section."""
    return Section(name, f"{__name__}:{name}", limit_s)


def measured(settings):
    yield Table(f"On {settings.device}", [{"": "row"}])


def failing(settings):
    yield Table("Half", [{"": "row"}])
    os.environ["GSP_BENCH_HAS_FAILED"] = "1"
    raise ValueError("It is\nwrong.")


def poisoned(settings):
    """Fail in the process of a section that failed, as every call of CUDA does after an error of a kernel."""
    assert "GSP_BENCH_HAS_FAILED" not in os.environ
    yield Table("Whole", [{"": "row"}])


def dying(settings):
    os._exit(3)
    yield


def hanging(settings):
    # a child, as nnU-Net's commands are, that would outlive the section
    print("child", subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    time.sleep(1000)
    yield
