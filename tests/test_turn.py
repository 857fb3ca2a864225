"""ezflow/turn.py: the client's ear, what is remembered, and what a stage may do with its turn."""

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.testing

from ezflow import Audio, Inbox, Latest, Module, Outbox, Progress, Turn, module
from ezflow.ear import Ear, Exchange, Note, Run
from ezflow.history import History, Message
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause
from ezflow.turn import Options


def note(item: object, run: Run, stage: str = "stage") -> Note:
    return Note("item", run, 0.0, stage, item)


def taken(ear: Ear) -> list[object]:
    items = []
    while True:
        try:
            items.append(ear.take_nowait().item)
        except trio.WouldBlock:
            return items


# ---- the ear alone


async def test_the_ear_gives_events_in_order_with_a_seq_without_gaps():
    ear, run = Ear(7, 10), Run(0)
    ear.tell(Note("started", run, 0.0))
    await ear.put(note("a", run))
    await ear.put(note("b", run))
    ear.tell(Note("ended", run, 1.0, reason="done"))
    events = [await ear.take() for _ in range(4)]
    assert [event.type for event in events] == ["turn.started", "text", "text", "turn.ended"]
    assert [event.seq for event in events] == [0, 1, 2, 3]
    assert {event.turn for event in events} == {7}
    assert events[3].reason == "done"


async def test_dropped_events_leave_no_gap_in_the_seq():
    ear, run, other = Ear(1, 10), Run(1, Run(0)), Run(2, Run(0))
    await ear.put(note("a", run))
    assert (await ear.take()).seq == 0
    await ear.put(note("b", run))
    await ear.put(note("c", other))
    ear.drop(run)
    event = await ear.take()
    assert (event.item, event.seq) == ("c", 1)


async def test_put_waits_while_the_ear_is_full_and_tell_does_not(nursery, autojump_clock):
    ear, run = Ear(1, 2), Run(0)
    put: list[int] = []

    async def speak() -> None:
        for number in range(5):
            await ear.put(note(number, run))
            put.append(number)

    nursery.start_soon(speak)
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1]
    ear.tell(Note("error", run, 0.0))
    assert (await ear.take()).item == 0
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1]  # what the engine said took that place
    await ear.take()
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1, 2]
    nursery.cancel_scope.cancel()


async def test_dropping_makes_room_for_those_who_wait(nursery, autojump_clock):
    ear, old, new = Ear(1, 1), Run(1, Run(0)), Run(2, Run(0))
    await ear.put(note("old", old))
    nursery.start_soon(ear.put, note("new", new))
    await trio.testing.wait_all_tasks_blocked()
    ear.drop(old)
    await trio.testing.wait_all_tasks_blocked()
    assert taken(ear) == ["new"]


async def test_dropping_a_run_drops_the_runs_within_it_and_keeps_what_is_no_item():
    ear, root = Ear(1, 10), Run(0)
    outer = Run(1, root)
    inner = Run(2, outer)
    for item, run in (("root", root), ("outer", outer), ("inner", inner)):
        await ear.put(note(item, run))
    ear.tell(Note("error", inner, 0.0))
    assert ear.untaken(root)
    assert ear.untaken(outer)
    ear.drop(outer)
    assert not ear.untaken(outer)
    events = [ear.take_nowait() for _ in range(2)]
    assert [(event.type, event.item) for event in events] == [("text", "root"), ("error", None)]


async def test_a_cancelled_put_has_said_nothing():
    ear, run = Ear(1, 1), Run(0)
    await ear.put(note("a", run))
    with trio.CancelScope() as scope:
        scope.cancel()
        await ear.put(note("b", run))
    with trio.CancelScope() as late:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ear.put, note("c", run))
            await trio.testing.wait_all_tasks_blocked()
            late.cancel()
    assert taken(ear) == ["a"]


async def test_a_cancelled_take_has_taken_nothing(autojump_clock):
    ear, run = Ear(1, 1), Run(0)
    with trio.move_on_after(1) as scope:
        await ear.take()
    assert scope.cancelled_caught
    await ear.put(note("a", run))
    assert (await ear.take()).item == "a"


async def test_who_only_waits_for_room_passes_the_room_on(nursery, autojump_clock):
    """A run that waits to begin must not use up the wake-up of a stage that waits to speak."""
    ear, run = Ear(1, 1), Run(0)
    await ear.put(note("a", run))
    nursery.start_soon(ear.room)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(ear.put, note("b", run))
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(1):
        assert [(await ear.take()).item, (await ear.take()).item] == ["a", "b"]


# ---- an exchange


def test_the_whole_answer_is_remembered_when_it_was_not_cut():
    exchange = Exchange("hi", "llm")
    for word in ("a", " b", object()):
        exchange.give(word)
    assert exchange.messages(cut=False) == [Message("user", "hi"), Message("assistant", "a b")]


def test_of_a_cut_answer_only_what_was_shown_is_remembered():
    exchange = Exchange("hi", "llm")
    for word in ("a", " b", " c"):
        exchange.give(word)
    exchange.shown += ["a", " b"]
    assert exchange.messages(cut=True) == [Message("user", "hi"), Message("assistant", "a b", cut=True)]


async def test_of_a_cut_answer_that_was_only_spoken_the_spoken_words_are_remembered():
    exchange = Exchange("hi", "llm")
    run = Run(0)
    run.exchanges.append(exchange)
    for seq, text in enumerate(("One.", "", "Two.")):
        run.play(Audio(bytes(32), 16000, text=text), seq)
    assert exchange.messages(cut=True)[1] == Message("assistant", "One. Two.", cut=True)


def test_an_answer_of_which_nothing_was_sent_leaves_only_the_question():
    exchange = Exchange("hi", "llm")
    exchange.give("a")
    assert exchange.messages(cut=True) == [Message("user", "hi")]


def test_a_run_is_within_itself_and_those_around_it():
    root = Run(0)
    outer = Run(1, root)
    inner = Run(2, outer)
    assert inner.within(inner)
    assert inner.within(root)
    assert not outer.within(inner)


# ---- stages at work


@module
class Count(Module[int, int]):
    """Gives 0 .. n-1."""

    async def process(self, n: int, turn: Turn) -> AsyncIterator[int]:
        for number in range(n):
            yield number


async def test_backpressure_reaches_from_the_ear_to_the_first_stage(autojump_clock):
    given: list[int] = []

    @module
    async def source(n: int) -> AsyncIterator[int]:
        for number in range(n):
            given.append(number)
            yield number

    @module
    async def same(n: int) -> int:
        return n

    flow = source >> same >> same
    async with flow.open(capacity=2, ear=3) as service, service.session("ann") as session:
        async with session.turn(1000) as turn:
            assert (await anext(turn)).type == "turn.started"
            await trio.testing.wait_all_tasks_blocked()
            # three in the ear, two in each of two joins, and one in each stage's hands
            assert len(given) == 3 + 2 * 2 + 3
            for number in range(50):
                assert (await anext(turn)).item == number
            await trio.testing.wait_all_tasks_blocked()
            assert len(given) == 50 + 3 + 2 * 2 + 3


async def test_plain_functions_hold_no_more_than_their_joins(autojump_clock):
    """They take all that a join holds at once, so its items may be in a stage's hands and in the join again."""
    given: list[int] = []

    @module
    async def source(n: int) -> AsyncIterator[int]:
        for number in range(n):
            given.append(number)
            yield number

    @module
    def same(n: int) -> int:
        return n

    async with (source >> same >> same >> same).open(capacity=2, ear=3) as service:
        async with service.session("ann") as session, session.turn(1000) as turn:
            await anext(turn)
            for number in range(50):
                await trio.testing.wait_all_tasks_blocked()
                assert 3 <= len(given) - number <= 3 + 1 + 3 * (2 + 3)
                assert (await anext(turn)).item == number


async def test_a_slow_client_misses_nothing(autojump_clock):
    async with Count().open(ear=1) as service, service.session("ann") as session:
        numbers: list[int] = []
        async for event in session.turn(200):
            await trio.sleep(0.01)
            if event.type == "json":
                numbers.append(event.item)
    assert numbers == list(range(200))


async def test_the_replies_of_a_stage_keep_their_order_with_its_outputs(autojump_clock):
    @module
    class Chatty(Module[int, str]):
        async def process(self, n: int, turn: Turn) -> AsyncIterator[str]:
            for number in range(n):
                await turn.reply(Progress(str(number)))
                yield str(number)

    async with Chatty().open(ear=2) as service, service.session("ann") as session:
        events = [event async for event in session.turn(20)]
    assert [event.seq for event in events] == list(range(42))
    told = [event.item for event in events[1:-1]]
    assert told == [item for number in range(20) for item in (Progress(str(number)), str(number))]
    assert {event.stage for event in events[1:-1]} == {"chatty"}


async def test_what_is_shown_is_told_before_it_goes_on(autojump_clock):
    flow = Count().shown() >> Pause(1.0)
    async with flow.open() as service, service.session("ann") as session:
        events = [(event.stage, event.item, event.t) async for event in session.turn(2)]
    assert events[1:-1] == [("count", 0, 0.0), ("count", 1, 0.0), ("pause", 0, 1.0), ("pause", 1, 2.0)]


@attrs.frozen
class Tone:
    loud: bool = False


async def test_a_stage_sees_its_turn_and_its_session(autojump_clock):
    seen: list[object] = []

    @module(options=Tone)
    class Look(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            seen.append((turn.user, turn.id, turn.stage, turn.run, turn.session.user, turn.options[Tone]))
            return text

    flow = Look() >> Latest(Look())
    async with flow.open() as service, service.session("ann") as session:
        for _ in range(2):
            async for _ in session.turn("x", options={"look_2": {"loud": True}}):
                pass
    assert seen == [
        ("ann", 1, "look", None, "ann", Tone()),
        ("ann", 1, "look_2", 1, "ann", Tone(loud=True)),
        ("ann", 2, "look", None, "ann", Tone()),
        ("ann", 2, "look_2", 1, "ann", Tone(loud=True)),
    ]


def test_options_that_nobody_gave_are_their_defaults():
    assert Options()[Tone] == Tone()
    assert Options({Tone: Tone(loud=True)})[Tone] == Tone(loud=True)
    assert "Tone(loud=True)" in repr(Options({Tone: Tone(loud=True)}))


# ---- what is remembered


async def talk(session, text: str) -> str:
    return "".join([event.item async for event in session.turn(text) if event.type == "text"])


async def test_a_session_remembers_questions_and_answers(autojump_clock):
    async with FakeLLM("{n}: {}").open() as service, service.session("ann") as session:
        assert await talk(session, "a") == "0: a"
        assert await talk(session, "b") == "2: b"
        assert session.history.messages == (
            Message("user", "a"),
            Message("assistant", "0: a"),
            Message("user", "b"),
            Message("assistant", "2: b"),
        )


async def test_an_answer_is_remembered_though_it_is_not_shown(autojump_clock):
    """The whole answer went on, so it was said, whether or not a client could read it."""
    flow = FakeLLM("one two") >> FakeTTS()
    async with flow.open() as service, service.session("ann") as session:
        async for _ in session.turn("hi"):
            pass
        assert session.history.messages[1] == Message("assistant", "one two")


@pytest.mark.parametrize("shown", [True, False])
async def test_of_an_interrupted_answer_only_what_was_sent_is_remembered(shown, autojump_clock):
    llm = FakeLLM("one two three four", 1.0, 1.0)
    flow = (llm.shown() if shown else llm) >> FakeTTS(0.25)
    async with flow.open() as service, service.session("ann") as session:
        async with session.turn("hi") as turn:
            with trio.move_on_after(2.5):
                async for _ in turn:
                    pass
        assert session.history.messages == (
            Message("user", "hi"),
            Message("assistant", text(shown), cut=True),
        )


def text(shown: bool) -> str:
    # Spoken pieces are joined with a space, and each of the fake's words brings one of its own.
    return "one two" if shown else "one  two"


async def test_what_waits_in_the_ear_was_not_sent(autojump_clock):
    async with FakeLLM("one two three").open() as service, service.session("ann") as session:
        async with session.turn("hi") as turn:
            await anext(turn)
            assert (await anext(turn)).item == "one"
            await trio.testing.wait_all_tasks_blocked()  # the rest is ready, and never taken
        assert session.history.messages[1] == Message("assistant", "one", cut=True)


async def test_a_client_that_leaves_after_the_last_word_has_had_it_all(autojump_clock):
    async with FakeLLM("one two").open() as service, service.session("ann") as session:
        async with session.turn("hi") as turn:
            async for event in turn:
                if event.item == " two":
                    await trio.testing.wait_all_tasks_blocked()
                    break
        assert session.history.messages[1] == Message("assistant", "one two")


async def test_remembering_twice_makes_two_exchanges(autojump_clock):
    @module
    class Two(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
            turn.remember("q1")
            yield "a1"
            turn.remember("q2")
            yield "a2"

    async with Two().open() as service, service.session("ann") as session:
        await talk(session, "x")
        assert [message.content for message in session.history.messages] == ["q1", "a1", "q2", "a2"]


async def test_a_run_that_was_heard_to_its_end_is_remembered_whole(autojump_clock):
    flow = FakeVAD() >> Latest(FakeASR() >> FakeLLM("one two").shown() >> FakeTTS())
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        for word in ("hello", "again"):
            await live.send(Audio(b"", 16000, text=word))
            await live.send(Audio(b"", 16000))
            with trio.move_on_after(1):
                async for _ in live:
                    pass
        assert session.history.messages == (Message("user", "hello"), Message("assistant", "one two"))
        await live.end()
        async for _ in live:
            pass
        assert [message.content for message in session.history.messages[2:]] == ["again", "one two"]


async def test_the_history_of_a_session_is_bounded(autojump_clock):
    async with FakeLLM("ok").open(history_messages=3) as service, service.session("ann") as session:
        for number in range(4):
            await talk(session, str(number))
        assert [message.content for message in session.history.messages] == ["ok", "3", "ok"]
        assert isinstance(session.history, History)


# ---- clean-up


async def test_clean_up_may_await_under_its_shield(autojump_clock):
    cleaned: list[float] = []

    @module
    class Careful(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with turn.cleanup():
                    await trio.sleep(1)
                    cleaned.append(trio.current_time())

    async with Careful().open(cleanup_s=2) as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await anext(turn)
            began = trio.current_time()
        assert cleaned == [began + 1]
        assert trio.current_time() == began + 1


async def test_clean_up_ends_at_its_deadline(autojump_clock):
    @module
    class Slow(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with turn.cleanup():
                    await trio.sleep_forever()

    async with Slow().open(cleanup_s=2) as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await anext(turn)
            began = trio.current_time()
        assert trio.current_time() == began + 2
        assert [event.reason async for event in turn] == ["interrupted"]
