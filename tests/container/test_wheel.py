"""The package packs itself: pip is the judge of its wheel, importlib.metadata of the versions."""

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import nnunetv2_gsp
from nnunetv2_gsp.container import wheel as wheel_module
from nnunetv2_gsp.container.wheel import constraints, torch_pins, write_wheel

PACKAGE = Path(nnunetv2_gsp.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return write_wheel(tmp_path_factory.mktemp("wheel"))


def test_pip_installs_the_very_code_that_runs_here(wheel, tmp_path):
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        tmp_path,
    ]
    subprocess.run([*pip, wheel], check=True)
    installed = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    for file in PACKAGE.rglob("*"):
        if file.suffix in (".py", ".json", ".j2", ".css", ".typed") or file.name.endswith(EXTENSION_SUFFIXES[0]):
            name = file.relative_to(PACKAGE.parent).as_posix()
            assert (tmp_path / name).read_bytes() == file.read_bytes()
    assert {"nnunetv2_gsp.pth", "bin/nnUNetv2_gsp"} <= installed


def test_what_was_compiled_for_another_python_stays_here(tmp_path, monkeypatch):
    copy = tmp_path / "nnunetv2_gsp"
    copy.mkdir()
    for name in ("__init__.py", "_layers.cpython-39-x86_64-linux-gnu.so", "layer.c", f"_layers{EXTENSION_SUFFIXES[0]}"):
        (copy / name).touch()
    (tmp_path / "nnunetv2_gsp.pth").touch()
    monkeypatch.setattr(wheel_module, "_PACKAGE", copy)
    monkeypatch.setattr(wheel_module, "_STARTUP_LINE", tmp_path / "nnunetv2_gsp.pth")
    made = write_wheel(tmp_path)
    with ZipFile(made) as archive:
        code = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert code == {"nnunetv2_gsp.pth", "nnunetv2_gsp/__init__.py", f"nnunetv2_gsp/_layers{EXTENSION_SUFFIXES[0]}"}
    (copy / f"_layers{EXTENSION_SUFFIXES[0]}").unlink()
    assert write_wheel(tmp_path).name.endswith("-py3-none-any.whl")


def test_versions_are_those_installed_and_torch_comes_from_one_index():
    pins = {name: str(found) for name, found in (line.split("==") for line in [*constraints(), *torch_pins()])}
    assert {"nnunetv2", "simpleitk", "safetensors", "torch", "torchvision", "timm"} <= set(pins)
    assert "pytest" not in pins
    assert not [line for line in constraints() if line.startswith(("torch", "nvidia", "triton"))]
    for name, found in pins.items():
        assert Requirement(f"{name}=={found}").specifier.contains(version(name))
