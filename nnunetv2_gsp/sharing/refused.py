"""Refuses unsound model folders and bundles, whoever wrote them."""

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from nnunetv2_gsp.errors import DamagedFileError


class RefusedError(DamagedFileError):
    """A model folder, a bundle, or a file in it is unsound and not accepted.

    The message is printable and short, as it may contain a stranger's names with control characters for a terminal.

    Examples:
        >>> str(RefusedError("the name of a trainer", f"{chr(27)}[31mred"))
        'Expected the name of a trainer, got  [31mred.'
    """

    def __init__(self, expected: str, got: str, *, where: Path | str | None = None, remedy: str | None = None):
        super().__init__(_printable(expected), _printable(got), where=where, remedy=remedy)


@contextmanager
def refusals_of(where: Path | str) -> Iterator[None]:
    """Put the name of a folder or file before the place that a refusal raised within the block names.

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
    """Turn any exception raised within the block into a RefusedError; a RefusedError is passed on unchanged.

    A stranger's file may fail anywhere in the libraries that read it, and in any way: a zip whose directory points
    before the file's beginning raises an OSError.

    Args:
        expected: noun phrase for what was expected, as in InputError.
        remedy: clause in the imperative that mends it, as in InputError; None without one.

    Examples:
        >>> with refusing("a whole number"):
        ...     int("three")
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.sharing.refused.RefusedError: Expected a whole number, got none (invalid literal for int()...
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
    """Check JSON content against a schema.

    Args:
        content: parsed content of a JSON file.
        schema: JSON Schema (draft 2020-12) that the content has to fit.
        name: name of the file, for the error.

    Raises:
        RefusedError: the content violates the schema; the error names the place inside the file.

    Examples:
        >>> check_schema({"folds": 0}, {"properties": {"folds": {"type": "object"}}}, "manifest.json")
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.sharing.refused.RefusedError: manifest.json: expected sound content, got folds: 0 is not of type...
    """
    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        raise RefusedError("sound content", ": ".join([*map(str, error.absolute_path), error.message]), where=name)


def _printable(text: str) -> str:
    """Return a text as one printable line of at most 500 characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.shorten(printable, width=500, placeholder=" ...")
