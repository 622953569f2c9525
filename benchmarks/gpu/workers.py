"""Processes that run sections; one may die or be stopped at its limit without affecting the others."""

import multiprocessing
import os
import pkgutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from benchmarks.gpu.settings import Settings
from benchmarks.page import Cell, Table

NO_TIME, STOPPED = "no time was left", "it was stopped after"


@dataclass(frozen=True)
class Section:
    """A part of the benchmark that is measured, limited and reported together.

    Attributes:
        name: its name in the results.
        tables: its function as `module:function`, which takes Settings and yields Tables.
        limit_s: seconds that it may take, the start of its process included.
        is_kept: whether its tables go to the page; False for a warm-up, which only fills the compilers' caches.
    """

    name: str
    tables: str
    limit_s: float
    is_kept: bool = True


@dataclass(frozen=True)
class News:
    """A table of a section, or its end."""

    section: Section
    table: Table | None = None
    measured: dict[str, Cell] = field(default_factory=dict)  # when and on what
    failure: str = ""

    @property
    def is_the_end(self) -> bool:
        """Whether the section has ended, finished or failed."""
        return self.table is None

    @property
    def is_wrong(self) -> bool:
        """Whether the section failed by itself, and not for want of time."""
        return bool(self.failure) and not self.failure.startswith((NO_TIME, STOPPED))


def run(
    groups: Sequence[Sequence[Section]], settings: Settings, log: Path, until: float, tell: Callable[[News], None]
) -> None:
    """Run groups side by side, the sections of a group one after the other in one process.

    A section that fails, dies or overruns its limit is given up; those after it go on in a new process, as none of
    CUDA's calls works in a process any more after an error of a kernel.

    Args:
        groups: the sections of each process, in their order.
        settings: passed to every section.
        log: file to which the processes append their output.
        until: the time at which everything has to be over, in seconds of `time.monotonic`.
        tell: called with each table and each end of a section as it comes.
    """
    workers = [_Worker(group, settings, log) for group in groups if group]
    try:
        while workers:
            next_deadline = min(worker.deadline(until) for worker in workers)
            ready = wait([worker.news for worker in workers], timeout=max(0.0, next_deadline - time.monotonic()))
            for worker in list(workers):
                failure = ""
                if worker.news in ready:
                    failure = worker.listen(tell)
                elif time.monotonic() >= worker.deadline(until):
                    failure = f"{STOPPED} {time.monotonic() - worker.started:.0f} s"
                if failure or worker.has_failed or not worker.sections:
                    worker.stop()
                    workers.remove(worker)
                    if failure:
                        tell(News(worker.sections.pop(0), failure=failure))
                    workers += _go_on(worker.sections, settings, log, until, tell)
    finally:
        for worker in workers:
            worker.stop()


def _go_on(
    sections: Sequence[Section], settings: Settings, log: Path, until: float, tell: Callable[[News], None]
) -> list["_Worker"]:
    if sections and time.monotonic() < until:
        return [_Worker(sections, settings, log)]
    for section in sections:
        tell(News(section, failure=NO_TIME))
    return []


class _Worker:
    """A process and what is left for it to do; the first section is the one that runs."""

    def __init__(self, sections: Sequence[Section], settings: Settings, log: Path):
        self.sections = list(sections)
        self.has_failed = False
        self.news, reports = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("spawn").Process(  # CUDA does not survive a fork
            target=_work, args=(self.sections, settings, log, reports)
        )
        self.process.start()
        reports.close()  # so that the end of the process is the end of the pipe
        self.started = time.monotonic()

    def deadline(self, until: float) -> float:
        return min(self.started + self.sections[0].limit_s, until)

    def listen(self, tell: Callable[[News], None]) -> str:
        """Pass news on; return why the process ended if it did so early."""
        try:
            news = self.news.recv()
        except EOFError:
            self.process.join()
            return f"its process ended with exit code {self.process.exitcode}"
        tell(news)
        if news.is_the_end:
            self.has_failed = bool(news.failure)
            del self.sections[0]
            self.started = time.monotonic()
        return ""

    def stop(self) -> None:
        """End the process, and all that it has started."""
        if self.sections:
            assert self.process.pid
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has gone, or has not yet made its group
                self.process.kill()
        self.process.join()
        self.news.close()


def _work(sections: Sequence[Section], settings: Settings, log: Path, news: Connection) -> None:
    os.setpgid(0, 0)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from benchmarks.gpu.meters import environment

    measured = environment(settings)
    for section in sections:
        print(f"---- {section.name}", flush=True)
        failure = ""
        try:
            for table in pkgutil.resolve_name(section.tables)(settings):
                news.send(News(section, table, measured))
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {str(error).strip()[:300]}"
        news.send(News(section, None, measured, failure))
