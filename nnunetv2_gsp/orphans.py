"""Ends child processes with the process that started them, however it ends."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Process, active_children
from multiprocessing.process import BaseProcess
from threading import Timer, current_thread, main_thread
from time import monotonic
from types import FrameType

# not every system has all of them
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_AGAIN_S = 0.1
_GRACE_S = 2.0  # for processes to end by themselves


@contextmanager
def ended_with_us(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` when the block raises, and before SIGINT, SIGTERM or SIGHUP take effect.

    A handler set by other code is left in place, as only that code knows whether the signal is to end anything; if it
    raises, `end` is called. Outside of the main thread no handler can be set, and only an exception calls `end`.

    Args:
        end: function that ends the child processes; it may be called more than once.

    Example:
        >>> from contextlib import suppress
        >>> with suppress(RuntimeError), ended_with_us(lambda: print("child ended")):
        ...     raise RuntimeError("no space left")
        child ended
    """
    us = os.getpid()

    def end_first(number: int, frame: FrameType | None) -> None:
        if os.getpid() == us:  # a fork has this handler, too
            if _is_starting_a_process(frame):
                Timer(_AGAIN_S, os.kill, (us, number)).start()
                return
            end()
        signal.signal(number, usual[number])
        signal.raise_signal(number)

    is_main = current_thread() is main_thread()
    usual = {
        number: handler
        for number in _SIGNALS
        if is_main and (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler)
    }
    for number in usual:
        signal.signal(number, end_first)
    try:
        yield
    except BaseException:
        end()
        raise
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is end_first:
                signal.signal(number, handler)


@contextmanager
def no_orphans() -> Iterator[None]:
    """End the processes that multiprocessing starts within the block when it raises or a signal ends it.

    They get Ctrl-C twice within two seconds, then they are killed.

    multiprocessing itself ends them only when the interpreter exits normally: not on SIGTERM, nor in a notebook.
    """
    others = set(active_children())

    def kill() -> None:
        children, start = set(active_children()) - others, monotonic()
        # first as Ctrl-C does: one that is killed with a lock keeps it from us for ever. And once more: Python looks at
        # a signal that comes just before a system call only when that returns, or with the next signal
        for patience in (0.75 * _GRACE_S, _GRACE_S):
            for child in children:
                _interrupt(child)
            for child in children:
                child.join(max(0, start + patience - monotonic()))
        for child in children:
            child.kill()

    with ended_with_us(kill):
        yield


def _interrupt(child: BaseProcess) -> None:
    if child.pid is not None and child.is_alive():
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGINT)


def _is_starting_a_process(frame: FrameType | None) -> bool:
    """Tell whether multiprocessing is in the middle of starting a process.

    The new process cannot be found yet, and what a signal handler raises among a fork's callbacks is lost.
    """
    while frame is not None:
        if frame.f_code is Process.start.__code__:
            return True
        frame = frame.f_back
    return False
