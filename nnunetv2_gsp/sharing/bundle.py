"""Writes and reads bundles: uncompressed zips of JSON and safetensors, with a manifest of their checksums."""

import hashlib
import json
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.files import whole, zip_entry
from nnunetv2_gsp.nnunet import FOLD
from nnunetv2_gsp.sharing.refused import RefusedError, check_object, check_schema, refusals_of, refusing

MANIFEST, PLANS, DATASET, FINGERPRINT = "manifest.json", "plans.json", "dataset.json", "dataset_fingerprint.json"
# part of a folder's name in nnU-Net, never a path; \Z because $ would let a line break follow
NAME = {"type": "string", "pattern": r"^\w[\w.+-]*\Z", "maxLength": 150}
CHECKPOINT = r"^[\w-]+\.pth\Z"
_FORMAT = 1
_JSON_BYTES = 16_000_000  # a fingerprint of 100 000 cases
_GET_AGAIN = "get the file again"
_SCHEMA = {
    "type": "object",
    "properties": {
        "format": {"const": _FORMAT},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "dataset": {**NAME, "pattern": r"^Dataset[0-9]{3}_[\w.+-]+\Z"},
        "trainer": {**NAME, "pattern": r"^[A-Za-z_][A-Za-z0-9_]*\Z"},
        "plans": NAME,
        "configuration": NAME,
        "checkpoint": {**NAME, "pattern": CHECKPOINT},
        "folds": {
            "type": "object",
            "propertyNames": {"pattern": FOLD},
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "inference_allowed_mirroring_axes": {
                        "type": ["array", "null"],
                        "uniqueItems": True,
                        "items": {"type": "integer", "minimum": 0, "maximum": 2},
                    }
                },
                "required": ["inference_allowed_mirroring_axes"],
                "additionalProperties": False,
            },
        },
        "sha256": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["format", "versions", "dataset", "trainer", "plans", "configuration", "checkpoint", "folds", "sha256"],
    "additionalProperties": False,
}


def weights_name(fold: str) -> str:
    """Return the name of a fold's weights inside a bundle.

    Examples:
        >>> weights_name("0")
        'fold_0/checkpoint.safetensors'
    """
    return f"fold_{fold}/checkpoint.safetensors"


def write_bundle(file: Path, about: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Write a bundle completely or not at all; the same input gives the same bytes.

    Args:
        file: file to write; an existing one is replaced.
        about: content of the manifest without format and checksums.
        contents: name in the bundle -> bytes, for every other file.

    Raises:
        RefusedError: the manifest would be refused on import.
    """
    manifest = {
        "format": _FORMAT,
        **about,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    check_schema(manifest, _SCHEMA, MANIFEST)
    with whole(file) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: json.dumps(manifest, indent=4).encode(), **contents}.items():
            archive.writestr(zip_entry(name), content)


class Bundle:
    """Reads a bundle without trusting a byte of it: each file is checked to be in the manifest, and of a known name.

    Attributes:
        manifest: content of manifest.json, checked against its schema.
    """

    def __init__(self, archive: zipfile.ZipFile, n_bytes: int):
        self._archive = archive
        self._entries = archive.infolist()
        self._check_entries(n_bytes)
        self.manifest = self._manifest()
        self._check_names()

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        return name in self.manifest["sha256"]

    def read(self, name: str, max_bytes: int = _JSON_BYTES) -> bytes:
        """Return a file's content.

        Args:
            name: name of the file in the bundle.
            max_bytes: largest size in bytes that is read.

        Raises:
            RefusedError: the file has more bytes, or another checksum than in the manifest.
        """
        content = self._read(name, max_bytes)
        if hashlib.sha256(content).hexdigest() != self.manifest["sha256"][name]:
            raise RefusedError("the checksum that the manifest has", "another checksum", where=name, remedy=_GET_AGAIN)
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file.

        Args:
            name: name of the file in the bundle.

        Raises:
            RefusedError: as `read`, and if the file does not hold a JSON object.
        """
        return _parsed(self.read(name), name)

    def _read(self, name: str, max_bytes: int) -> bytes:
        n_bytes = self._archive.getinfo(name).file_size
        with refusals_of(name):
            if n_bytes > max_bytes:
                raise RefusedError(f"at most {max_bytes} bytes", f"{n_bytes} bytes")
            with refusing("an undamaged file", _GET_AGAIN):
                return self._archive.read(name)

    def _check_entries(self, n_bytes: int) -> None:
        """Refuse entries that `write_bundle` never writes; nothing is decompressed or counted twice (zip bombs)."""
        for entry in self._entries:
            is_plain_file = stat.S_IFMT(entry.external_attr >> 16) == stat.S_IFREG
            is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
            if not is_plain_file or not is_stored or entry.flag_bits & 1:
                raise RefusedError(
                    "plain files alone",
                    f"{entry.orig_filename!r}, which is a link, a folder, compressed or encrypted",
                    remedy="take the zip as it was exported",
                )
        if sum(entry.file_size for entry in self._entries) > n_bytes:
            raise RefusedError(f"files of at most the zip's {n_bytes} bytes", "more bytes")
        names = [entry.orig_filename for entry in self._entries]
        if len(set(names)) < len(names):
            raise RefusedError("files of different names", "two files of one name")

    def _manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._archive.namelist():
            raise RefusedError("an exported model", f"a zip without {MANIFEST}")
        manifest = _parsed(self._read(MANIFEST, _JSON_BYTES), MANIFEST)
        version = manifest.get("format")
        if isinstance(version, int) and version > _FORMAT:
            raise RefusedError(
                f"a format that this nnunetv2_gsp knows, {_FORMAT} at most",
                f"format {version}",
                remedy="run: pip install --upgrade nnunetv2_gsp",
            )
        check_schema(manifest, _SCHEMA, MANIFEST)
        return manifest

    def _check_names(self) -> None:
        """Refuse names that `write_bundle` does not write, so that no path leads elsewhere."""
        there, listed = {entry.orig_filename for entry in self._entries} - {MANIFEST}, set(self.manifest["sha256"])
        required = {PLANS, DATASET, *map(weights_name, self.manifest["folds"])}
        if unexpected := (there | listed) - required - {FINGERPRINT} or there - listed:
            raise RefusedError(
                "plans, dataset.json, fingerprint and the weights of its folds alone", repr(min(unexpected))
            )
        if missing := (required | listed) - there or required - listed:
            raise RefusedError(f"{min(missing)!r} in the zip and its manifest", "none", remedy=_GET_AGAIN)


@contextmanager
def open_bundle(file: Path) -> Iterator[Bundle]:
    """Open a bundle for reading, and check its entries and manifest.

    Args:
        file: bundle that `write_bundle`, or anybody else, wrote.

    Raises:
        MissingInputError: the file does not exist.
        RefusedError: it is not a complete zip, or holds something that `write_bundle` does not write.
    """
    if not file.is_file():
        raise MissingInputError("an exported model", "no such file", where=file, parameters=["archive"])
    with refusing("a whole zip", _GET_AGAIN):
        archive = zipfile.ZipFile(file)
    with archive:
        yield Bundle(archive, file.stat().st_size)


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    with refusals_of(name):
        with refusing("JSON"):
            parsed: dict[str, Any] = json.loads(content)
        check_object(parsed)
    return parsed
