"""Real nnU-Net in temporary folders, on the CPU, with few processes."""

import os
import resource
import signal
from contextlib import contextmanager, suppress
from pathlib import Path

# read by nnU-Net and torch when they are imported
os.environ["nnUNet_def_n_proc"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks, and tests beside each other
os.environ["nnUNet_n_proc_DA"] = "1"
os.environ["nnUNet_extTrainer"] = str(Path(__file__).parent / "ext_trainers")

import hypothesis
import numpy as np
import pytest
import torch

from nnunetv2_gsp.plugin import startup
from tests.host_in_process import prepared_processes  # noqa: F401

# the same examples in every run, however slow the machine is
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
with suppress(ImportError):  # newer versions draw literals of the modules that are loaded, so tests before decide
    from hypothesis.internal.conjecture import providers
    from hypothesis.internal.constants_ast import Constants

    providers._get_local_constants = Constants

# a shell starts its background jobs with Ctrl-C ignored, nohup ignores SIGHUP; what tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

startup.append_ext_trainer_folder()  # as the .pth of an installed package does


@pytest.fixture(autouse=True)
def as_if_alone():
    """Give each test the same random numbers and arithmetic, whichever run before it."""
    torch.manual_seed(0)
    np.random.seed(0)
    # what the compiler of torch 2.5 links turns tiny numbers into 0, by which scipy's trees crash and Hypothesis stops
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def nnunet_folders(tmp_path_factory):
    yield from set_nnunet_folders(tmp_path_factory)


def set_nnunet_folders(tmp_path_factory):
    """Set nnU-Net's three folder variables to empty folders as long as a fixture lives; yields their parent."""
    base = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (base / name).mkdir()
            environment.setenv(name, str(base / name))
        yield base


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Write stock plans into an nnUNet_preprocessed of its own; returns the dataset's folder."""
    from tests.planned_dataset import write_stock_plans

    return write_stock_plans(tmp_path, monkeypatch)


def listing(folder):
    """Return the content of each file below a folder by its path."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def torch_threads(number):
    """PyTorch works with so many threads; afterwards with as many as before, whatever was set meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def largest_file(n_bytes):
    """The kernel refuses to let files grow beyond this, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    on_excess = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails instead of ending the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, on_excess)
