"""ezflow/memory.py: a turn whose end was told is stored; a store that is slow or fails ends no conversation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import at_step

from ezflow import Event, Latest, Module, Session, StageStuck, StoreError, Turn, module
from ezflow.channels import every_step
from ezflow.history import Message
from ezflow.memory import DAY_S, PATIENCE_S
from ezflow.open_turn import OpenTurn
from ezflow.testing import FakeLLM


class FakeStore:
    """Keeps messages in a dictionary; takes `slow_s` for each thing, and raises `failing` if that is set."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.kept: dict[str, list[Message]] = {}
        self.slow_s = slow_s
        self.failing: Exception | None = None
        self.asked: list[str] = []
        self.at_once = 0

    async def _does(self, what: str) -> None:
        self.asked.append(what)
        self.at_once += what != "expire"
        assert self.at_once <= 1
        try:
            await trio.sleep(self.slow_s)
            if self.failing is not None:
                raise self.failing
        finally:
            self.at_once -= what != "expire"

    async def load(self, user: str) -> Sequence[Message]:
        await self._does("load")
        return [*self.kept.get(user, [])]

    async def append(self, said: Mapping[str, Sequence[Message]]) -> None:
        await self._does("append")
        for user, messages in said.items():
            self.kept.setdefault(user, []).extend(messages)

    async def delete(self, user: str) -> int:
        await self._does("delete")
        return len(self.kept.pop(user, []))

    async def expire(self, before: float) -> int:
        await self._does("expire")
        old = [message for kept in self.kept.values() for message in kept if message.at < before]
        self.kept = {user: [message for message in kept if message not in old] for user, kept in self.kept.items()}
        return len(old)

    def words(self, user: str = "ann") -> list[str]:
        return [message.content for message in self.kept.get(user, [])]


DISK_FULL = StoreError("the disk is full")


async def events_of(turn: OpenTurn) -> list[Event]:
    return [event async for event in turn]


def shape(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def words(session: Session) -> list[str]:
    return [message.content for message in session.history.messages]


# ---- a turn whose end was told is stored


async def test_the_end_of_a_turn_is_told_when_what_was_said_is_stored(autojump_clock):
    store = FakeStore(slow_s=1.0)
    async with FakeLLM("one two").open(store=store) as service, service.session("ann") as session:
        began = trio.current_time()
        told = []
        async for event in session.turn("hello"):
            told.append((event.type, trio.current_time() - began, store.words()))
        assert told == [
            ("turn.started", 0.0, []),
            ("text", 0.0, []),
            ("text", 0.0, []),
            ("turn.ended", 1.0, ["hello", "one two"]),
        ]


async def test_an_end_that_is_not_stored_is_not_there_to_be_taken_at_once(autojump_clock):
    store = FakeStore(slow_s=1.0)
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        async with session.turn("hello") as turn:
            await trio.sleep(5)
            assert [turn.take_nowait().type for _ in range(2)] == ["turn.started", "text"]
            with pytest.raises(trio.WouldBlock):
                turn.take_nowait()
            assert store.words() == []
            assert (await anext(turn)).type == "turn.ended"
            assert store.words() == ["hello", "one"]


async def test_without_a_store_the_end_is_there_at_once():
    async with FakeLLM("one").open() as service, service.session("ann") as session:
        async with session.turn("hello") as turn:
            await trio.testing.wait_all_tasks_blocked()
            assert [turn.take_nowait().type for _ in range(3)] == ["turn.started", "text", "turn.ended"]


async def test_who_stops_waiting_for_the_end_may_come_back_for_it(autojump_clock):
    store = FakeStore(slow_s=1.0)
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        async with session.turn("hello") as turn:
            events = []
            for _ in range(20):
                with trio.move_on_after(0.3):
                    async for event in turn:
                        events.append(event)
    assert shape(events) == ["turn.started", "text", "turn.ended"]
    assert store.words() == ["hello", "one"]
    assert store.asked.count("append") == 1


@pytest.mark.parametrize("way", ["closed", "superseded", "interrupted", "client gone"])
async def test_a_turn_that_is_left_early_is_stored_too(way, autojump_clock):
    store = FakeStore(slow_s=0.1)
    flow = FakeLLM("one two three", 0.0, 1.0)
    async with flow.open(store=store, idle_s=100.0) as service:

        async def ask() -> None:
            async with service.session("ann") as session, session.turn("hello") as turn:
                async for event in turn:
                    if event.item == " two" and way == "closed":
                        break

        async with service.session("ann") as session, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1.5)
            if way == "superseded":
                await events_of(session.turn("again"))
            elif way == "interrupted":
                await session.interrupt()
            elif way == "client gone":
                nursery.cancel_scope.cancel()
        await trio.sleep(1)
        assert store.kept["ann"][:2] == [Message("user", "hello"), Message("assistant", "one two", cut=True)]


async def test_a_long_live_turn_is_stored_as_it_goes_on(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").shown().open(store=store) as service, service.session("ann") as session:
        async with session.live() as live:
            for number in range(3):
                await live.send(f"question {number}")
                while (await anext(live)).type != "text":
                    pass
            await trio.sleep(1)
            assert store.words() == ["question 0", "one", "question 1", "one"]


async def test_many_turns_that_end_together_are_stored_together(autojump_clock):
    store = FakeStore(slow_s=0.5)
    async with FakeLLM("one", 1.0).open(store=store, idle_s=10.0) as service:

        async def ask(user: str) -> None:
            async with service.session(user) as session:
                for _ in range(3):
                    assert (await events_of(session.turn("hello")))[-1].reason == "done"

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, f"user-{number}")
        assert all(store.words(f"user-{number}") == ["hello", "one"] * 3 for number in range(30))
    assert store.asked.count("load") == 30
    assert store.asked.count("append") < 45


# ---- what was said before


async def test_a_session_begins_with_what_was_said_before_it(autojump_clock):
    store = FakeStore()
    flow = FakeLLM("{n}")
    for n in (0, 2, 4):  # each time a new service, as after a restart
        async with flow.open(store=store) as service, service.session("ann") as session:
            assert [event.item for event in await events_of(session.turn("x"))][1] == str(n)
    async with flow.open(store=store) as service, service.session("bob") as session:
        assert session.history.messages == ()


async def test_a_session_that_follows_another_at_once_knows_what_was_said_in_it(autojump_clock):
    store = FakeStore(slow_s=1.0)
    async with FakeLLM("{n}").open(store=store) as service:
        for n in range(4):
            async with service.session("ann") as session, session.turn("x") as turn:
                while (await anext(turn)).type != "text":
                    pass
            async with service.session("ann") as session:
                assert len(session.history.messages) == 2 * (n + 1)
    assert len(store.words()) == 8


async def test_of_turns_that_come_while_the_history_is_read_the_last_one_stays(autojump_clock):
    ended: dict[tuple[str, int], str | None] = {}

    async def ask(user: str, number: int) -> None:
        async with service.session(user) as session:
            ended[user, number] = (await events_of(session.turn("x")))[-1].reason

    async with FakeLLM(first_s=1.0).open(store=FakeStore(slow_s=1.0)) as service, trio.open_nursery() as nursery:
        for user in "abcdefgh":
            for number in range(3):
                nursery.start_soon(ask, user, number)
                await trio.testing.wait_all_tasks_blocked()
    order = ["interrupted", "interrupted", "done"]
    assert ended == {(user, number): order[number] for user in "abcdefgh" for number in range(3)}


async def test_a_session_whose_stage_is_stuck_and_the_one_after_it_are_both_stored(autojump_clock):
    @module
    class Stuck(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
            turn.remember(text)
            yield "one"
            if text == "stuck":
                with trio.CancelScope(shield=True):
                    await trio.sleep(60)

    store = FakeStore()
    async with Stuck().shown().open(store=store, cleanup_s=1.0) as service:
        async with service.session("ann") as session:
            with pytest.raises(StageStuck):
                async with session.turn("stuck") as turn:
                    assert [(await anext(turn)).type for _ in range(2)] == ["turn.started", "text"]
        async with service.session("ann") as session:
            await events_of(session.turn("next"))
            assert words(session) == store.words() == ["next", "one"]
            await trio.sleep(60)  # the stage leaves at last
            assert words(session) == store.words() == ["next", "one", "stuck", "one"]


async def test_the_end_of_a_service_stores_the_rest(autojump_clock):
    store = FakeStore(slow_s=2.0)
    flow = FakeLLM("one two", 0.0, 100.0)
    async with flow.open(store=store, idle_s=100.0) as service:
        async with service.session("ann") as session:
            turn = session.turn("hello")
            assert [(await anext(turn)).type for _ in range(2)] == ["turn.started", "text"]
    assert store.words() == ["hello", "one"]
    assert shape(await events_of(turn)) == ["turn.ended"]  # who still listens is told, and waits for nothing


async def test_of_a_history_no_more_is_stored_than_it_holds(autojump_clock):
    store = FakeStore()
    async with FakeLLM("abc").open(store=store, history_messages=1) as service, service.session("ann") as session:
        await events_of(session.turn("x"))
        assert store.words() == ["abc"]
    async with FakeLLM("abc").open(store=store, history_messages=0) as service, service.session("bob") as session:
        await events_of(session.turn("x"))
        assert store.words("bob") == []


# ---- a store that fails


async def test_a_turn_that_cannot_be_stored_says_so_and_the_conversation_goes_on(autojump_clock, caplog):
    store = FakeStore()
    async with FakeLLM("{n}").open(store=store) as service, service.session("ann") as session:
        store.failing = DISK_FULL
        for n in (0, 2):
            events = await events_of(session.turn("x"))
            assert shape(events) == ["turn.started", "text", "error", "turn.ended"]
            assert [event.seq for event in events] == [0, 1, 2, 3]
            assert events[1].item == str(n)
            assert events[2].error is not None
            assert events[2].error.name == "StoreError"
            assert events[2].error.message == "what was said is not stored yet: the disk is full"
            assert events[3].reason == "done"
        assert caplog.text.count("what was said by 1 user(s) is not stored: the disk is full") == 2
        store.failing = None
        assert shape(await events_of(session.turn("y"))) == ["turn.started", "text", "turn.ended"]
        assert store.words() == words(session) == ["x", "0", "x", "2", "y", "4"]


@pytest.mark.parametrize("error", [OSError("no route"), ValueError("x"), ExceptionGroup("two", [ValueError("x")])])
async def test_whatever_a_store_raises_ends_no_turn(error, autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        store.failing = error
        events = await events_of(session.turn("x"))
        assert events[-2].error is not None
        assert f"not stored yet: {type(error).__name__}: {error}" in events[-2].error.message
        assert events[-1].reason == "done"


async def test_a_store_that_hangs_holds_an_end_up_for_so_long_and_no_longer(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        store.slow_s = float("inf")
        began = trio.current_time()
        events = await events_of(session.turn("x"))
        assert trio.current_time() - began == PATIENCE_S
        assert events[-2].error is not None
        assert "has not answered within 10 s" in events[-2].error.message
        store.slow_s = 0.0


async def test_a_history_that_could_not_be_read_comes_back_when_it_can(autojump_clock, caplog):
    store = FakeStore()
    store.kept["ann"] = [Message("user", "before"), Message("assistant", "one")]
    async with FakeLLM("{n}").open(store=store) as service:
        store.failing = DISK_FULL
        async with service.session("ann") as session:
            assert "user 'ann' is not remembered: the disk is full" in caplog.text
            assert shape(await events_of(session.turn("x"))) == ["turn.started", "text", "error", "turn.ended"]
            assert words(session) == ["x", "0"]
            store.failing = None
            await events_of(session.turn("y"))
            assert words(session) == ["before", "one", "x", "0", "y", "2"]
        assert store.words() == ["before", "one", "x", "0", "y", "2"]


async def test_what_could_not_be_stored_is_counted_when_it_is_given_up(autojump_clock, caplog):
    store = FakeStore()
    async with FakeLLM("one").open(store=store) as service:
        async with service.session("ann") as session:
            store.failing = DISK_FULL
            await events_of(session.turn("x"))
        await trio.sleep(1)
        assert "2 messages of user 'ann' are lost" in caplog.text
        store.failing = None
        async with service.session("ann") as session:
            assert session.history.messages == ()
            await events_of(session.turn("y"))
    assert store.words() == ["y", "one"]


# ---- what is deleted


async def test_what_is_deleted_is_gone_and_what_is_said_later_is_stored(autojump_clock):
    store = FakeStore(slow_s=0.1)
    async with FakeLLM("{n}", 0.0, 1.0).open(store=store, idle_s=100.0) as service:
        memory = service.sessions.memory
        async with service.session("ann") as session:
            await events_of(session.turn("x"))
            assert await memory.forget("ann") == 2
            assert session.history.messages == await memory.messages("ann") == ()
            assert store.words() == []
            await events_of(session.turn("y"))
            assert store.words() == ["y", "0"]
        assert await memory.forget("bob") == 0
    async with FakeLLM("{n}").open(store=store) as service:  # one who has no session
        assert [message.content for message in await service.sessions.memory.messages("ann")] == ["y", "0"]
        assert await service.sessions.memory.forget("ann") == 2
        assert store.words() == []


async def test_a_running_turn_stores_after_a_deletion_what_it_says_after_it(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one two", 0.0, 1.0).open(store=store) as service, service.session("ann") as session:
        await events_of(session.turn("x"))
        async with session.turn("y") as turn:
            await trio.sleep(0.5)
            assert await service.sessions.memory.forget("ann") == 2
            await events_of(turn)
        assert words(session) == store.words() == ["y", "one two"]


async def test_what_was_not_stored_yet_is_deleted_and_counted_too(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        await events_of(session.turn("x"))
        store.failing = DISK_FULL
        await events_of(session.turn("y"))
        with pytest.raises(StoreError, match="full"):
            await service.sessions.memory.forget("ann")
        assert words(session) == ["x", "one", "y", "one"]
        store.failing = None
        assert await service.sessions.memory.forget("ann") == 4
        assert words(session) == store.words() == []
        await events_of(session.turn("z"))
        assert words(session) == store.words() == ["z", "one"]


async def test_an_end_that_waits_is_told_when_what_it_waits_for_is_deleted(autojump_clock):
    store = FakeStore(slow_s=1.0)
    async with FakeLLM("one").open(store=store) as service, service.session("ann") as session:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events_of, session.turn("x"))
            await trio.sleep(0.5)
            await service.sessions.memory.forget("ann")
        assert store.words() == words(session) == []


async def test_a_module_that_clears_the_history_clears_the_store(autojump_clock):
    @module
    class Forgets(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
            if text == "forget":
                turn.history.clear()
            turn.remember(text)
            yield "ok"

    store = FakeStore(slow_s=0.1)
    store.kept["ann"] = [Message("user", "before")]
    async with Forgets().shown().open(store=store) as service, service.session("ann") as session:
        await events_of(session.turn("a"))
        assert words(session) == store.words() == ["before", "a", "ok"]
        await events_of(session.turn("forget"))
        assert words(session) == store.words() == ["forget", "ok"]
        await events_of(session.turn("b"))
        assert words(session) == store.words() == ["forget", "ok", "b", "ok"]


async def test_without_a_store_a_history_is_shown_and_deleted_as_long_as_its_session_is():
    async with FakeLLM("one").open() as service:
        memory = service.sessions.memory
        async with service.session("ann") as session:
            await events_of(session.turn("x"))
            assert [message.content for message in await memory.messages("ann")] == ["x", "one"]
            assert (await memory.forget("ann"), await memory.forget("ann"), await memory.forget("bob")) == (2, 0, 0)
            assert session.history.messages == ()
            await events_of(session.turn("y"))
        await trio.testing.wait_all_tasks_blocked()
        assert await memory.messages("ann") == ()


# ---- age


def aged(content: str, days: float) -> Message:
    return Message("user", content, at=time.time() - days * DAY_S)


async def test_what_is_too_old_is_deleted_at_the_start_also_of_those_who_never_come_back(autojump_clock):
    store = FakeStore()
    store.kept = {"ann": [aged("old", 8), aged("new", 6)], "bob": [aged("old", 400)]}
    async with FakeLLM("one").open(store=store, history_days=7):
        await trio.sleep(1)
        assert (store.words("ann"), store.words("bob")) == (["new"], [])


async def test_what_becomes_too_old_is_deleted_within_the_hour(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").open(store=store, history_days=7) as service, service.session("ann") as session:
        await trio.sleep(1)
        await events_of(session.turn("x"))
        store.kept["bob"] = [aged("old", 7.1)]
        session.history.recall([aged("old", 7.1)])
        assert (words(session), store.words("bob")) == (["old", "x", "one"], ["old"])
        await trio.sleep(3600)
        assert (words(session), store.words("bob")) == (["x", "one"], [])


async def test_what_is_too_old_is_not_loaded_nor_kept_without_a_store(autojump_clock):
    store = FakeStore()
    async with FakeLLM("one").open(store=store, history_days=7) as service:
        await trio.sleep(1)
        store.kept["ann"] = [aged("old", 8), aged("new", 6)]
        async with service.session("ann") as session:
            assert words(session) == ["new"]
    async with FakeLLM("one").open(history_days=7) as service, service.session("ann") as session:
        await trio.sleep(1)
        session.history.add(aged("old", 8))
        session.history.add(aged("new", 6))
        await trio.sleep(3600)
        assert words(session) == ["new"]


async def test_a_sweep_that_fails_is_logged_and_done_again(autojump_clock, caplog):
    store = FakeStore()
    store.kept["ann"] = [aged("old", 8)]
    store.failing = DISK_FULL
    async with FakeLLM("one").open(store=store, history_days=7):
        await trio.sleep(1)
        assert "what is too old is not deleted: the disk is full" in caplog.text
        store.failing = None
        await trio.sleep(3600)
        assert store.words() == []


# ---- whatever happens


async def test_a_client_that_goes_at_any_checkpoint_leaves_history_and_store_alike(autojump_clock):
    flow = Latest(FakeLLM("one two", 0.1, 0.1).shown())
    store = FakeStore(slow_s=0.05)

    async def client(session: Session) -> list[Event]:
        async with session.turn("hello") as turn:
            return await events_of(turn)

    async def once(step: int) -> int:
        scope = trio.CancelScope()
        with at_step(step, scope.cancel) as steps:
            with scope:
                async with service.session("ann") as session:
                    await client(session)
            await trio.sleep(5)
        return steps.count

    with every_step():
        async with flow.open(store=store, capacity=1, ear=2, idle_s=0.01) as service:
            steps = await once(0)
            assert steps > 30
            for step in range(1, steps + 1):
                await once(step)
                async with service.session("ann") as session:
                    assert list(session.history.messages) == store.kept["ann"][-200:], step
                    before = len(session.history.messages)
                    assert (await client(session))[-1].reason == "done"
                    assert len(session.history.messages) == min(200, before + 2), step
                    assert list(session.history.messages) == store.kept["ann"][-200:], step


async def test_a_service_that_is_cancelled_at_any_checkpoint_has_stored_each_turn_whose_end_was_told(autojump_clock):
    async def once(step: int) -> tuple[int, list[str], list[str]]:
        store, ended = FakeStore(slow_s=0.05), []
        scope = trio.CancelScope()
        with at_step(step, scope.cancel) as steps, scope:
            async with (
                FakeLLM("one two", 0.1, 0.1).open(store=store, capacity=1, ear=2) as service,
                service.session("ann") as session,
            ):
                for number in range(3):
                    if (await events_of(session.turn(f"question {number}")))[-1].type == "turn.ended":
                        ended += [f"question {number}", "one two"]
        return steps.count, ended, store.words()

    with every_step():
        steps, ended, kept = await once(0)
        assert len(ended) == len(kept) == 6
        for step in range(1, steps):
            _, ended, kept = await once(step)
            assert kept[: len(ended)] == ended, step
            if len(kept) > len(ended):  # of the turn that was cut, what was sent
                assert [kept[len(ended)], *kept[len(ended) + 1 :]] in (
                    [f"question {len(ended) // 2}", *answer] for answer in ([], ["one"], ["one two"])
                ), step


@attrs.frozen
class Act:
    kind: str
    user: str


KINDS = ["left", "live", "fail", "work", "slow", "fast", "delete", "clear", "idle", "reopen"]
ACTS = st.builds(Act, st.sampled_from(["turn"] * 4 + KINDS), st.sampled_from(["ann", "bob"]))


@given(st.lists(ACTS, max_size=40))
@settings(max_examples=100, deadline=None)
def test_after_any_course_of_things_the_store_has_what_was_said_once_and_in_order(acts):
    async def check() -> None:
        store = FakeStore()
        said: dict[str, list[str]] = {"ann": [], "bob": []}
        count = 0
        left = list(acts)
        while left:
            async with FakeLLM("one two", 0.1, 0.1).shown().open(store=store, idle_s=5.0) as service:
                while left:
                    act = left.pop(0)
                    count += 1
                    if act.kind == "fail":
                        store.failing = DISK_FULL
                    elif act.kind == "work":
                        store.failing = None
                    elif act.kind in ("slow", "fast"):
                        store.slow_s = 0.3 if act.kind == "slow" else 0.0
                    elif act.kind == "delete" and store.failing is None:
                        await service.sessions.memory.forget(act.user)
                        said[act.user].clear()
                    elif act.kind in ("reopen", "idle"):
                        store.failing = None  # else it is lost, as another test has it
                        for user in said:
                            await turn(service.session(user), count, said[user])
                        if act.kind == "reopen":
                            break
                        await trio.sleep(20)
                    elif act.kind == "clear":
                        async with service.session(act.user) as session:
                            session.history.clear()
                            said[act.user].clear()
                    elif act.kind in ("turn", "left", "live"):
                        await turn(service.session(act.user), count, said[act.user], act.kind)
                store.failing = None
                for user, kept in said.items():
                    await turn(service.session(user), count, kept)
                    assert store.words(user) == kept
                    assert [m.content for m in await service.sessions.memory.messages(user)] == kept

    async def turn(lease, number: int, said: list[str], kind: str = "turn") -> None:
        async with lease as session:
            if kind == "live":
                async with session.live() as live:
                    for part in "ab":
                        await live.send(f"{number}{part}")
                        said += [f"{number}{part}", "one two"]
                    await live.end()
                    await events_of(live)
                return
            async with session.turn(str(number)) as running:
                async for event in running:
                    if kind == "left" and event.type == "text":
                        break
            said += [str(number), "one two" if kind == "turn" else "one"]

    trio.run(check, clock=trio.testing.MockClock(autojump_threshold=0))
