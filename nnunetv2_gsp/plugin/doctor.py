"""Checks everything that training needs, and names for each problem the line that mends it."""

import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from nnunetv2_gsp.errors import InputError, MissingInputError
from nnunetv2_gsp.files import try_writing
from nnunetv2_gsp.nnunet import FOLDERS, available_devices, nnunet_folder
from nnunetv2_gsp.plugin import startup

_DISTRIBUTION = "nnunetv2_gsp"
_REINSTALL = f"mend what fails above; if nothing does, reinstall {_DISTRIBUTION}"

_HAS_OUR_FOLDER = f"""
import os, sys
sys.exit({startup.EXT_TRAINER_FOLDER!r} not in os.environ.get({startup.VARIABLE!r}, "").split(os.pathsep))
"""

# nnU-Net searches before anything of this package is imported, as in its own commands.
_SEARCH_LIKE_NNUNET = """
import inspect
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
found = recursive_find_trainer_class_by_name("nnUNetTrainerGSP")
from nnunetv2_gsp.trainers import nnUNetTrainerGSP
if found is not nnUNetTrainerGSP:
    raise SystemExit(f"another class of that name comes first, in {inspect.getfile(found)}")
"""


@dataclass(frozen=True)
class Finding:
    """Result of one check, and the line that mends a problem.

    Attributes:
        ok: True where training can work with it.
        what: clause that says what was found.
        mend: line to type, or clause, that mends it; also a hint on a finding that is ok; empty without one.

    Examples:
        >>> print(Finding(False, "nnUNet_raw is not set", "export nnUNet_raw=/path/to/nnUNet_raw"))
        FAIL  nnUNet_raw is not set  ->  export nnUNet_raw=/path/to/nnUNet_raw
    """

    ok: bool
    what: str
    mend: str = ""

    def __str__(self) -> str:
        """Return one line: ok, note or FAIL, what was found, and what mends it."""
        mark = "FAIL" if not self.ok else "note" if self.mend else "ok"
        return f"{mark:<4}  {self.what}" + (f"  ->  {self.mend}" if self.mend else "")


def diagnose() -> list[Finding]:
    """Check packages, devices, nnU-Net's search for trainers and its folders, which takes about ten seconds.

    Returns:
        One finding for each check. A broken installation is a finding, too, never an exception.
    """
    device = _device()
    return [
        Finding(True, f"Python {sys.version.split()[0]} ({sys.executable})"),
        *_packages(),
        device,
        *([_fused_layers(), _engines()] if device.ok else []),
        _startup_line(),
        _trainer_search(),
        *(_folder(variable, training_writes=variable != "nnUNet_raw") for variable in FOLDERS),
    ]


def _packages() -> list[Finding]:
    """Compare the installed packages with the requirements in this package's metadata, which come from setup.cfg."""
    package_folder = Path(startup.__file__).parents[1]
    try:
        version = metadata.version(_DISTRIBUTION)
        requirements = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return [
            Finding(
                False,
                f"{_DISTRIBUTION} in {package_folder} is not installed",
                shlex.join(["pip", "install", str(package_folder.parent)]),
            )
        ]
    needed = [r for r in requirements if r.marker is None]
    of_the_demo = [r for r in requirements if r.marker is not None and r.marker.evaluate({"extra": "demo"})]
    return [
        Finding(True, f"{_DISTRIBUTION} {version} ({package_folder})"),
        *map(_package, needed),
        _demo_extra(of_the_demo),
    ]


def _package(requirement: Requirement) -> Finding:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(False, f"{requirement.name} is not installed", _pip_install(requirement))
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(
            False, f"{requirement.name} {version} does not fit {requirement.specifier}", _pip_install(requirement)
        )
    return Finding(True, f"{requirement.name} {version}")


def _demo_extra(requirements: Iterable[Requirement]) -> Finding:
    unmet = [requirement for requirement in requirements if not _package(requirement).ok]
    if unmet:
        lacking = ", ".join(requirement.name for requirement in unmet)
        return Finding(True, f"the extra `demo` lacks {lacking}", _pip_install(*unmet))
    return Finding(True, "the extra `demo` is there")


def _pip_install(*requirements: Requirement) -> str:
    return shlex.join(["pip", "install", *(f"{wanted.name}{wanted.specifier}" for wanted in requirements)])


def _device() -> Finding:
    try:
        import torch

        there = available_devices()
        if "cuda" in there:
            return Finding(True, f"cuda: {torch.cuda.get_device_name()}")
        if "mps" in there:
            return Finding(True, "mps", "train and predict with -device mps, in 3D with torch 2.11 or later")
    except Exception as error:  # a broken torch raises anything: OSError for a library, RuntimeError for a driver ...
        return Finding(False, f"torch does not work: {_first_line(error)}", "pip install --force-reinstall torch")
    return Finding(True, "torch sees no GPU", "train and predict with -device cpu")


def _fused_layers() -> Finding:
    try:
        from nnunetv2_gsp.cpu.library import FusedLayers, find_fused_layers

        found = find_fused_layers()
    except Exception as error:
        return Finding(False, f"the fused layers for the CPU fail: {_first_line(error)}", _REINSTALL)
    if isinstance(found, FusedLayers):
        return Finding(True, f"fused layers for the CPU: {found.build}")
    return Finding(
        True,
        f"the fused layers for the CPU {found}",
        "for fast predictions on the CPU install gcc or clang, then this package again, with pip's "
        "--force-reinstall --no-cache-dir --no-deps",
    )


def _engines() -> Finding:
    """Say what computes a small network on the GPU, or without one on the CPU, and why nothing faster does."""
    device = "cuda" if "cuda" in available_devices() else "cpu"
    try:
        from nnunetv2_gsp.engines import VARIABLE, wished_engine

        wish = wished_engine()
        predicting, training = (_engine_of(is_training, device) for is_training in (False, True))
    except InputError as error:
        return Finding(False, error.problem, f"unset {VARIABLE}")
    except Exception as error:  # a GPU that this torch has no kernels for, say, of which only a computation tells
        without_gpu = "install a torch for this GPU, or train and predict with -device cpu"
        mend = without_gpu if device == "cuda" else _REINSTALL
        return Finding(False, f"no small network runs on {device}: {_first_line(error)}", mend)
    return Finding(
        True, f"engines on {device}: {predicting} for predictions, {training} for training steps ({VARIABLE}={wish})"
    )


def _engine_of(training: bool, device: str) -> str:
    import torch
    from torch import nn

    from nnunetv2_gsp.architectures import GSPUNet
    from nnunetv2_gsp.engines import computed_by

    network = GSPUNet(
        1,
        n_stages=2,
        features_per_stage=8,
        conv_op=nn.Conv3d,
        strides=[1, 2],
        n_conv_per_stage=1,
        num_classes=2,
        n_conv_per_stage_decoder=1,
        spatial_groups=[(1, 2, 2)] * 2,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
    ).train(training)
    with torch.set_grad_enabled(training):
        choice = computed_by(network.to(device), torch.zeros(1, 1, 8, 8, 8, device=device))
    return choice.engine if choice.obstacle is None else f"{choice.engine} ({choice.obstacle})"


def _startup_line() -> Finding:
    if _run_as_nnunet_would(_HAS_OUR_FOLDER).returncode == 0:
        return Finding(True, f"{startup.VARIABLE} holds {startup.EXT_TRAINER_FOLDER} when Python starts")
    return Finding(
        False,
        "nnunetv2_gsp.pth did not run when Python started",
        f"export {startup.VARIABLE}={shlex.quote(os.environ[startup.VARIABLE])}",
    )


def _trainer_search() -> Finding:
    search = _run_as_nnunet_would(_SEARCH_LIKE_NNUNET)
    if search.returncode == 0:
        return Finding(True, "nnU-Net finds nnUNetTrainerGSP")
    return Finding(
        False,
        f"nnU-Net does not find nnUNetTrainerGSP: {_last_line(search.stderr)}",
        _REINSTALL,
    )


def _run_as_nnunet_would(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with the environment and the first import path of nnU-Net's commands."""
    environment = {name: value for name, value in os.environ.items() if name != startup.VARIABLE}
    if startup.INHERITED_VALUE is not None:
        environment[startup.VARIABLE] = startup.INHERITED_VALUE
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=Path(sys.executable).parent, capture_output=True, text=True
    )


def _folder(variable: str, training_writes: bool) -> Finding:
    name_one = f"export {variable}=/path/to/{variable}"
    try:
        folder = nnunet_folder(variable)
    except MissingInputError:
        return Finding(False, f"{variable} is not set", name_one)
    if not os.path.lexists(folder):
        return Finding(False, f"{variable}: there is no folder {folder}", f"mkdir -p {shlex.quote(str(folder))}")
    if not folder.is_dir():
        return Finding(False, f"{variable}: {folder} is no folder", name_one)
    if not _is_writable(folder):
        return Finding(
            not training_writes,
            f"{variable}: nothing can be written to {folder}",
            f"chmod u+w {shlex.quote(str(folder))}",
        )
    return Finding(True, f"{variable}: {folder}")


def _is_writable(folder: Path) -> bool:
    try:
        try_writing(folder)
    except OSError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}".splitlines()[0], width=200, placeholder=" ...")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["no reason given"]
    return textwrap.shorten(lines[-1], width=200, placeholder=" ...")
