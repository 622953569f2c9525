"""What is a bundle? A zip of JSON and safetensors, stored uncompressed, and a manifest with the checksum of each."""
import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_gsp.files import whole, zip_entry
from nnunetv2_gsp.sharing.refused import RefusedError, check_object, check_schema, refusing

MANIFEST, PLANS, DATASET, FINGERPRINT = "manifest.json", "plans.json", "dataset.json", "dataset_fingerprint.json"
# part of a folder's name in nnU-Net, never a path; \Z because $ would let a line break follow
NAME = {"type": "string", "pattern": r"^\w[\w.+-]*\Z", "maxLength": 150}
FOLD = r"^(all|0|[1-9][0-9]{0,2})\Z"
CHECKPOINT = r"^[\w-]+\.pth\Z"
_FORMAT = 1
_JSON_BYTES = 16_000_000  # a fingerprint of 100 000 cases
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
            "type": "object", "propertyNames": {"pattern": FOLD}, "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "properties": {"inference_allowed_mirroring_axes": {
                    "type": ["array", "null"], "uniqueItems": True,
                    "items": {"type": "integer", "minimum": 0, "maximum": 2}}},
                "required": ["inference_allowed_mirroring_axes"], "additionalProperties": False}},
        "sha256": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["format", "versions", "dataset", "trainer", "plans", "configuration", "checkpoint", "folds", "sha256"],
    "additionalProperties": False,
}


def weights_name(fold: str) -> str:
    """Return the name of a fold's weights inside a bundle."""
    return f"fold_{fold}/checkpoint.safetensors"


def write_bundle(file: Path, about: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Write a bundle that is never there in part; the same input gives the same bytes.

    Args:
        file: the new bundle.
        about: the manifest, but for its format and checksums.
        contents: of every other file, by name.

    Raises:
        RefusedError: the manifest would not be taken on import.
    """
    manifest = {"format": _FORMAT, **about,
                "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}
    check_schema(manifest, _SCHEMA, MANIFEST)
    with whole(file) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: json.dumps(manifest, indent=4).encode(), **contents}.items():
            archive.writestr(zip_entry(name), content)


class Bundle:
    """A bundle of which no byte is trusted: every file is in the manifest and of a name and kind that belongs there.

    Attributes:
        manifest: as the schema above has it.
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

        Raises:
            RefusedError: it has more than `max_bytes`, or another checksum than the manifest says.
        """
        content = self._read(name, max_bytes)
        if hashlib.sha256(content).hexdigest() != self.manifest["sha256"][name]:
            raise RefusedError(f"{name!r} has another checksum than the manifest says; get the file again")
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file; raises RefusedError as `read`, and if it holds something else."""
        return _parsed(self.read(name), name)

    def _read(self, name: str, max_bytes: int) -> bytes:
        if self._archive.getinfo(name).file_size > max_bytes:
            raise RefusedError(f"{name!r} has {self._archive.getinfo(name).file_size} bytes, where at most "
                               f"{max_bytes} are expected")
        with refusing(f"{name!r} is damaged; get the file again"):
            return self._archive.read(name)

    def _check_entries(self, n_bytes: int) -> None:
        """Refuse what our zips never hold; nothing is decompressed and no byte counts twice, so no zip bomb fits in."""
        for entry in self._entries:
            is_plain_file = stat.S_IFMT(entry.external_attr >> 16) == stat.S_IFREG
            is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
            if not is_plain_file or not is_stored or entry.flag_bits & 1:
                raise RefusedError(f"{entry.orig_filename!r} is a link, a folder, compressed or encrypted; take the "
                                   f"file as nnUNetv2_gsp export wrote it")
        if sum(entry.file_size for entry in self._entries) > n_bytes:
            raise RefusedError(f"its files have more bytes than the {n_bytes} of the zip")
        names = [entry.orig_filename for entry in self._entries]
        if len(set(names)) < len(names):
            raise RefusedError("it holds two files of one name")

    def _manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._archive.namelist():
            raise RefusedError(f"it has no {MANIFEST}: expected a file that nnUNetv2_gsp export wrote")
        manifest = _parsed(self._read(MANIFEST, _JSON_BYTES), MANIFEST)
        version = manifest.get("format")
        if isinstance(version, int) and version > _FORMAT:
            raise RefusedError(f"it has format {version} and this nnunetv2_gsp knows up to {_FORMAT}; run: pip install "
                               f"--upgrade nnunetv2_gsp")
        check_schema(manifest, _SCHEMA, MANIFEST)
        return manifest

    def _check_names(self) -> None:
        """Only names that we make up ourselves, so there is no way to write a path that leads elsewhere."""
        there, listed = {entry.orig_filename for entry in self._entries} - {MANIFEST}, set(self.manifest["sha256"])
        required = {PLANS, DATASET, *map(weights_name, self.manifest["folds"])}
        if unexpected := (there | listed) - required - {FINGERPRINT} or there - listed:
            raise RefusedError(f"expected plans, dataset.json, fingerprint and the weights of its folds alone, found "
                               f"{min(unexpected)!r}")
        if missing := (required | listed) - there or required - listed:
            raise RefusedError(f"{min(missing)!r} is missing from the zip or its manifest; get the file again")


@contextmanager
def open_bundle(file: Path) -> Iterator[Bundle]:
    """Open a bundle.

    Raises:
        RefusedError: it is no zip, not all of it, or holds anything that `write_bundle` does not write.
    """
    if not file.is_file():
        raise RefusedError("there is no such file")
    with refusing("it is not a zip, or not all of it; get the file again"):
        archive = zipfile.ZipFile(file)
    with archive:
        yield Bundle(archive, file.stat().st_size)


def is_fold(name: str) -> bool:
    """Tell whether nnU-Net could have a fold of that name."""
    return re.match(FOLD, name) is not None


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    with refusing(f"{name} is not JSON"):
        parsed = json.loads(content)
    check_object(parsed, name)
    return parsed
