"""Draws progress bars for long work."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], title: str, unit: str, total: int | None = None, *, stays: bool = True
) -> Iterator[Item]:
    """Yield the items, and draw a progress bar of how many have been taken.

    Args:
        items: items of any kind; without `total` or a known length the bar has no end.
        title: name of the work, such as "scoring".
        unit: name of an item, such as "case".
        total: number of items, from 0 on; None takes the length of `items`, if it has one.
        stays: True leaves the bar on the screen at the end; False clears it, and draws it only on a terminal.

    Examples:
        >>> [case.upper() for case in progress(["a", "b"], "scoring", "case", stays=False)]
        ['A', 'B']
    """
    from tqdm import tqdm

    yield from tqdm(items, desc=title, unit=unit, total=total, leave=stays, disable=False if stays else None)


@contextmanager
def progress_bar(title: str, unit: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that updates a progress bar, for work whose parts overlap.

    Args:
        title: name of the work, such as "training".
        unit: name of an item, such as "run".
        total: number of items, from 0 on.

    Yields:
        A function that redraws the bar. It takes the number of finished items, and a text on the current work.

    Examples:
        >>> with progress_bar("training", "run", total=2) as show:
        ...     show(1, "fold 1")
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, total=total) as bar:

        def show(n_done: int, at_work: str) -> None:
            bar.update(n_done - bar.n)
            bar.set_postfix_str(at_work)

        yield show
