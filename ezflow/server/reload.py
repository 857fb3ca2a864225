"""What `--reload` watches: the files that a worker has read.

They are looked at, four times a second, which costs some microseconds a file. To be told of changes by the system one
watches folders, and a set of folders cannot be exchanged for another without losing what is saved meanwhile; here it
is the times that count, also that of a file that was saved while a worker was about to read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import trio

__all__ = ["Watched"]

LOOK_S = 0.25


class Watched:
    """Files that are named, and those that a worker reads. `changed` waits until they are others."""

    def __init__(self, *named: Path) -> None:
        """`named`: the file of flows, then others."""
        self._named = [file.resolve() for file in named]
        self._files = set(self._named)
        self._failed = False
        self._seen: dict[Path, int | None] = {}

    def follow(self, files: Iterable[str], since_ns: int, *, failed: bool = False) -> None:
        """Watch what a worker has read that was started at `since_ns`: what is newer, it may not have read.

        `failed`: it could not start. Then what was watched before is watched on, and a file that is made beside that
        of the flows counts too: it may be the one that was missing.
        """
        read = {Path(file) for file in files}.union(self._named)
        self._files = self._files | read if failed else read
        self._failed = failed
        self._seen = {
            file: time_ns if time_ns is None or time_ns <= since_ns else 0 for file, time_ns in self._look().items()
        }

    async def changed(self) -> list[Path]:
        """Wait for a change, and until there is no further one; gives the files that are others."""
        before, found = self._seen, self._look()
        while found == before or found != self._seen:
            self._seen = found
            await trio.sleep(LOOK_S)
            found = self._look()
        return sorted(file for file in before | found if before.get(file) != found.get(file))

    def _look(self) -> dict[Path, int | None]:
        files = set(self._files)
        if self._failed:
            files.update(self._named[0].parent.glob("*.py"))
        return {file: _time_ns(file) for file in files}


def _time_ns(file: Path) -> int | None:
    """When it was last written; None if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
