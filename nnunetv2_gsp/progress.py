"""Shows how far long work has come: the one place that draws a progress bar."""
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, unit: str, total: int | None = None, *,
             stays: bool = True) -> Iterator[Item]:
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
