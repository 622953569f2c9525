"""How does a file appear? Whole or not at all: written beside its place, then renamed."""
import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Give the name to write to instead of `file`; it takes the file's place when the block ends, or goes if it fails.

    The name ends as the file's own does, since writers of images go by that.
    """
    unfinished = beside(file)
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def beside(product: Path) -> Path:
    """Return where a file or folder is made before it stands under its own name."""
    return product.with_name(f"unfinished_{product.name}")


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
