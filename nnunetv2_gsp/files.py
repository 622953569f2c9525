"""Writes files whole or not at all: beside their place, then renamed."""

import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_gsp.errors import InputError, TargetExistsError


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Give the name to write to instead of `file`; it takes the file's place when the block ends, or goes if it fails.

    The name ends as the file's own does, since writers of images go by that.
    """
    unfinished = beside(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def beside(product: Path) -> Path:
    """Return where a file or folder is made before it stands under its own name."""
    return product.with_name(f"unfinished_{product.name}")


def check_target(
    target: Path, overwrite: bool, *, is_folder: bool = False, parameters: Sequence[str] = ("output", "overwrite")
) -> None:
    """Check, before any work, that a file or folder can be written; nothing is made.

    Missing folders above it are made when it is written.

    Args:
        target: what is to be written.
        overwrite: replace what is there.
        is_folder: whether a folder is to be written, else a file.
        parameters: which of the caller's parameters decide where the target lies, and whether it is replaced.

    Raises:
        TargetExistsError: it is there, and is not to be replaced.
        InputError: a file stands where a folder is to be written, or the reverse, or nothing can be written there.
    """
    if os.path.lexists(target):
        if target.is_dir() != is_folder or (is_folder and target.is_symlink()):
            kinds = ("a file", "a folder of its own")
            raise InputError(
                f"{kinds[is_folder]} or nothing",
                "a folder" if target.is_dir() and not is_folder else "a file or link",
                where=target,
                remedy="move it away",
                parameters=parameters[:1],
            )
        if not overwrite:
            raise TargetExistsError(target, parameters)
    above = next(filter(os.path.lexists, target.absolute().parents))
    try:
        try_writing(above)
    except OSError as error:
        raise InputError(
            "a place that can be written to",
            f"{above}, where nothing can ({error.strerror})",
            where=target,
            parameters=parameters[:1],
        ) from error


def try_writing(folder: str | Path) -> None:
    """Raise OSError if no file can be written there; none stays.

    It is tried: permission bits say nothing about a read-only mount, a quota or a superuser.
    """
    tempfile.TemporaryFile(dir=folder).close()


def write_text(text: str, file: Path) -> None:
    """Write a text, replacing what was there."""
    with whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(content: Any, file: Path) -> None:
    """Write JSON, replacing what was there."""
    write_text(json.dumps(content, indent=4), file)


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Return the entry of a plain file that is the same at every time and on every machine, as its archive then is."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the first time a zip archive can tell
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # Unix, readable by all
    return entry
