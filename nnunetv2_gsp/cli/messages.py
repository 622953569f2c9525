"""Shows on the screen what the library has to say while it works."""
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def show_messages() -> Iterator[None]:
    """Print the package's log, a line a message: what is going on to stdout, warnings to stderr."""
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
