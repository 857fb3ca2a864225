"""What is logged while no connection can be taken, because the process has no descriptor left."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from math import inf

__all__ = ["told_sparingly"]

QUIET_S = 60.0


class _Sparingly(logging.Filter):
    """Trio tries again ten times a second, and logs a traceback each time: a log that fills the disk, too."""

    _told_at = -inf

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._told_at < QUIET_S:
            return False
        self._told_at = record.created
        record.exc_info = None
        record.msg = f"{record.msg}. Who connects has to wait: `ulimit -n` is how many files and sockets there may be"
        return True


@contextmanager
def told_sparingly() -> Generator[None, None, None]:
    """Under it that is told once a minute, and in a line."""
    log = logging.getLogger("trio.serve_listeners")
    sparingly = _Sparingly()
    log.addFilter(sparingly)
    try:
        yield
    finally:
        log.removeFilter(sparingly)
