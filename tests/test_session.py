"""ezflow/session.py: a user's turns, one at a time, whole, and never another's."""

import logging
import random
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.testing

from ezflow import (
    Audio,
    EntryError,
    Event,
    Inbox,
    InputError,
    ItemTypeError,
    Latest,
    Module,
    Outbox,
    SessionBusy,
    StageStuck,
    Turn,
    TurnClosedError,
    TurnFailed,
    module,
    timeout,
)
from ezflow.events import Fault
from ezflow.history import Message
from ezflow.open_turn import OpenTurn
from ezflow.session import Session
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause

VOICE = FakeVAD() >> Latest(FakeASR(0.1) >> FakeLLM("one two three", 0.2, 0.1).shown() >> FakeTTS(0.05))


def sound(text: str = "") -> Audio:
    return Audio(b"", 16000, text=text)


@module
def upper(text: str) -> str:
    return text.upper()


async def events_of(turn: OpenTurn) -> list[Event]:
    return [event async for event in turn]


def told(events: list[Event]) -> list[object]:
    return [event.item for event in events if event.item is not None]


def shape(events: list[Event]) -> list[str]:
    return [event.type for event in events]


# ---- one turn


async def test_a_turn_starts_tells_and_ends(autojump_clock):
    async with (upper >> FakeLLM("a b")).open() as service, service.session("ann") as session:
        events = await events_of(session.turn("x"))
    assert shape(events) == ["turn.started", "text", "text", "turn.ended"]
    assert [event.seq for event in events] == [0, 1, 2, 3]
    assert {event.turn for event in events} == {1}
    assert [event.stage for event in events] == [None, "fake_llm", "fake_llm", None]
    assert events[-1].reason == "done"


async def test_a_turn_that_is_over_gives_nothing_more(autojump_clock):
    async with upper.open() as service, service.session("ann") as session:
        turn = session.turn("x")
        await events_of(turn)
        assert await events_of(turn) == []
        await turn.aclose()
        assert await session.interrupt() is None


async def test_turns_are_numbered_within_their_session(autojump_clock):
    async with upper.open() as service:
        for user in ("ann", "bob"):
            async with service.session(user) as session:
                assert [(await events_of(session.turn("x")))[0].turn for _ in range(3)] == [1, 2, 3]


async def test_a_turn_starts_when_it_is_first_awaited(autojump_clock):
    async with upper.open() as service, service.session("ann") as session:
        never = session.turn("never")
        first = await events_of(session.turn("x"))
        assert (first[0].turn, first[0].t) == (1, 0.0)
        await never.aclose()
        assert await events_of(never) == []
        with pytest.raises(TurnClosedError, match="closed before it began"):
            async with never:
                pass


# ---- a new turn ends the one before


class Witness:
    """When the stages of each turn came and left."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.present = 0
        self.most = 0

    def enter(self, turn: int) -> None:
        self.log.append(("enter", turn))
        self.present += 1
        self.most = max(self.most, self.present)

    def leave(self, turn: int) -> None:
        self.log.append(("leave", turn))
        self.present -= 1


def slow_to_leave(witness: Witness, seconds: float) -> Module[str, str]:
    @module
    class SlowToLeave(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            witness.enter(turn.id)
            try:
                async for text in inbox:
                    await outbox.send(text)
                    await trio.sleep(100)
            finally:
                with turn.cleanup():
                    await trio.sleep(seconds)
                witness.leave(turn.id)

    return SlowToLeave()


async def test_a_new_turn_starts_only_when_every_stage_of_the_old_one_has_left(nursery, autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 2.0).open() as service, service.session("ann") as session:
        first: list[Event] = []

        async def read(turn: OpenTurn) -> None:
            async for event in turn:
                first.append(event)

        nursery.start_soon(read, session.turn("a"))
        await trio.sleep(1)
        began = trio.current_time()
        async with session.turn("b") as second:
            assert trio.current_time() == began + 2.0
            assert witness.log[:2] == [("enter", 1), ("leave", 1)]
            await trio.testing.wait_all_tasks_blocked()
            assert shape(first) == ["turn.started", "text", "turn.ended"]
            assert first[-1].reason == "interrupted"
            assert (await anext(second)).turn == 2
            assert (await anext(second)).item == "b"
    assert witness.most == 1


async def test_turns_started_at_once_run_one_after_the_other(autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 1.0).open() as service, service.session("ann") as session:
        reasons: list[str | None] = []

        async def read(text: str) -> None:
            async with session.turn(text) as turn:
                reasons.append((await events_of(turn))[-1].reason)

        async with trio.open_nursery() as nursery:
            for text in "abc":
                nursery.start_soon(read, text)
            await trio.sleep(50)
            assert reasons == ["interrupted", "interrupted"]
            assert await session.interrupt() == 3
        assert reasons == ["interrupted"] * 3
    assert witness.most == 1
    assert [turn for what, turn in witness.log if what == "enter"] == [1, 2, 3]


async def test_one_turn_that_two_tasks_begin_at_once_is_begun_once(autojump_clock):
    async with upper.open() as service, service.session("ann") as session:
        turn = session.live()

        async def feed() -> None:
            await turn.send("a")
            await turn.end()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            nursery.start_soon(turn.__aenter__)
            events = await events_of(turn)
        assert shape(events) == ["turn.started", "text", "turn.ended"]
        assert {event.turn for event in events} == {1}


async def test_breaking_out_of_the_loop_ends_the_turn_there_and_then(autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 0.5).open() as service, service.session("ann") as session:
        async with session.turn("a") as turn:
            async for event in turn:
                if event.type == "text":
                    break
        assert witness.log == [("enter", 1), ("leave", 1)]
        assert await session.interrupt() is None


async def test_interrupting_a_session_returns_when_its_stages_have_left(nursery, autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 0.5).open() as service, service.session("ann") as session:
        assert await session.interrupt() is None
        turn = session.turn("a")
        await anext(turn)
        assert await session.interrupt() == 1
        assert witness.present == 0
        assert [(event.type, event.reason) for event in await events_of(turn)] == [("turn.ended", "interrupted")]


async def test_an_interrupted_turn_drops_what_waits_in_the_ear(autojump_clock):
    async with FakeLLM("a b c d").open() as service, service.session("ann") as session:
        turn = session.turn("x")
        await anext(turn)
        assert (await anext(turn)).item == "a"
        await trio.testing.wait_all_tasks_blocked()
        await turn.aclose()
        assert [(event.type, event.seq, event.reason) for event in await events_of(turn)] == [
            ("turn.ended", 2, "interrupted")
        ]


async def test_an_interrupted_session_goes_on(autojump_clock):
    async with FakeLLM("a b", 1.0, 1.0).open() as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await anext(turn)
            await anext(turn)
        assert told(await events_of(session.turn("y"))) == ["a", " b"]


# ---- two users


async def test_two_users_do_not_wait_for_each_other(autojump_clock):
    async with FakeLLM("a b", 1.0, 1.0).open() as service:
        began = trio.current_time()

        async def user(name: str) -> None:
            async with service.session(name) as session:
                assert told(await events_of(session.turn("x"))) == ["a", " b"]

        async with trio.open_nursery() as nursery:
            for name in ("ann", "bob", "cy"):
                nursery.start_soon(user, name)
        assert trio.current_time() == began + 2.0


@module
class Jitter(Module[str, str]):
    """Gives the words of a text on, each after a pause of its own."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        pauses = random.Random(text)
        turn.remember(text)
        for word in text.split():
            await trio.sleep(pauses.choice((0, 0, 0.001, 0.002, 0.003)))
            await turn.reply(f"{turn.user} {turn.session.user}")
            yield f"{turn.user}:{word}"


async def test_two_users_at_once_never_get_each_other_s_replies(autojump_clock):
    """1000 random interleavings, with interruptions, of two users on one service."""
    dice = random.Random(2)
    flow = Jitter() >> Jitter() >> Latest(Jitter())
    async with flow.open(capacity=1, ear=2) as service:

        async def user(name: str, seed: int) -> None:
            dice = random.Random(seed)
            async with service.session(name) as session:
                for number in range(2):
                    words = [f"{name}{seed}{letter}" for letter in "ab"[: dice.randint(1, 2)]]
                    patience_s = dice.choice((0.001, 0.004, 1.0, 1.0))
                    async with session.turn(" ".join(words)) as turn:
                        with trio.move_on_after(patience_s):
                            async for event in turn:
                                assert event.turn == number + 1
                                if event.type == "text":
                                    assert name in event.item
                                    assert other[name] not in event.item
                                if dice.random() < 0.2:
                                    await trio.sleep(0.001)
                for message in session.history.messages:
                    assert other[name] not in message.content

        other = {"ann": "bob", "bob": "ann"}
        for _ in range(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(user, "ann", dice.randrange(10**6))
                nursery.start_soon(user, "bob", dice.randrange(10**6))
        assert service.sessions == {}


async def test_two_users_on_a_model_keep_their_own_histories(autojump_clock):
    async with FakeLLM("{n} {}", 0.1, 0.1).open() as service:

        async def user(name: str) -> None:
            async with service.session(name) as session:
                for number in range(3):
                    assert told(await events_of(session.turn(name))) == [str(2 * number), f" {name}"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(user, "ann")
            nursery.start_soon(user, "bob")


# ---- live turns


async def test_a_live_turn_takes_items_until_its_input_ends(autojump_clock):
    async with upper.open() as service, service.session("ann") as session, session.live() as live:
        await live.send("a")
        await live.send("b")
        await live.end()
        events = await events_of(live)
        assert told(events) == ["A", "B"]
        assert events[-1].reason == "done"
        with pytest.raises(TurnClosedError, match="the input of this turn has ended"):
            await live.send("c")


async def test_a_live_turn_without_input_ends_when_told(autojump_clock):
    async with VOICE.open() as service, service.session("ann") as session, session.live() as live:
        await live.end()
        assert shape(await events_of(live)) == ["turn.started", "turn.ended"]


async def test_feeding_waits_while_the_flow_is_busy(autojump_clock):
    async with Pause(1.0).open(capacity=1) as service, service.session("ann") as session:
        async with session.live() as live:
            began = trio.current_time()
            times = []
            for number in range(4):
                await live.send(number)
                times.append(trio.current_time() - began)
    assert times == [0.0, 0.0, 1.0, 2.0]


async def test_feeding_a_turn_that_another_has_ended_is_an_error(autojump_clock):
    async with upper.open() as service, service.session("ann") as session:
        live = session.live()
        await live.send("a")
        await events_of(session.turn("b"))
        with pytest.raises(TurnClosedError, match="turn 1 is over: start another turn"):
            await live.send("c")
        assert [event.reason for event in await events_of(live)][-1] == "interrupted"


async def test_interrupting_a_live_turn_ends_the_run_and_goes_on_listening(autojump_clock):
    async with VOICE.open() as service, service.session("ann") as session, session.live() as live:
        await live.send(sound("hello"))
        await live.send(sound())
        heard: list[Event] = []
        with trio.move_on_after(0.42):
            async for event in live:
                heard.append(event)
        assert told(heard)[-1] == " two"
        await live.interrupt()
        await live.interrupt()
        await live.send(sound("again"))
        await live.send(sound())
        await live.end()
        rest = await events_of(live)
        assert [(event.type, event.run) for event in rest[:2]] == [("interrupted", 1), ("transcript", 2)]
        assert shape(rest).count("interrupted") == 1
        assert {event.run for event in rest[1:-1]} == {2}
        assert [event.seq for event in heard + rest] == list(range(len(heard) + len(rest)))
    assert session.history.messages == (
        Message("user", "hello"),
        Message("assistant", "one two", cut=True),
        Message("user", "again"),
        Message("assistant", "one two three"),
    )


async def test_interrupting_a_live_turn_without_latest_ends_the_item_at_work(autojump_clock):
    flow = FakeLLM("one two three", 0.2, 0.1)
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        await live.send("hello")
        heard: list[Event] = []
        with trio.move_on_after(0.32):
            async for event in live:
                heard.append(event)
        await live.interrupt()
        await live.send("again")
        await live.end()
        rest = await events_of(live)
        assert told(heard) == ["one", " two"]
        assert [(event.type, event.item) for event in rest] == [
            ("interrupted", None),
            ("text", "one"),
            ("text", " two"),
            ("text", " three"),
            ("turn.ended", None),
        ]
    assert [(message.content, message.cut) for message in session.history.messages] == [
        ("hello", False),
        ("one two", True),
        ("again", False),
        ("one two three", False),
    ]


@pytest.mark.parametrize("flow", [VOICE, FakeASR() >> FakeLLM()], ids=["latest", "plain"])
async def test_interrupting_a_live_turn_where_nothing_is_at_work_does_nothing(flow, autojump_clock):
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        await live.interrupt()
        await trio.testing.wait_all_tasks_blocked()
        await live.interrupt()
        await live.end()
        assert shape(await events_of(live)) == ["turn.started", "turn.ended"]


@pytest.mark.parametrize("around", [lambda flow: flow, Latest], ids=["plain", "latest"])
async def test_interrupting_a_live_turn_that_has_run_out_is_told_before_its_end(around, autojump_clock):
    async with around(FakeLLM()).open() as service, service.session("ann") as session, session.live() as live:
        await live.send("hello")
        await live.end()
        await trio.testing.wait_all_tasks_blocked(1)
        assert await live.interrupt()
        assert not await live.interrupt()
        assert shape(await events_of(live)) == ["turn.started", "interrupted", "turn.ended"]
        assert not await live.interrupt()
    assert session.history.messages == (Message("user", "hello"),)


async def test_interrupting_a_live_turn_returns_when_the_run_s_stages_have_left(autojump_clock):
    witness = Witness()
    flow = Latest(slow_to_leave(witness, 2.0))
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        await live.send("a")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await live.interrupt()
        assert trio.current_time() == began + 2.0
        assert witness.present == 0


async def test_queued_events_of_an_interrupted_run_are_dropped_before_interrupted_goes_out(autojump_clock):
    """The client is slow: words of the old run wait in the ear when the next item comes. None is sent."""
    flow = Latest(FakeLLM("a b c d {}"))
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        await live.send("1")
        await trio.testing.wait_all_tasks_blocked()
        events = [await anext(live), await anext(live)]
        await live.send("2")
        await trio.testing.wait_all_tasks_blocked()
        await live.end()
        events += await events_of(live)
        assert [(event.type, event.run, event.item) for event in events] == [
            ("turn.started", None, None),
            ("text", 1, "a"),
            ("interrupted", 1, None),
            *(("text", 2, word) for word in ("a", " b", " c", " d", " 2")),
            ("turn.ended", None, None),
        ]


async def test_nothing_of_a_run_follows_its_interruption(autojump_clock):
    """Random barge-ins, a client of random slowness: runs are numbered upwards, none is late."""
    dice = random.Random(7)
    async with VOICE.open(ear=3, capacity=1) as service:
        for _ in range(60):
            async with service.session("ann") as session, session.live() as live:

                async def speak(live: OpenTurn = live) -> None:
                    for number in range(5):
                        await live.send(sound(f"w{number}"))
                        await live.send(sound())
                        await trio.sleep(dice.choice((0, 0.05, 0.15, 0.33, 0.51, 0.8)))
                    await live.end()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(speak)
                    cut: set[int] = set()
                    last, place = 0, 0
                    async for event in live:
                        assert event.seq == place
                        place += 1
                        if event.run is not None:
                            assert event.run not in cut
                            assert event.run >= last
                            last = event.run
                        if event.type == "interrupted":
                            cut.add(event.run)
                        await trio.sleep(dice.choice((0, 0, 0.02, 0.3)))
                assert event.reason == "done"
                assert last == 5
                answers = [message for message in session.history.messages if message.role == "assistant"]
                assert not answers[-1].cut


# ---- entries and options


async def test_a_turn_may_enter_at_any_stage_by_index_or_name(autojump_clock):
    flow = FakeASR() >> upper >> FakeLLM("{}")
    async with flow.open() as service, service.session("ann") as session:
        assert told(await events_of(session.turn(sound("a"))))[-1] == "A"
        for entry in (1, "upper"):
            assert told(await events_of(session.turn("b", entry=entry))) == ["B"]
        for entry in (2, "fake_llm"):
            assert told(await events_of(session.turn("c", entry=entry))) == ["c"]
        async with session.live(entry="upper") as live:
            await live.send("d")
            await live.end()
            assert told(await events_of(live)) == ["D"]


async def test_an_entry_keeps_its_combinator(autojump_clock):
    async with VOICE.open() as service, service.session("ann") as session:
        async with session.live(entry="fake_llm") as live:
            await live.send("a")
            await trio.sleep(0.25)
            await live.send("b")
            await live.end()
            events = await events_of(live)
        assert "interrupted" in shape(events)
        assert max(event.run or 0 for event in events) == 2


@pytest.mark.parametrize("entry", [2, -1, 99, "nobody", True, "", 1.0, None])
async def test_an_entry_that_does_not_exist_names_those_that_do(entry, autojump_clock):
    async with (upper >> FakeLLM()).open() as service, service.session("ann") as session:
        with pytest.raises(EntryError, match="this flow has 2 stages, 0 upper, 1 fake_llm"):
            session.turn("x", entry=entry)


async def test_an_item_that_does_not_fit_its_entry_is_refused_before_the_turn(autojump_clock):
    async with (FakeASR() >> upper).open() as service, service.session("ann") as session:
        with pytest.raises(ItemTypeError, match="fake_asr takes Audio"):
            session.turn("x")
        with pytest.raises(ItemTypeError, match="upper takes str, but was given 5"):
            session.turn(5, entry=1)
        live = session.live()
        with pytest.raises(ItemTypeError):
            await live.send("x")
        assert await session.interrupt() is None


@attrs.frozen
class Style:
    mark: str = "!"
    times: int = 1


@module(options=Style, key="STYLE")
class Marked(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        style = turn.options[Style]
        return text + style.mark * style.times


@pytest.mark.parametrize(
    ("options", "result"),
    [
        (None, "x!!"),
        ({}, "x!!"),
        ({"STYLE": {"mark": "?"}}, "x??"),
        ({"STYLE": Style("#", 2)}, "x####"),
        ({"marked": {"mark": "?"}}, "x?!"),
        ({"marked_2": {"times": 3}}, "x!!!!"),
        ({"STYLE": {"mark": "?"}, "marked_2": {"mark": "#"}}, "x?#"),
    ],
)
async def test_options_go_to_the_stages_that_answer_to_their_key(options, result, autojump_clock):
    async with (Marked() >> Marked()).open() as service, service.session("ann") as session:
        assert told(await events_of(session.turn("x", options=options))) == [result]
        assert told(await events_of(session.turn("x"))) == ["x!!"]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"LLM": {}}, "options.LLM"),
        ({"upper": {}}, "options.upper"),
        ({"STYLE": {"times": "3"}}, "options.STYLE.times"),
        ({"marked": {"colour": "red"}}, "options.marked.colour"),
        ({"STYLE": "loud"}, "options.STYLE"),
        ({"STYLE": None}, "options.STYLE"),
    ],
)
async def test_options_that_do_not_fit_are_refused_with_their_path(options, path, autojump_clock):
    async with (upper >> Marked()).open() as service, service.session("ann") as session:
        with pytest.raises(InputError) as caught:
            session.turn("x", options=options)
        assert caught.value.path == path
        if path in ("options.LLM", "options.upper"):
            assert "known here: STYLE, marked" in caught.value.problem


# ---- errors


async def test_an_error_becomes_an_event_that_names_its_stage_and_then_the_turn_ends(autojump_clock, caplog):
    flow = FakeLLM("a b c") >> Failing("out of luck", after=1)
    async with flow.open() as service, service.session("ann") as session:
        events = await events_of(session.turn("x"))
        assert [(event.type, event.stage) for event in events[1:]] == [
            ("text", "failing"),
            ("error", "failing"),
            ("turn.ended", None),
        ]
        assert events[-2].error == Fault("RuntimeError", "out of luck")
        assert events[-1].reason == "error"
        assert [event.seq for event in events] == list(range(len(events)))
        (record,) = [record for record in caplog.records if record.name == "ezflow"]
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "user 'ann', turn 1, stage failing failed"
        assert "Traceback" in caplog.text
        assert "raise RuntimeError(self.message)" in caplog.text
        # the session goes on
        assert shape(await events_of(session.turn("x")))[-2:] == ["error", "turn.ended"]


async def test_errors_of_several_stages_are_each_told(autojump_clock):
    @module
    class Sulk(Module[str, str]):
        """Fails when it is cancelled."""

        async def process(self, text: str, turn: Turn) -> str:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("and I sulk")
            return text

    flow = Sulk() | Pause(1.0) >> Failing("first")
    async with flow.open() as service, service.session("ann") as session:
        events = await events_of(session.turn("x"))
    faults = {(event.stage, event.error) for event in events if event.type == "error"}
    assert faults == {
        ("failing", Fault("RuntimeError", "first")),
        ("sulk", Fault("ValueError", "and I sulk")),
    }
    assert events[-1].reason == "error"


async def test_an_error_inside_a_live_turn_ends_it(autojump_clock):
    async with Latest(Failing(after=0)).open() as service, service.session("ann") as session:
        async with session.live() as live:
            await live.send("x")
            events = await events_of(live)
            assert shape(events) == ["turn.started", "error", "turn.ended"]
            with pytest.raises(TurnClosedError):
                await live.send("y")


async def test_an_error_in_what_was_said_does_not_lose_what_was_said_before(autojump_clock):
    flow = FakeLLM("a b c").shown() >> Failing(after=2)
    async with flow.open() as service, service.session("ann") as session:
        await events_of(session.turn("x"))
        question, answer = session.history.messages
        assert question == Message("user", "x")
        assert answer.content == "a b c"


async def test_a_turn_that_takes_too_long_ends_with_the_reason_timeout(autojump_clock):
    async with FakeLLM("a b c d", 1.0, 1.0).open(turn_s=2.5) as service, service.session("ann") as session:
        events = await events_of(session.turn("x"))
        assert told(events) == ["a", " b"]
        assert (events[-1].type, events[-1].reason, events[-1].t) == ("turn.ended", "timeout", 2.5)
        assert session.history.messages[1] == Message("assistant", "a b", cut=True)


async def test_a_live_turn_goes_on_as_long_as_it_is_fed_or_heard_and_then_ends_as_timeout(autojump_clock):
    async with upper.open(turn_s=2.0) as service, service.session("ann") as session, session.live() as live:
        events = []
        for _ in range(5):
            await trio.sleep(1.5)
            await live.send("a")
            events += [await anext(live) for _ in range(1 if events else 2)]
        rest = await events_of(live)
    assert shape(events) == ["turn.started", *["text"] * 5]
    assert [(event.reason, event.t) for event in rest] == [("timeout", pytest.approx(9.5))]


async def test_a_live_turn_whose_input_has_ended_has_its_time_for_the_rest(autojump_clock):
    long = FakeLLM("a b c d e f", 1.0, 1.0)
    async with long.open(turn_s=3.5) as service, service.session("ann") as session, session.live() as live:
        await live.send("x")
        await trio.sleep(2.0)
        await live.end()
        events = await events_of(live)
    assert [(event.reason, event.t) for event in events][-1] == ("timeout", pytest.approx(5.5))


class Panic(BaseException):
    """What a Rust extension raises."""


@pytest.mark.parametrize("error", [Panic("deep inside"), SystemExit(3)])
async def test_whatever_a_stage_raises_ends_its_own_turn_alone(autojump_clock, caplog, error):
    @module
    async def raises(text: str) -> str:
        if text == "bad":
            raise error
        return text

    async with raises.open() as service, service.session("ann") as ann, service.session("bob") as bob:
        events = await events_of(ann.turn("bad"))
        assert [(event.type, event.stage) for event in events[1:]] == [("error", "raises"), ("turn.ended", None)]
        assert events[1].error.name == type(error).__name__
        assert shape(await events_of(bob.turn("good"))) == shape(await events_of(ann.turn("good")))
    with pytest.raises(TurnFailed):
        await raises.collect(["bad"])


async def test_a_turn_that_waits_for_the_one_before_is_interrupted_with_it(nursery, autojump_clock):
    @module
    async def slow_to_leave(text: str, turn: Turn) -> str:
        try:
            await trio.sleep(10)
        finally:
            with turn.cleanup():
                await trio.sleep(1)
        return text

    told: list[list[str | None]] = [[], []]
    async with slow_to_leave.open() as service, service.session("ann") as session:

        async def ask(number: int) -> None:
            told[number] += [event.reason async for event in session.turn(str(number))]

        for number in (0, 1):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        assert await session.interrupt() == 1
        await trio.testing.wait_all_tasks_blocked()
        assert told == [[None, "interrupted"], [None, "interrupted"]]
        assert trio.current_time() < 5


async def test_a_turn_that_is_interrupted_says_so_though_its_time_runs_out_meanwhile(autojump_clock):
    @module
    async def slow_to_leave(text: str, turn: Turn) -> str:
        try:
            await trio.sleep(10)
        finally:
            with turn.cleanup():
                await trio.sleep(1)
        return text

    async with slow_to_leave.open(turn_s=0.5) as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await trio.sleep(0.3)
            await session.interrupt()
            assert [event.reason async for event in turn][-1] == "interrupted"
        async with session.live() as live:  # and one whose time has run out is not saved by what comes then
            await live.send("x")
            await trio.sleep(0.7)
            live.played(0, 1.0)
            assert [event.reason async for event in live][-1] == "timeout"


async def test_as_many_hold_a_session_as_may(autojump_clock):
    async with upper.open(max_holders=2) as service, service.session("ann"):
        async with service.session("ann"):
            with pytest.raises(SessionBusy, match="'ann' has as many requests under way"):
                async with service.session("ann"):
                    raise AssertionError("it was let in")
            async with service.session("bob") as other:
                assert shape(await events_of(other.turn("x")))[-1] == "turn.ended"
        async with service.session("ann") as again:
            assert shape(await events_of(again.turn("x")))[-1] == "turn.ended"


async def test_an_item_that_takes_too_long_is_an_error_of_its_stage(autojump_clock):
    async with timeout(Pause(5.0), 1.0).open() as service, service.session("ann") as session:
        events = await events_of(session.turn("x"))
    assert [(event.type, event.stage, event.reason) for event in events[1:]] == [
        ("error", "pause", None),
        ("turn.ended", None, "error"),
    ]
    assert events[1].error == Fault("StageTimeout", "pause took longer than 1 s.")


def swallower(seconds: float) -> Module[str, str]:
    @module
    class Swallow(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
            return text

    return Swallow()


async def test_a_stage_that_swallows_its_cancellation_is_named(autojump_clock, caplog):
    flow = upper >> swallower(30.0)
    async with flow.open(cleanup_s=2.0) as service, service.session("ann") as session:
        turn = session.turn("a")
        await anext(turn)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(StageStuck, match="swallow did not leave within 3 s of being cancelled") as caught:
            await events_of(session.turn("b"))
        assert caught.value.stages == ("swallow",)
        with pytest.raises(StageStuck):  # who comes later waits no more for it
            await session.interrupt()
        assert trio.current_time() == began + 3.0
        assert caplog.text.count("user 'ann', turn 1: swallow did not leave") == 1
        await trio.sleep(30)
        assert [event.reason for event in await events_of(turn)] == ["interrupted"]
        next_turn = session.turn("c", entry=0)
        assert (await anext(next_turn)).turn == 2  # once it has left, the session goes on
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StageStuck):
            await next_turn.aclose()


async def test_a_stuck_stage_of_one_user_does_not_end_the_others(autojump_clock):
    """The session of the stuck stage is given up; the service, and whoever else is served, goes on."""
    flow = upper >> swallower(30.0)
    async with flow.open(cleanup_s=2.0) as service, service.session("bob") as bob:
        with pytest.raises(StageStuck):
            async with service.session("ann") as ann, ann.turn("a") as turn:
                await anext(turn)
                await trio.testing.wait_all_tasks_blocked()
        assert "ann" not in service.sessions
        await trio.sleep(60)
        await anext(bob.turn("x"))
        async with service.session("ann") as ann:
            assert (await anext(ann.turn("a"))).turn == 1


async def test_a_session_whose_stage_does_not_leave_is_kept_until_there_is_room_for_another(autojump_clock):
    flow = upper >> swallower(1000.0)
    async with flow.open(cleanup_s=2.0, max_sessions=2) as service, service.session("ann") as ann:
        async with service.session("bob"):
            turn = ann.turn("a")
            await anext(turn)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StageStuck):
                await turn.aclose()
            for _ in range(2):
                async with service.session("ann") as again:
                    assert again.place is ann.place
                    with pytest.raises(StageStuck, match="swallow did not leave"):
                        await anext(again.turn("b"))
        async with service.session("ann") as other:
            assert other.place is not ann.place


async def test_what_an_interrupted_stage_raises_is_still_told(autojump_clock, caplog):
    @module
    class Sulk(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise ValueError("how dare you") from None
            return text

    async with Sulk().open() as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await anext(turn)
            await trio.testing.wait_all_tasks_blocked()
        events = await events_of(turn)
        assert shape(events) == ["error", "turn.ended"]
        assert events[0].stage == "sulk"
        assert "how dare you" in caplog.text


# ---- the session itself


async def test_a_session_that_has_ended_takes_no_turn(autojump_clock):
    async with upper.open() as service:
        async with service.session("ann") as session:
            pass
        with pytest.raises(TurnClosedError, match="the session of 'ann' is over"):
            await events_of(session.turn("x"))


async def test_leaving_a_session_ends_its_turn(autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 1.0).open() as service:
        async with service.session("ann") as session:
            turn = session.turn("a")
            await anext(turn)
            await anext(turn)
        assert witness.present == 0
        assert service.sessions == {}
        assert [event.reason for event in await events_of(turn)] == ["interrupted"]


async def test_cancelling_the_client_ends_its_turn(autojump_clock):
    witness = Witness()
    async with slow_to_leave(witness, 1.0).open() as service:
        with trio.move_on_after(5):
            async with service.session("ann") as session, session.turn("a") as turn:
                await events_of(turn)
        assert witness.present == 0


async def test_who_leaves_a_session_does_not_wait_for_one_who_comes(autojump_clock):
    """One task leaves a user's session in the very moment in which another one takes it up."""
    for _ in range(50):
        async with upper.open() as service:
            left: list[float] = []

            async def brief(service=service, left=left) -> None:
                async with service.session("ann"):
                    await trio.sleep(1)
                left.append(trio.current_time())

            async def long(service=service) -> None:
                await trio.sleep(1)
                async with service.session("ann") as session:
                    assert isinstance(session, Session)
                    await trio.sleep(10)

            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                nursery.start_soon(brief)
                nursery.start_soon(long)
            assert left == [began + 1]
