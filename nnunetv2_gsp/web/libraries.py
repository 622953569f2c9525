"""Brings the JavaScript libraries of the page from npm: fixed versions, checked, kept for the next time."""

import base64
import hashlib
import io
import logging
import os
import tarfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from nnunetv2_gsp.errors import DamagedFileError, UnavailableError
from nnunetv2_gsp.files import whole

REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_S = 60
_log = logging.getLogger(__name__)


class Library(NamedTuple):
    """A package of npm, as the page needs it.

    Attributes:
        name: its name on npm.
        version: its version.
        licence: short name of its licence, whose text is `licences/NAME.txt`.
        sha512: checksum of its archive in base64, as npm has it.
        size_mb: size of its archive in MB.
        files: name of a file in the page -> its path in the archive.
    """

    name: str
    version: str
    licence: str
    sha512: str
    size_mb: int
    files: Mapping[str, str]

    @property
    def base_name(self) -> str:
        """Its name without its owner's."""
        return self.name.rpartition("/")[2]

    @property
    def archive(self) -> str:
        """Name of the archive, as `npm pack` writes it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


LIBRARIES = (
    Library(
        "onnxruntime-web",
        "1.30.0",
        "MIT",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        33,
        {
            "wasm.script": "package/dist/ort.wasm.min.js",
            "wasm.glue": "package/dist/ort-wasm-simd-threaded.mjs",
            "wasm.binary": "package/dist/ort-wasm-simd-threaded.wasm",
            "webgpu.script": "package/dist/ort.webgpu.min.js",
            "webgpu.glue": "package/dist/ort-wasm-simd-threaded.asyncify.mjs",
            "webgpu.binary": "package/dist/ort-wasm-simd-threaded.asyncify.wasm",
        },
    ),
    Library(
        "@niivue/niivue",
        "0.69.0",
        "BSD-2-Clause",
        "YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA==",
        7,
        {"niivue": "package/dist/niivue.umd.js"},
    ),
)


def default_folder() -> Path:
    """Return the folder where the archives are kept, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nnunetv2_gsp", "npm")


def are_at_hand(folder: Path | None = None) -> bool:
    """Return whether all archives are in a folder, the user's cache by default."""
    return all(Path(folder or default_folder(), library.archive).is_file() for library in LIBRARIES)


def library_files(folder: Path | None = None) -> dict[str, bytes]:
    """Return the libraries' files by the names that `LIBRARIES` gives them; archives that are missing are downloaded.

    Args:
        folder: folder of the archives, as `npm pack` writes them; None takes the user's cache.

    Raises:
        UnavailableError: an archive is missing, and npm's registry can't be reached.
        DamagedFileError: an archive is another one than npm's of this version.
    """
    found = {}
    for library in LIBRARIES:
        content = _archive(library, folder or default_folder())
        with tarfile.open(fileobj=io.BytesIO(content)) as opened:
            for name, path in library.files.items():
                member = opened.extractfile(path)
                assert member is not None  # as the checksum fits
                found[name] = member.read()
    return found


def _archive(library: Library, folder: Path) -> bytes:
    file = folder / library.archive
    if file.is_file():
        return _checked(library, file.read_bytes(), file)
    content = _download(library, folder)
    with whole(file) as unfinished:
        unfinished.write_bytes(content)
    return content


def _download(library: Library, folder: Path) -> bytes:
    registry = os.environ.get("npm_config_registry", REGISTRY).rstrip("/")
    url = f"{registry}/{library.name}/-/{library.base_name}-{library.version}.tgz"
    _log.info("Downloading %s %s (%d MB), once, into %s", library.name, library.version, library.size_mb, folder)
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError, HTTPException) as error:
        packages = " ".join(f"{each.name}@{each.version}" for each in LIBRARIES)
        raise UnavailableError(
            f"{library.name} {library.version}, which the page needs, from npm",
            f"{url}, which cannot be read ({getattr(error, 'reason', error)})",
            remedy=f"run 'npm pack {packages}' where npm can be reached, and move both archives into {folder}",
            parameters=["libraries"],
        ) from error
    return _checked(library, content, url)


def _checked(library: Library, content: bytes, where: Path | str) -> bytes:
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != library.sha512:
        raise DamagedFileError(
            f"npm's archive of {library.name} {library.version}",
            "a file with another checksum",
            where=where,
            remedy="remove it, and it is downloaded anew" if isinstance(where, Path) else None,
            parameters=["libraries"],
        )
    return content
