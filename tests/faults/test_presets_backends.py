"""Every preset's backend, while fifty users of one service are each in the middle of an answer: killed, frozen, torn
off, cut in the middle of a chunk, answering garbage, slow.

Each case of tests/stdlib_modules/cases is tried, so a new preset is too. `--long` has ROUNDS of each fault, one after
the other on the same service.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from backend_process import backend
from reachable import becomes, descriptors
from wires import Way, Wires, cut, garbage, reset, slowly

from ezflow import Module, Service
from ezflow.events import Event
from ezflow.testing.backends import Fault, StandIn

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules" / "cases"))

from case import FAULTS, NAMES, Case, load

USERS = range(10, 60)
ROUNDS = 10
WITHIN_S = 30.0
SAID = ("text", "audio", "transcript")
LONG_S = 10.0  # nobody waits for so long here
READ_S = 1.0  # where it is waited for
OF_A_USER = re.compile(rb"no(\d\d)")


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


class Fifty:
    """Fifty users, each with a session of one service of a preset."""

    def __init__(self, case: Case, service: Service, alone: dict[int, bytes]) -> None:
        self._case = case
        self._service = service
        self._alone = alone
        self._sessions: dict[int, Any] = {}
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
        """Each was told of its own failure, and before that of the beginning of its own answer."""
        for user, told in turns.items():
            self._has_failed(user, told, self._asked[user], error, url)

    def _has_failed(self, user: int, told: Told, turn: int, error: str, url: str) -> None:
        assert [event.error.name for event in told.errors if event.error] == [error], (user, told.events)
        fault = told.errors[0]
        assert fault.stage == self.module.name
        assert fault.error is not None
        assert fault.error.message.startswith(f"{type(self.module).__name__} at {url}"), fault.error.message
        assert self._alone[user].startswith(told.said), user
        is_in_order(told, turn, "error")

    def all_answered(self, turns: Turns) -> None:
        """Each was told the whole of its own answer."""
        for user, told in turns.items():
            assert not told.errors, (user, told.errors[0].error)
            assert told.said == self._alone[user], user
            is_in_order(told, self._asked[user], "done")

    def all_remember(self, *, at_last: bool) -> None:
        """Each history holds what its user said and was told, as it was; `at_last` a question and its whole answer."""
        for user, session in self._sessions.items():
            question, answer = self._case.item(user), self._alone[user].decode(errors="replace")
            messages = session.history.messages
            for message in messages:
                if message.role == "user":
                    assert message.content == question
                else:
                    assert answer.startswith(message.content)
                    assert message.cut is (message.content != answer)
            if messages and at_last:
                assert [message.content for message in messages[-2:]] == [question, answer]
            assert len([message for message in messages if message.role == "user"]) in (0, self._asked[user])

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
async def fifty(case: Case, url: str, alone: dict[int, bytes], read_s: float) -> AsyncGenerator[Fifty, None]:
    """Fifty users of the preset on the server at that URL. Afterwards nothing is left of its service."""
    await trio.to_thread.run_sync(int)  # trio has a task for words from threads, which begins with the first
    before = census()
    module = case.module(url, read_s=read_s, max_connections=len(USERS))
    with trio.fail_after(WITHIN_S):
        async with module.open() as service, AsyncExitStack() as stack:
            users = Fifty(case, service, alone)
            await users.join(stack)
            yield users
    await becomes(lambda: no_more(census(), before), "nothing is left of the service")


ALONE: dict[str, tuple[dict[int, bytes], int]] = {}


async def alone(name: str) -> tuple[dict[int, bytes], int]:
    """What each user is answered who is alone with a good server, and the piece in the middle of such an answer."""
    if name not in ALONE:
        case = load(name)
        standin = case.standin()
        wires, answers = Wires(standin), {}
        async with standin.serving(), case.module(standin.url).open() as service:
            for user in USERS:
                told = Told()
                async with service.session(f"no{user}") as session:
                    async for event in session.turn(case.item(user), options=case.options):
                        told.events.append(event)
                answers[user] = told.said
        assert len(set(answers.values())) == len(USERS)
        ALONE[name] = answers, wires.pieces[0] // 2 + 1
    return ALONE[name]


FATES: dict[Way, Fault] = {reset: Fault.CUT, cut: Fault.CUT, garbage: Fault.GARBAGE, slowly: Fault.SPLIT}


@pytest.mark.parametrize("way", FATES, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", NAMES)
async def test_fifty_users_amid_their_answers_are_told_what_their_backend_does(name, way, is_long, count):
    case, (answers, at) = load(name), await alone(name)
    expected = error_of(case, FATES[way])
    standin = case.standin()
    wires = Wires(standin)
    async with standin.serving(), fifty(case, standin.url, answers, LONG_S if expected else READ_S) as users:
        for _ in range(ROUNDS if is_long else 1):
            wires.hold(len(USERS), at, between=way is garbage)
            async with users.asking() as turns:
                await wires.until_held(len(USERS))
                struck_at = trio.current_time()
                wires.go_on(way)
            took_s = max(told.ended_at for told in turns.values()) - struck_at
            if expected:
                users.all_failed(turns, expected, standin.url)
                await users.all_is_left()
                assert took_s < LONG_S
            else:
                users.all_answered(turns)
                assert took_s > READ_S  # which is the time for each wait, and not for all of them
            users.all_remember(at_last=not expected)
            users.all_answered(await users.ask())
            users.all_remember(at_last=True)
            note(count, turns, worst_ms=took_s)
        keeps_users_apart(standin)


@pytest.mark.parametrize("name", NAMES)
async def test_fifty_users_amid_their_answers_are_told_that_their_backend_is_frozen_or_killed(name, is_long, count):
    case, (answers, at) = load(name), await alone(name)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(backend(name))
        url = running.url
        users = await stack.enter_async_context(fifty(case, url, answers, READ_S))

        async def strike(do: Callable[[], Awaitable[None]], error: str) -> None:
            await running.hold(len(USERS), at)
            async with users.asking() as turns:
                await running.all_held()
                struck_at = trio.current_time()
                await do()
            users.all_failed(turns, error, url)
            users.all_remember(at_last=False)
            note(count, turns, **{f"worst_ms_{do.__name__}": max(told.ended_at for told in turns.values()) - struck_at})

        for _ in range(ROUNDS if is_long else 1):
            await strike(running.freeze, error_of(case, Fault.SILENT))
            await running.thaw()
            await users.all_is_left()
            users.all_answered(await users.ask())
            users.all_remember(at_last=True)

            await strike(running.kill, error_of(case, Fault.CUT))
            await users.newcomer_fails("BackendUnreachable", url)
            await users.all_is_left()
            running = await stack.enter_async_context(backend(name, running.port, again=True))
            users.all_answered(await users.ask())
            users.all_remember(at_last=True)


def error_of(case: Case, fault: Fault) -> str:
    """The error that a fault is for a client of this preset; "" for none."""
    expected = case.faults.get(fault, FAULTS[fault])
    assert not isinstance(expected, str), f"its stand-in has this fault: {expected}"
    return expected.__name__ if expected else ""


def keeps_users_apart(standin: StandIn) -> None:
    """Nothing of one user was in a request for another."""
    for request in standin.requests:
        assert len(set(OF_A_USER.findall(request.body))) <= 1, request.body


def note(count: Any, turns: Turns, **worst_s: float) -> None:
    """What the end of the run tells of them; the times are those of the last of the turns, of the worst round."""
    begun = sum(bool(told.said) for told in turns.values())
    times = {what: round(1000 * seconds) for what, seconds in worst_s.items()}
    count(rounds=1, turns=len(turns), had_heard_something=begun, **times)
