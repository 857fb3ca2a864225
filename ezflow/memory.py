"""What a service remembers of its users: their histories, and the store that makes them last.

One task writes: whatever has been added to any history since it last wrote goes to the store at once, so that many
turns that end together cost one transaction. A turn whose end is to be told waits for it (`stored`); what a turn
that nobody waits for has added is written all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from .errors import StoreError
from .events import Fault
from .history import History, Message
from .store import Store

__all__ = ["Memory", "Remembered", "remembering"]

T = TypeVar("T")

log = logging.getLogger("ezflow")

# What a store may take for one thing that it is asked.
PATIENCE_S = 10.0
# How often, at least, what is too old is looked for.
SWEEP_S = 3600.0
DAY_S = 86_400.0


@asynccontextmanager
async def remembering(
    store: Store | None, max_messages: int, max_chars: int, max_days: float
) -> AsyncGenerator[Memory, None]:
    """A memory; at the end, what is not stored yet is."""
    memory = Memory(store, max_messages, max_chars, max_days)
    try:
        yield memory
    finally:
        await memory.close()


class Remembered:
    """One user's history, shared by all who hold it at the same time, and how much of it the store has."""

    __slots__ = ("fault", "history", "holders", "loaded", "stored", "tried", "user")

    def __init__(self, user: str, history: History) -> None:
        self.user = user
        self.history = history
        self.holders = 0
        self.loaded = False  # the history begins with what the store has
        self.tried = 0  # of the history's changes, those that the store was told,
        self.stored = 0  # and those that it has taken
        self.fault: Fault | None = None

    @property
    def unsaved(self) -> list[Message]:
        return self.history.since(self.stored)


class Memory:
    """The histories of a service's users. Without a store each ends with its sessions, and nothing ever waits.

    Bounds of a history: `max_messages`, `max_chars`, and `max_days`, the age at which a message is deleted (within
    the hour).
    """

    def __init__(self, store: Store | None, max_messages: int, max_chars: int, max_days: float) -> None:
        self.lasts = store is not None
        self._store = store
        self._bounds = (max_messages, max_chars)
        self._max_s = max_days * DAY_S
        self._held: dict[str, Remembered] = {}
        self._unsaved: dict[str, Remembered] = {}
        self._wanted = trio.Event()
        self._told = trio.lowlevel.ParkingLot()
        self._closed = False
        # The store is asked one thing at a time; what is known of what it has, changes only then.
        self._asking = trio.Lock()

    def start(self, nursery: trio.Nursery) -> None:
        """Begin what goes on as long as the service does."""
        if self._store is not None:
            nursery.start_soon(self._write, self._store)
        if self._max_s < float("inf"):
            nursery.start_soon(self._sweep)

    async def close(self) -> None:
        """Store the rest. After it nothing is stored any more."""
        if self._store is not None:
            for remembered in self._unsaved.values():
                remembered.holders = 0  # it is the last attempt
            with trio.CancelScope(shield=True):
                await self._save(self._store)
        self._closed = True
        self._told.unpark_all()

    def hold(self, user: str) -> Remembered:
        """The user's history, to be let go of again; until it is loaded, without what the store has.

        Where there is a store, who leaves and who comes meanwhile hold the same: nothing is written past each other.
        """
        remembered = self._held.get(user)
        if remembered is None or self._store is None:
            remembered = self._held[user] = Remembered(user, History(*self._bounds))
            if self._store is not None:
                remembered.history.changed = partial(self._changed, remembered)
        remembered.holders += 1
        return remembered

    def let_go(self, remembered: Remembered) -> None:
        """What nobody holds any more is forgotten, after one more try to store what the store has not."""
        remembered.holders -= 1
        if remembered.user in self._unsaved:
            self._wanted.set()
        elif not remembered.holders and self._held.get(remembered.user) is remembered:
            del self._held[remembered.user]

    async def load(self, remembered: Remembered) -> None:
        """Have the history begin with what the store has. Never raises: what fails is logged, and tried again."""
        if self._store is None or remembered.loaded:
            return
        async with self._asking:
            try:
                await self._load(self._store, remembered)
            except StoreError as error:
                log.error("user %r is not remembered: %s", remembered.user, error)

    async def stored(self, remembered: Remembered) -> Fault | None:
        """Wait until the store was told all that is in the history now; what is wrong if it has not taken it."""
        changes = remembered.history.changes
        while remembered.tried < changes and not self._closed:
            await self._told.park()
        return remembered.fault

    async def messages(self, user: str) -> tuple[Message, ...]:
        """What is remembered of a user. Raises: StoreError."""
        if self._store is None:
            return self._held[user].history.messages if user in self._held else ()
        remembered = self.hold(user)
        try:
            async with self._asking:
                await self._load(self._store, remembered)
            return remembered.history.messages
        finally:
            self.let_go(remembered)

    async def forget(self, user: str) -> int:
        """Delete all messages of a user, and return how many there were; what comes later is new.

        Raises: StoreError; then nothing is deleted.
        """
        if self._store is None:
            deleted = len(await self.messages(user))
            if deleted:
                self._held[user].history.clear()
            return deleted
        remembered = self.hold(user)
        try:
            async with self._asking:
                deleted = await _asked(self._store.delete(user)) + len(remembered.unsaved)
                remembered.history.clear()
                remembered.loaded = True
                self._is_stored(remembered, remembered.history.changes)
                self._told.unpark_all()
            return deleted
        finally:
            self.let_go(remembered)

    def _changed(self, remembered: Remembered) -> None:
        self._unsaved[remembered.user] = remembered
        self._wanted.set()

    async def _write(self, store: Store) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            await self._save(store)

    async def _save(self, store: Store) -> None:
        """Tell the store what it does not have, of all users at once."""
        async with self._asking:
            users = [(it, it.history.changes, it.unsaved) for it in self._unsaved.values()]
            try:
                for remembered, _, _ in users:
                    if remembered.history.cleared > remembered.stored:
                        await _asked(store.delete(remembered.user))
                        remembered.loaded = True
                    await self._load(store, remembered)
                if said := {remembered.user: messages for remembered, _, messages in users if messages}:
                    await _asked(store.append(said))
            except StoreError as error:
                log.error("what was said by %d user(s) is not stored: %s", len(users), error)
                for remembered, changes, _ in users:
                    self._is_not_stored(remembered, changes, error)
            else:
                for remembered, changes, _ in users:
                    self._is_stored(remembered, changes)
            self._told.unpark_all()

    def _is_stored(self, remembered: Remembered, changes: int) -> None:
        remembered.stored = remembered.tried = changes
        remembered.fault = None
        if changes == remembered.history.changes:
            self._unsaved.pop(remembered.user, None)
            if not remembered.holders:
                del self._held[remembered.user]

    def _is_not_stored(self, remembered: Remembered, changes: int, error: StoreError) -> None:
        remembered.tried = changes
        remembered.fault = Fault("StoreError", f"what was said is not stored yet: {error}")
        if not remembered.holders:
            log.error("%d messages of user %r are lost", len(remembered.unsaved), remembered.user)
            del self._unsaved[remembered.user], self._held[remembered.user]

    async def _load(self, store: Store, remembered: Remembered) -> None:
        """Raises: StoreError."""
        if remembered.loaded:
            return
        cleared = remembered.history.cleared
        older = await _asked(store.load(remembered.user))
        if remembered.history.cleared == cleared:
            before = time.time() - self._max_s
            remembered.history.recall([message for message in older if message.at >= before])
        remembered.loaded = True

    async def _sweep(self) -> None:
        """Delete what is too old, of those too who never come back."""
        while True:
            before = time.time() - self._max_s
            for remembered in self._held.values():
                remembered.history.expire(before)
            if self._store is not None:
                try:
                    await self._store.expire(before)
                except Exception as error:  # noqa: BLE001  (a store may be anybody's; the next sweep tries again)
                    log.error("what is too old is not deleted: %s", error)
            await trio.sleep(min(SWEEP_S, self._max_s))


async def _asked(answer: Awaitable[T]) -> T:
    try:
        with trio.fail_after(PATIENCE_S):
            return await answer
    except StoreError:
        raise
    except trio.TooSlowError as error:
        raise StoreError(f"the store has not answered within {PATIENCE_S:g} s") from error
    except Exception as error:
        raise StoreError(f"{type(error).__name__}: {error}") from error
