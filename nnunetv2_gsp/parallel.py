"""Processes many cases in several processes at a time, with a progress bar."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TypeVar

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    title: str,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Apply a function to each item in a pool of processes; an interruption ends the processes, too.

    Args:
        function: function of an item; function, items and results have to be picklable.
        items: arguments of the function, one for each result.
        processes: number of processes, from 1 on; with 1 the work is done in this process.
        title: title of the progress bar.
        initializer: picklable function that each new process calls first; None calls nothing.

    Yields:
        `function(item)` for each item, in the order of `items`.

    Raises:
        InputError: a process was killed from outside, most likely for want of memory.

    Example:
        >>> list(in_parallel(abs, [-1, 2, -3], processes=1, title="absolute values"))
        [1, 2, 3]
    """
    if min(processes, len(items)) <= 1:
        yield from progress(map(function, items), title, "case", len(items))
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(min(processes, len(items)), get_context("spawn"), _begin, (initializer,))
    try:
        yield from progress(pool.map(function, items), title, "case", len(items))
    except BrokenProcessPool as error:
        raise InputError(
            f"{processes} processes to finish",
            "one that was killed, most likely for want of memory",
            remedy="run again with fewer processes",
            parameters=["processes"],
        ) from error
    finally:
        # At the end they are idle. Interrupted while they start, the pool would lose track of them and wait for ever.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - others:
            child.terminate()


def _begin(initializer: Callable[[], None] | None) -> None:
    """Prepare a new process: leave Ctrl-C to the parent, and end with the parent even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_leave_after_parent, daemon=True).start()
    if initializer is not None:
        initializer()


def _leave_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
