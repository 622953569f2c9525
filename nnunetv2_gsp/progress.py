"""Shows the progress of long work: a bar on a terminal, a line a minute in the log of a job."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")
_LINE_S = 60
_LINE = "{desc}: {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left{postfix}"


def progress(
    items: Iterable[Item], title: str, unit: str, total: int | None = None, *, stays: bool = True
) -> Iterator[Item]:
    """Yield the items, and show how many have been taken.

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

    disable = not (stays or _is_terminal())
    yield from tqdm(items, desc=title, unit=unit, total=total, leave=stays, disable=disable, **_look())


@contextmanager
def progress_bar(title: str, unit: str, total: int, *, is_shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows progress, for work whose parts overlap.

    Args:
        title: name of the work, such as "training".
        unit: name of an item, such as "run".
        total: number of items, from 0 on.
        is_shown: False shows nothing.

    Yields:
        A function that shows where the work is. It takes the number of finished items, and a text on the current work.

    Examples:
        >>> with progress_bar("training", "run", total=2) as show:
        ...     show(1, "fold 1")
    """
    from tqdm import tqdm

    with tqdm(desc=title, unit=unit, total=total, disable=not is_shown, **_look()) as bar:

        def show(n_done: int, at_work: str) -> None:
            bar.set_postfix_str(at_work, refresh=False)
            bar.update(n_done - bar.n)
            bar.refresh()

        yield show


class _Lines:
    """A file that tqdm draws its bar into: the first state, one a minute and the last become lines."""

    def __init__(self, file: TextIO):
        self._file, self._state, self._next_s = file, "", 0.0

    def write(self, text: str) -> None:
        if state := text.strip():
            self._state = state
        if text == "\n" or time.monotonic() >= self._next_s:  # tqdm ends its line when the work ends
            self._write()

    def flush(self) -> None:
        self._file.flush()

    def _write(self) -> None:
        if self._state:
            self._file.write(f"{self._state}\n")
            self._state, self._next_s = "", time.monotonic() + _LINE_S


def _look() -> dict[str, Any]:
    """Return tqdm's arguments for what stderr is."""
    return {} if _is_terminal() else {"file": _Lines(sys.stderr), "bar_format": _LINE}


def _is_terminal() -> bool:
    return sys.stderr.isatty()
