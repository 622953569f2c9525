"""Shows how far long work has come: the one place that draws a progress bar."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], title: str, unit: str, total: int | None = None, *, stays: bool = True
) -> Iterator[Item]:
    """Yield the items and draw a bar of how many have been taken.

    Args:
        items: of any kind; a bar without an end where neither `total` nor their number is known.
        title: what is being done, as in "scoring".
        unit: what an item is, as in "case".
        total: number of items.
        stays: leave the bar on the screen when all are taken; else it is cleared, and drawn on a terminal alone.
    """
    from tqdm import tqdm

    yield from tqdm(items, desc=title, unit=unit, total=total, leave=stays, disable=False if stays else None)


@contextmanager
def progress_bar(title: str, unit: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Draw a bar that moves when it is told to, for work whose parts overlap.

    Args:
        title: what is being done, as in "training".
        unit: what an item is, as in "run".
        total: number of items.

    Yields:
        A function that draws the bar anew. It takes the number of items that are done, and what is being worked on.
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, total=total) as bar:

        def show(n_done: int, at_work: str) -> None:
            bar.update(n_done - bar.n)
            bar.set_postfix_str(at_work)

        yield show
