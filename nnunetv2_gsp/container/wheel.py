"""Packs this package, as it is installed here, for an image that cannot get it elsewhere."""

import base64
import hashlib
import platform
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nnunetv2_gsp
from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.files import zip_entry

_NAME = "nnunetv2_gsp"
_PACKAGE = Path(nnunetv2_gsp.__file__).parent
_STARTUP_LINE = _PACKAGE.with_name(f"{_NAME}.pth")
_LEFT_OUT = (".c", ".h", ".pyc")
_OF_ITS_INDEX = ("torch", "torchvision")  # one fits the other alone from the same index
_OF_A_GPU = ("triton", "nvidia-", "cuda-")  # which of these torch needs depends on that index
UNUSED = ("hf-xet", "imagecodecs", "networkx")  # of what is needed to install, no prediction imports these large ones


def write_wheel(folder: Path) -> Path:
    """Write a wheel of the very code that runs here, with what was compiled for it; needs no compiler and no network.

    Args:
        folder: existing folder that the wheel is written to.

    Returns:
        The file of the wheel.

    Raises:
        MissingInputError: the package is not installed.
    """
    contents = {name: file.read_bytes() for name, file in _files()}
    installed = _installed()
    tag = _tag(any(name.endswith(EXTENSION_SUFFIXES[0]) for name in contents))
    about = f"{_NAME}-{installed.version}.dist-info"
    contents |= {f"{about}/{name}": text.encode() for name, text in _metadata(installed, tag).items()}
    record = [f"{name},{_hash(content)},{len(content)}" for name, content in contents.items()]
    contents[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    wheel = folder / f"{_NAME}-{installed.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zip_entry(name), content, zipfile.ZIP_DEFLATED)
    return wheel


def torch_pins() -> list[str]:
    """Return `name==version` of torch and what has to come from the same index, as installed here.

    Examples:
        >>> [line.split("==")[0] for line in torch_pins()]
        ['torch', 'torchvision']
    """
    return [f"{name}=={version}" for name, version in _needed().items() if name in _OF_ITS_INDEX]


def constraints() -> list[str]:
    """Return `name==version` of the other packages that this one needs, as installed here.

    Examples:
        >>> [line.split("==")[0] for line in constraints() if line.startswith("nnunet")]
        ['nnunetv2']
    """
    left_out = (*_OF_ITS_INDEX, *_OF_A_GPU)
    return [f"{name}=={version}" for name, version in _needed().items() if not name.startswith(left_out)]


def _needed() -> dict[str, str]:
    """Return the version of each package that this one needs, directly or not, in the order of their names."""
    versions: dict[str, str] = {}
    needed = [_NAME]
    while needed:
        name = canonicalize_name(needed.pop())
        if name in versions:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another system
            continue
        versions[name] = found.version.split("+")[0]  # the index says which build it is
        requirements = map(Requirement, found.requires or ())
        needed += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    versions.pop(canonicalize_name(_NAME), None)
    return dict(sorted(versions.items()))


def _files() -> Iterator[tuple[str, Path]]:
    yield _STARTUP_LINE.name, _STARTUP_LINE
    for file in sorted(_PACKAGE.rglob("*")):
        if file.is_file() and file.suffix not in _LEFT_OUT and _runs_there(file):
            yield file.relative_to(_PACKAGE.parent).as_posix(), file


def _runs_there(file: Path) -> bool:
    """Tell whether a file is of use to this Python on Linux; all are that were not compiled for another."""
    if file.suffix not in (".so", ".pyd", ".dylib"):
        return True
    return sys.platform == "linux" and file.name.endswith(EXTENSION_SUFFIXES[0])


def _tag(is_compiled: bool) -> str:
    if not is_compiled:
        return "py3-none-any"
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-linux_{platform.machine()}"


def _metadata(installed: Distribution, tag: str) -> dict[str, str]:
    """Return the files of a wheel that say what it is, by their names."""
    is_pure = str(tag.startswith("py3")).lower()
    return {
        "METADATA": installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "",
        "entry_points.txt": installed.read_text("entry_points.txt") or "",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: {_NAME}\nRoot-Is-Purelib: {is_pure}\nTag: {tag}\n",
    }


def _installed() -> Distribution:
    try:
        return distribution(_NAME)
    except PackageNotFoundError as error:
        raise MissingInputError(f"{_NAME} to be installed", "none", remedy="run: pip install .") from error


def _hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
