"""Writes files completely or not at all: beside their place, then renamed."""

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
    """Yield a temporary file that replaces `file` when the block ends, and is removed if the block fails.

    Its name has the ending of the file's own, as writers of images choose the format by it.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole(Path(folder, "dice.txt")) as unfinished:
        ...         print(unfinished.name)
        ...         unfinished.touch()
        unfinished_dice.txt
    """
    unfinished = beside(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def beside(product: Path) -> Path:
    """Return the path where a file or folder is made before it gets its own name.

    Examples:
        >>> beside(Path("results/page.html")).name
        'unfinished_page.html'
    """
    return product.with_name(f"unfinished_{product.name}")


def check_target(
    target: Path, overwrite: bool, *, is_folder: bool = False, parameters: Sequence[str] = ("output", "overwrite")
) -> None:
    """Check, before any work, that a file or folder can be written; nothing is created.

    Missing folders above it are created when it is written.

    Args:
        target: file or folder that is to be written.
        overwrite: True allows to replace an existing file or folder.
        is_folder: True if a folder is to be written, False if a file.
        parameters: names of the caller's parameters that give the target and whether it is replaced, for the error.

    Raises:
        TargetExistsError: the target exists, and is not to be replaced.
        InputError: a file exists where a folder is to be written, or the reverse, or nothing can be written there.

    Examples:
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     check_target(Path(file.name), overwrite=False)
        Traceback (most recent call last):
        nnunetv2_gsp.errors.TargetExistsError: ... exists and is not replaced; change output or overwrite.
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
    """Raise OSError if no file can be written to a folder; no file is left behind.

    A file is really written, as permission bits do not show a read-only mount, a quota or a superuser.
    """
    tempfile.TemporaryFile(dir=folder).close()


def write_text(text: str, file: Path) -> None:
    """Write a text to a file, replacing an existing one.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text("Dice: 0.91", Path(folder, "new", "scores.txt"))
        ...     Path(folder, "new", "scores.txt").read_text(encoding="utf-8")
        'Dice: 0.91'
    """
    with whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(content: Any, file: Path) -> None:
    """Write content as JSON to a file, replacing an existing one.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json({"Dice": 0.91}, Path(folder, "scores.json"))
        ...     json.loads(Path(folder, "scores.json").read_text(encoding="utf-8"))
        {'Dice': 0.91}
    """
    write_text(json.dumps(content, indent=4), file)


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Return a zip entry that is the same at any time and on any machine, so that archives are reproducible.

    Examples:
        >>> zip_entry("plans.json").date_time
        (1980, 1, 1, 0, 0, 0)
    """
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the earliest time in a zip archive
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # Unix, readable by all
    return entry
