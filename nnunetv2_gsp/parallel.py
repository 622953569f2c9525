"""How is the same done to many cases? In some processes at a time, with a progress bar."""
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from nnunetv2_gsp.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item], processes: int, title: str
                ) -> Iterator[Result]:
    """Yield `function(item)` for each item, in their order; what is interrupted does not begin with further items.

    Args:
        function: picklable, as the items and results are.
        items: in the order of the results.
        processes: so many at a time; 1 stays in this process.
        title: of the progress bar.

    Raises:
        InputError: a process was killed from outside, as for want of memory.
    """
    from concurrent.futures.process import BrokenProcessPool

    from tqdm import tqdm

    if processes == 1:
        yield from tqdm(map(function, items), total=len(items), desc=title, unit="case")
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield from tqdm(pool.map(function, items), total=len(items), desc=title, unit="case")
    except BrokenProcessPool as error:
        raise InputError(f"Expected {processes} processes to finish, found one that was killed, most likely for want "
                         f"of memory; run again with a smaller -np.") from error
    finally:
        pool.shutdown(cancel_futures=True)
