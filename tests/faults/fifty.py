"""Fifty users at once of one service of a preset: what each is told, and that nothing of it is left."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from reachable import becomes, descriptors
from wires import Wires

from ezflow import Module, Service
from ezflow.events import Event
from ezflow.history import Message

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules" / "cases"))

from case import Case, load

__all__ = ["USERS", "Fifty", "Turns", "alone", "fifty", "is_in_order", "longest_s"]

USERS = range(10, 60)
WITHIN_S = 30.0
SAID = ("text", "audio", "transcript")


@attrs.define
class Told:
    """What a user was told in a turn, and when it ended."""

    events: list[Event] = attrs.field(factory=list)
    ended_at: float = 0.0

    @property
    def said(self) -> bytes:
        """All of the answer that has come, however it was cut."""
        items = [event.item for event in self.events if event.type in SAID]
        return b"".join(getattr(item, "pcm", None) or str(item).encode() for item in items)

    @property
    def errors(self) -> list[Event]:
        return [event for event in self.events if event.type == "error"]


Turns = dict[int, Told]


@attrs.frozen
class Alone:
    """What each user is told who is alone with a good server, whether that is remembered, and `at` which piece an
    answer is half said.
    """

    answers: dict[int, bytes]
    remembered: bool
    at: int


class Fifty:
    """Fifty users, each with a session of one service of a preset."""

    def __init__(self, case: Case, service: Service, alone: Alone) -> None:
        self._case = case
        self._service = service
        self._alone = alone
        self._sessions: dict[int, Any] = {}
        self._talks: dict[int, list[Message]] = {user: [] for user in USERS}
        self._asked = dict.fromkeys(USERS, 0)
        self._census = (0, 0, 0)

    @property
    def module(self) -> Module[Any, Any]:
        module: Module[Any, Any] = self._service.stages[0].module
        return module

    async def join(self, stack: AsyncExitStack) -> None:
        for user in USERS:
            self._sessions[user] = await stack.enter_async_context(self._service.session(f"no{user}"))
        await trio.testing.wait_all_tasks_blocked()
        self._census = census()

    @asynccontextmanager
    async def asking(self) -> AsyncGenerator[Turns, None]:
        """Have each of them ask, at once; their turns have ended where the block does."""
        turns: Turns = {user: Told() for user in USERS}
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                for user in USERS:
                    nursery.start_soon(self._ask, user, turns[user])
                yield turns

    async def ask(self) -> Turns:
        """The same, where nothing is done meanwhile."""
        async with self.asking() as turns:
            return turns

    async def _ask(self, user: int, told: Told) -> None:
        self._asked[user] += 1
        async for event in self._sessions[user].turn(self._case.item(user), options=self._case.options):
            told.events.append(event)
        told.ended_at = trio.current_time()

    async def newcomer_fails(self, error: str, url: str) -> None:
        """One more user asks, and is told of that failure."""
        user = USERS[0]
        async with self._service.session("newcomer") as session:
            turn = session.turn(self._case.item(user), options=self._case.options)
            self._has_failed(user, Told([event async for event in turn]), 1, error, url)

    def all_failed(self, turns: Turns, error: str, url: str) -> None:
        """Each was told of its own failure, and before that of the beginning of its own answer, which is remembered."""
        for user, told in turns.items():
            self._has_failed(user, told, self._asked[user], error, url)
            self._remembers(user, told)

    def _has_failed(self, user: int, told: Told, turn: int, error: str, url: str) -> None:
        assert [event.error.name for event in told.errors if event.error] == [error], (user, told.events)
        fault = told.errors[0]
        assert fault.stage == self.module.name
        assert fault.error is not None
        assert fault.error.message.startswith(f"{type(self.module).__name__} at {url}"), fault.error.message
        assert self._alone.answers[user].startswith(told.said), user
        is_in_order(told, turn, "error")

    def all_answered(self, turns: Turns) -> None:
        """Each was told the whole of its own answer, which is remembered."""
        for user, told in turns.items():
            assert not told.errors, (user, told.errors[0].error)
            assert told.said == self._alone.answers[user], user
            is_in_order(told, self._asked[user], "done")
            self._remembers(user, told)

    def _remembers(self, user: int, told: Told) -> None:
        """The history is what the user asked and was told, each answer cut where it was."""
        said = told.said.decode(errors="replace")
        talk = self._talks[user]
        talk.append(Message("user", str(self._case.item(user))))
        if said:
            talk.append(Message("assistant", said, cut=bool(told.errors)))
        assert list(self._sessions[user].history.messages) == (talk if self._alone.remembered else [])

    async def all_is_left(self) -> None:
        """Nothing of their turns is there any more; the sessions are."""

        def is_left() -> bool:
            # Dify is told to stop, and the connections on which it has answered that are kept for what comes next.
            status = self.module.status()
            kept = int(status.get("connections_idle", 0))
            tasks, threads, files = self._census
            free = not (status["connections_in_use"] or status["connections_waited_for"])
            return free and no_more(census(), (tasks + kept, threads, files + 2 * kept))

        await becomes(is_left, "nothing is left")


def is_in_order(told: Told, turn: int, reason: str) -> None:
    assert {event.turn for event in told.events} == {turn}
    assert [event.seq for event in told.events] == list(range(len(told.events)))
    assert told.events[-1].reason == reason


def census() -> tuple[int, int, int]:
    """How many tasks, threads and descriptors this process has."""
    tasks, queue = 0, [trio.lowlevel.current_root_task()]
    while queue:
        task = queue.pop()
        tasks += 1
        if task is not None:
            queue += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    # trio keeps idle worker threads for a while: they are its own, and bounded.
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")]
    return tasks, len(threads), descriptors()


def no_more(now: tuple[int, ...], then: tuple[int, ...]) -> bool:
    return all(one <= other for one, other in zip(now, then, strict=True))


@asynccontextmanager
async def fifty(case: Case, url: str, alone: Alone, read_s: float) -> AsyncGenerator[Fifty, None]:
    """Fifty users of the preset on the server at that URL. Afterwards nothing is left of its service."""
    await trio.to_thread.run_sync(int)  # trio has a task for words from threads, which begins with the first
    before = census()
    module = case.module(url, read_s=read_s, max_connections=len(USERS))
    async with module.open() as service, AsyncExitStack() as stack:
        users = Fifty(case, service, alone)
        await users.join(stack)
        yield users
    await becomes(lambda: no_more(census(), before), "nothing is left of the service")


ALONE: dict[str, Alone] = {}


async def alone(name: str) -> Alone:
    """What users are told who come to that case's server one after the other. It is found out once."""
    if name not in ALONE:
        case = load(name)
        standin = case.standin()
        wires, answers, remembered = Wires(standin), {}, False
        async with standin.serving(), case.module(standin.url).open() as service:
            for user in USERS:
                told = Told()
                async with service.session(f"no{user}") as session:
                    async for event in session.turn(case.item(user), options=case.options):
                        told.events.append(event)
                    remembered = bool(session.history.messages)
                answers[user] = told.said
        assert len(set(answers.values())) == len(USERS)
        ALONE[name] = Alone(answers, remembered, at=wires.pieces[0] // 2 + 1)
    return ALONE[name]


def longest_s(turns: Turns, since: float) -> float:
    """How long after that the last of them ended."""
    return max(told.ended_at for told in turns.values()) - since
