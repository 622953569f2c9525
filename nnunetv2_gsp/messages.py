"""Shows the library's messages; for programs, which are the command line and jobs that run without it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def show_messages() -> Iterator[None]:
    """Write the package's log to the screen, one line for each message: progress to stdout, warnings to stderr.

    Examples:
        >>> with show_messages():
        ...     logging.getLogger("nnunetv2_gsp.demo").info("[1/10] Make the phantom")
        [1/10] Make the phantom
    """
    log = logging.getLogger("nnunetv2_gsp")
    said, warned = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    said.addFilter(lambda record: record.levelno < logging.WARNING)
    warned.setLevel(logging.WARNING)
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in (said, warned):
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in (said, warned):
            log.removeHandler(handler)
        log.level, log.propagate = before
