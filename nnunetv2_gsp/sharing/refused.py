"""Refuses what is unsound in a model folder or a bundle, whoever wrote it."""

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from nnunetv2_gsp.errors import DamagedFileError


class RefusedError(DamagedFileError):
    """A model folder or a bundle is not taken, or a file in it.

    What it says is printable and short: a stranger's names are part of it, and may hold what a terminal obeys.
    """

    def __init__(self, expected: str, got: str, *, where: Path | str | None = None, remedy: str | None = None):
        super().__init__(_printable(expected), _printable(got), where=where, remedy=remedy)


@contextmanager
def refusals_of(where: Path | str) -> Iterator[None]:
    """Put the name of a folder or file before where a refusal from within says that it is.

    Examples:
        >>> with refusals_of("model.zip"), refusals_of("plans.json"):
        ...     check_object([])
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.sharing.refused.RefusedError: model.zip, plans.json: expected a JSON object, got a list.
    """
    try:
        yield
    except RefusedError as refusal:
        refusal.where = where if refusal.where is None else f"{where}, {refusal.where}"
        raise


@contextmanager
def refusing(expected: str, remedy: str | None = None) -> Iterator[None]:
    """Turn whatever goes wrong within into a RefusedError; one that is raised within stays as it is.

    What a stranger wrote fails anywhere in the libraries that read it, and in any way: a zip whose directory points to
    before its beginning ends in an OSError.

    Args:
        expected: noun phrase, as of InputError.
        remedy: clause in the imperative, as of InputError.
    """
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(expected, f"none ({str(error) or type(error).__name__})", remedy=remedy) from error


def check_object(content: Any) -> None:
    """Raise RefusedError unless JSON content is an object."""
    if not isinstance(content, dict):
        raise RefusedError("a JSON object", f"a {type(content).__name__}")


def check_schema(content: Any, schema: Mapping[str, Any], name: str) -> None:
    """Check JSON content.

    Args:
        content: of a file.
        schema: JSON Schema, draft 2020-12.
        name: of the file.

    Raises:
        RefusedError: the content is not as the schema says; with the place inside the file.
    """
    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        raise RefusedError("sound content", ": ".join([*map(str, error.absolute_path), error.message]), where=name)


def _printable(text: str) -> str:
    """Keep a text to one printable line of at most 500 characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.shorten(printable, width=500, placeholder=" ...")
