"""Histories in an SQLite file: they outlive the process, also one that is killed.

A commit is with the operating system when `append` returns (WAL, synchronous=NORMAL): neither SIGKILL nor a crash of
the process loses it. A loss of power may lose the last of them; it does not spoil the file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from .errors import StoreError
from .history import Message
from .store import Bounds

__all__ = ["SQLiteStore", "open_sqlite"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger("ezflow")

# In the file's head: what the file is ("ezfl"), and how it is laid out. Each step leads from one layout to the next.
APPLICATION = 0x657A666C
STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE message (id INTEGER PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL, role TEXT NOT NULL, "
        "content TEXT NOT NULL, chars INTEGER NOT NULL, cut INTEGER NOT NULL)",
        "CREATE INDEX message_user ON message (user)",
        "CREATE INDEX message_at ON message (at)",
    ),
)
# How long a writer waits for another process that writes to the file.
BUSY_S = 5.0
# After how long it tries again where SQLite itself does not wait.
AGAIN_S = 0.01
# Messages deleted in one transaction where many may be due: other writers get their turn between two.
PIECE = 500
# Messages deleted at once where the file is full.
ROOM = 50

# Python gives half a surrogate pair no UTF-8, and a model or a client may well say one. SQLite counts the characters
# of a text up to its first zero: `chars` counts them all.
INSERT = (
    "INSERT INTO message (user, at, role, content, chars, cut) VALUES (CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), ?, ?)"
)
LOAD = "SELECT role, content, cut, at FROM message WHERE user = CAST(? AS TEXT) ORDER BY id DESC LIMIT ?"
DELETE = "DELETE FROM message WHERE user = CAST(? AS TEXT)"
TRIM = """
DELETE FROM message WHERE user = CAST(:user AS TEXT) AND id <= (
    SELECT max(id) FROM (
        SELECT id, row_number() OVER newest AS messages, sum(chars) OVER newest AS chars
        FROM message WHERE user = CAST(:user AS TEXT) WINDOW newest AS (ORDER BY id DESC ROWS UNBOUNDED PRECEDING)
    ) WHERE messages > :messages OR chars > :chars
)
"""
EXPIRE = "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE at < ? LIMIT ?)"
OLDEST = "DELETE FROM message WHERE id IN (SELECT id FROM message ORDER BY id LIMIT ?)"


@asynccontextmanager
async def open_sqlite(path: Path, bounds: Bounds) -> AsyncGenerator[SQLiteStore, None]:
    """Open the file, made if there is none, for its owner alone. Raises: StoreError for a file that cannot be used."""
    limiter = trio.CapacityLimiter(1)
    try:
        store = await trio.to_thread.run_sync(SQLiteStore, path, bounds, limiter, limiter=limiter)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close, limiter=limiter)


class SQLiteStore:
    """A store (`ezflow.store.Store`) in a file, which other processes may use at the same time.

    All its work is done in a worker thread, one piece at a time.
    """

    def __init__(self, path: Path, bounds: Bounds, limiter: trio.CapacityLimiter) -> None:
        self._path = path.absolute()
        self._bounds = bounds
        self._limiter = limiter
        self._unscrubbed = False
        self._full = False
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the files that SQLite puts beside it are as private
        self._file = _identity(path)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    async def load(self, user: str) -> Sequence[Message]:
        return await self._in_thread(self._load, user)

    async def append(self, said: Mapping[str, Sequence[Message]]) -> None:
        await self._in_thread(self._append, said)

    async def delete(self, user: str) -> int:
        return await self._in_thread(self._delete, user)

    async def expire(self, before: float) -> int:
        count = 0
        while deleted := await self._in_thread(self._expire, before):
            count += deleted
        if count:
            await self._in_thread(self._scrub)
        return count

    def close(self) -> None:
        """In a worker thread: nothing may be under way."""
        try:
            if self._unscrubbed:
                self._scrub()
        except sqlite3.Error as error:
            log.error("%s: %s", self._path, error)
        finally:
            self._connection.close()

    async def _in_thread(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await trio.to_thread.run_sync(self._at_place, work, *args, limiter=self._limiter)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _at_place(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        # A file that was deleted or replaced can still be written to, and nobody would ever find what is in it.
        if _identity(self._path) != self._file:
            raise OSError("the file is another one than was opened: start the server anew")
        return work(*args)

    def _prepare(self) -> None:
        connection = self._connection
        connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
        connection.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            tables, application, version = connection.execute(
                "SELECT (SELECT count(*) FROM sqlite_master), application_id, user_version "
                "FROM pragma_application_id, pragma_user_version"
            ).fetchone()
            if tables and application != APPLICATION:
                raise StoreError(f"{self._path} is a database of something else: name a file of its own.")
            if version > len(STEPS):
                raise StoreError(
                    f"{self._path} was written by a later ezflow (layout {version}, this one knows {len(STEPS)}): "
                    "upgrade ezflow, or name another file."
                )
            for step in STEPS[version:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        if self._log_ahead() != "wal":
            raise StoreError(f"{self._path} lies where SQLite has no write-ahead log: name a file on a local disk.")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _log_ahead(self) -> str:
        """Switch to the write-ahead log; of several processes that open a new file at once, one does it for all."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                # Two that want to switch would wait for each other: SQLite refuses one at once, whatever its timeout.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(AGAIN_S)
            else:
                return str(mode)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some errors have rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    def _load(self, user: str) -> list[Message]:
        rows = self._connection.execute(LOAD, (_bytes(user), self._bounds.messages)).fetchall()
        return [Message(role, content, bool(cut), at) for role, content, cut, at in reversed(rows)]

    def _append(self, said: Mapping[str, Sequence[Message]]) -> None:
        bounds = {"messages": self._bounds.messages, "chars": self._bounds.chars}
        if self._unscrubbed:
            self._scrub()
        with self._transaction():
            for user, messages in said.items():
                name = _bytes(user)
                self._connection.executemany(
                    INSERT, [(name, m.at, m.role, _bytes(m.content), len(m.content), m.cut) for m in messages]
                )
                self._connection.execute(TRIM, {"user": name} | bounds)
            self._make_room()

    def _delete(self, user: str) -> int:
        with self._transaction():
            count = self._connection.execute(DELETE, (_bytes(user),)).rowcount
        self._scrub()
        return count

    def _expire(self, before: float) -> int:
        with self._transaction():
            count = self._connection.execute(EXPIRE, (before, PIECE)).rowcount
        self._unscrubbed = self._unscrubbed or bool(count)
        return count

    def _make_room(self) -> None:
        """Within a transaction: the oldest messages of all users go, until the rest fits."""
        while self._used() > self._bounds.size and self._connection.execute(OLDEST, (ROOM,)).rowcount:
            if not self._full:
                self._full = True
                log.warning("%s is full (store_bytes=%d): the oldest messages make room", self._path, self._bounds.size)

    def _used(self) -> int:
        (used,) = self._connection.execute(
            "SELECT (page_count - freelist_count) * page_size "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
        return int(used)

    def _scrub(self) -> None:
        """Empty the log, in which what was deleted from the file can still be read.

        While another process reads, that cannot be: the next write tries again.
        """
        self._unscrubbed = True
        self._connection.execute("PRAGMA busy_timeout = 0")
        (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")
        self._unscrubbed = bool(busy)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
