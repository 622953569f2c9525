"""Puts sizes and long lists into words."""

from collections.abc import Iterable, Sequence


def times(sizes: Iterable[int]) -> str:
    """Return sizes or counts as text, such as 16×128×128.

    Examples:
        >>> times((16, 128, 128))
        '16×128×128'
    """
    return "×".join(map(str, sizes))


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names in words, and how many more there are.

    Args:
        names: names, in the order in which they are shown.
        most: largest number of names that are shown, at least 1.

    Examples:
        >>> first_few(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
