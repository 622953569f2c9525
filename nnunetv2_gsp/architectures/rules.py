"""Rules for the arguments of a network, each stated once, so that network and plans refuse in the same words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nnunetv2_gsp.architectures.entries import ARRAY, COUNT, WHOLE, Schema, each, fits, one_or_each


@dataclass(frozen=True)
class Expected:
    """The condition that an entry of a stage has to fulfil.

    Attributes:
        words: the condition as a noun phrase that follows "must be".
        schema: the condition as JSON Schema.
    """

    words: str
    schema: Schema


ONE_COUNT = Expected("a whole number from 1 on", COUNT)


def count_per_axis(n_axes: int) -> Expected:
    """Expect a whole number from 1 on for each of `n_axes` axes.

    Examples:
        >>> [fits(value, count_per_axis(3).schema) for value in ((1, 2, 2), (2, 2), 2)]
        [True, False, False]
    """
    return Expected(f"{n_axes} positive counts, one an axis", each(COUNT, minItems=n_axes, maxItems=n_axes))


def count_or_count_per_axis(n_axes: int) -> Expected:
    """Expect one whole number from 1 on for all of `n_axes` axes, or one for each.

    Examples:
        >>> [fits(value, count_or_count_per_axis(3).schema) for value in ((1, 2, 2), (2, 2), 2)]
        [True, False, True]
    """
    return Expected(
        f"a whole number from 1 on, or {n_axes} of them, one an axis",
        one_or_each(COUNT, minItems=n_axes, maxItems=n_axes),
    )


def multiple(factor: int, largest: int, of_what: str, of_largest: str = "") -> Expected:
    """Expect a multiple of `factor` from 0 to `largest`; the words say what the two numbers are.

    Examples:
        >>> multiple(4, 16, "product of its spatial groups (2, 2)").words
        'a multiple of 4 (the product of its spatial groups (2, 2)) from 0 to 16'
    """
    return Expected(
        f"a multiple of {factor} (the {of_what}) from 0 to {largest}{of_largest}",
        {**WHOLE, "minimum": 0, "maximum": largest, "multipleOf": factor},
    )


def check_choice(name: str, value: Any, schema: Schema) -> None:
    """Raise ValueError unless the value is one of the schema's choices.

    Examples:
        >>> check_choice("kernel", 5, {"enum": [1, 3]})
        Traceback (most recent call last):
        ValueError: kernel must be one of 1, 3, got 5.
    """
    if not fits(value, schema):
        raise ValueError(f"{name} must be one of {', '.join(map(str, schema['enum']))}, got {value!r}.")


def check_number_of_stages(n_stages: Any) -> None:
    """Raise ValueError unless there are two stages at least.

    Examples:
        >>> check_number_of_stages(1)
        Traceback (most recent call last):
        ValueError: A U-Net needs at least two stages, got n_stages = 1: take a larger patch, or ...
    """
    if not fits(n_stages, {**WHOLE, "minimum": 2}):
        raise ValueError(
            f"A U-Net needs at least two stages, got n_stages = {n_stages!r}: take a larger patch, or "
            f"leave this configuration out; nnU-Net's own network has no output either then."
        )


def one_entry_a_stage(name: str, value: Any, n_stages: int, expected: Iterable[Expected]) -> list[Any]:
    """Return the entries of a list that has one a stage.

    Args:
        name: name of the list in plans.
        value: value that was given, checked to be a list.
        n_stages: number of entries that the list has to have, from 2 on.
        expected: condition on the entry of each stage; may be longer than the list.

    Raises:
        ValueError: there are more or fewer entries, or one of them does not fulfil its condition.

    Examples:
        >>> one_entry_a_stage("features_per_stage", [16, 0], 2, [ONE_COUNT, ONE_COUNT])
        Traceback (most recent call last):
        ValueError: features_per_stage of stage 1 must be a whole number from 1 on, got 0.
    """
    if not has_one_entry_a_stage(value, n_stages):
        raise ValueError(
            f"{name} must have one entry a stage, {n_stages} here, got {value!r}: add or drop entries, or "
            f"change the stages with them."
        )
    entries = list(value)
    for stage, (entry, wanted) in enumerate(zip(entries, expected, strict=False)):
        if not fits(entry, wanted.schema):
            raise ValueError(f"{name} of stage {stage} must be {wanted.words}, got {entry!r}.")
    return entries


def has_one_entry_a_stage(value: Any, n_stages: int) -> bool:
    """Tell whether a value is a list of as many entries as there are stages.

    Examples:
        >>> has_one_entry_a_stage([16, 32], n_stages=2), has_one_entry_a_stage(16, n_stages=2)
        (True, False)
    """
    return fits(value, ARRAY) and len(value) == n_stages


def repeated(value: Any, length: int) -> Any:
    """Return a whole number `length` times, since one counts for every stage; anything else as it is.

    Examples:
        >>> repeated(2, 3), repeated([1, 2], 3)
        ([2, 2, 2], [1, 2])
    """
    return [value] * length if fits(value, WHOLE) else value
