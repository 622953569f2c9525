"""Why is a model or a bundle not taken?"""
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match


class RefusedError(Exception):
    """What is wrong with a model folder or a bundle, as a clause that follows its name and a colon."""

    def __str__(self) -> str:
        """Keep to one printable line: a stranger's names are part of it, and may hold what a terminal obeys."""
        text = "".join(character if character.isprintable() else " " for character in super().__str__())
        return textwrap.shorten(text, width=500, placeholder=" ...")


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a RefusedError that begins with `what`.

    What a stranger wrote fails anywhere in the libraries that read it, and in any way: a zip whose directory points to
    before its beginning ends in an OSError.
    """
    try:
        yield
    except Exception as error:
        raise RefusedError(f"{what} ({str(error) or type(error).__name__})") from error


def check_object(content: Any, name: str) -> None:
    """Raise RefusedError unless the JSON content of the file `name` is an object."""
    if not isinstance(content, dict):
        raise RefusedError(f"{name} holds no JSON object")


def check_schema(content: Any, schema: Mapping[str, Any], name: str) -> None:
    """Raise RefusedError, with the place inside `name`, unless the JSON content is as the schema says."""
    error = best_match(Draft202012Validator(schema).iter_errors(content))
    if error is not None:
        raise RefusedError(": ".join([name, *map(str, error.absolute_path), error.message]))
