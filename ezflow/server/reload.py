"""What `--reload` watches: the files that a worker has read.

They are looked at, four times a second, which costs some microseconds a file. To be told of changes by the system one
watches folders, and a set of folders cannot be exchanged for another without losing what is saved meanwhile; here it
is the times that count, also that of a file that was saved while a worker was about to read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import trio

__all__ = ["Watched"]

LOOK_S = 0.25


class Watched:
    """Files that are named, and those that a worker reads. `changed` waits until they are others.

    From a change on until it is known what the next worker reads, or if that does not start, what was watched before
    is watched on, and a file beside that of the flows counts too: it may be the one that is missing, or that holds
    the worker up.
    """

    def __init__(self, *named: Path) -> None:
        """`named`: the file of flows, then others."""
        self._named = [file.resolve() for file in named]
        self._files = set(self._named)
        self._beside = False
        self._known: dict[Path, int | None] = {}

    def follow(self, files: Iterable[str], since_ns: int, *, failed: bool = False) -> None:
        """Watch what a worker has read that was started at `since_ns`, after the change that was last told.

        Of files that were not watched before, what is newer than it, it may not have read. `failed`: it could not
        start.
        """
        read = {Path(file) for file in files}.union(self._named)
        self._files = self._files | read if failed else read
        self._beside = failed
        self._known = {
            file: self._known.get(file, 0 if time_ns is not None and time_ns > since_ns else time_ns)
            for file, time_ns in self._look().items()
        }

    async def changed(self) -> list[Path]:
        """Wait for a change, and until there is no further one; gives the files that are others.

        `follow` may be called meanwhile.
        """
        found = self._look()
        while True:
            before = found
            await trio.sleep(LOOK_S)
            found = self._look()
            others = [file for file in self._known | found if self._known.get(file) != found.get(file)]
            if others and found == before:
                break
        self._beside = True
        self._known = self._look() | found
        return sorted(others)

    def _look(self) -> dict[Path, int | None]:
        files = set(self._files)
        if self._beside:
            with suppress(OSError):  # no descriptor is left: it is looked at again
                files.update(self._named[0].parent.glob("*.py"))
        return {file: _time_ns(file) for file in files}


def _time_ns(file: Path) -> int | None:
    """When it was last written; None if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except (OSError, ValueError):  # ValueError: no file can have that name
        return None
