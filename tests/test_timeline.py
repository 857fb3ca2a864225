"""ezflow/timeline.py: what a turn's stages are doing, for a client that asks."""

from collections.abc import AsyncIterator
from typing import Any

import trio

from ezflow import Latest, Module, Turn, module
from ezflow.testing import Failing, FakeLLM, Pause


@module
class Words(Module[str, str]):
    """A text's words, one each `each_s`."""

    each_s: float = 0.02

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        for word in text.split():
            await trio.sleep(self.each_s)
            yield word


@module
class Slow(Module[str, str]):
    """Gives words on, one of them after a second."""

    word: str

    async def process(self, text: str, turn: Turn) -> str:
        await trio.sleep(text == self.word)
        return text


def told(events: list[Any], stage: str) -> list[tuple[float, str]]:
    """What was said of a stage, by the time at which it began."""
    return [(round(e.t, 2), e.item) for e in events if e.type == "stage" and e.stage == stage]


async def one_turn(flow: Any, item: str, **how: Any) -> list[Any]:
    async with flow.open() as service, service.session("ann") as session:
        return [event async for event in session.turn(item, **how)]


async def test_only_who_asks_is_told(autojump_clock):
    events = await one_turn(Pause(1.0), "hello")
    assert [event.type for event in events] == ["turn.started", "text", "turn.ended"]


async def test_a_stage_waits_works_gives_and_is_done(autojump_clock):
    events = await one_turn(Pause(1.0) >> FakeLLM(reply="yes", first_s=0.5), "hello", timeline=True)
    assert told(events, "pause") == [(0, "waiting"), (0, "working"), (1, "first"), (1, "waiting"), (1, "done")]
    assert told(events, "fake_llm") == [(0, "waiting"), (1, "working"), (1.5, "first"), (1.5, "waiting"), (1.5, "done")]


async def test_a_stage_that_is_quick_with_each_item_is_not_told_at_each(autojump_clock):
    events = await one_turn(Words() >> Pause(0.0), "one two three four", timeline=True)
    assert told(events, "pause") == [
        (0, "waiting"),
        (0.02, "working"),
        (0.02, "first"),
        (0.02, "waiting"),
        (0.08, "done"),
    ]


async def test_a_quick_stage_that_is_slow_for_once_is_told_of(autojump_clock):
    events = await one_turn(Words() >> Slow("three"), "one two three four", timeline=True)
    assert told(events, "slow")[3:6] == [(0.02, "waiting"), (0.06, "working"), (1.06, "first")]


async def test_after_a_long_wait_a_quick_stage_is_told_of_again(autojump_clock):
    events = await one_turn(Words(0.5) >> Pause(0.0), "one two", timeline=True)
    assert told(events, "pause") == [
        (0, "waiting"),
        (0.5, "working"),
        (0.5, "first"),
        (0.5, "waiting"),
        (1.0, "working"),
        (1.0, "first"),
        (1.0, "waiting"),
        (1.0, "done"),
    ]


async def test_a_stage_that_has_no_room_is_blocked(autojump_clock):
    flow = Words(0.0) >> Pause(1.0)
    async with flow.open(capacity=0) as service, service.session("ann") as session:
        events = [event async for event in session.turn("one two three", timeline=True)]
    assert [doing for _, doing in told(events, "words")].count("blocked") == 2
    assert (0, "blocked") in told(events, "words")


async def test_a_stage_that_fails_is_told_as_failed(autojump_clock):
    events = await one_turn(Pause(0.2) >> Failing(), "hello", timeline=True)
    assert told(events, "failing")[-1] == (0.2, "failed")
    assert told(events, "pause")[-1][1] == "done"
    assert [event.type for event in events[-2:]] == ["error", "turn.ended"]


async def test_each_run_has_lanes_of_its_own_and_an_interrupted_one_says_nothing_more(autojump_clock):
    flow = Latest(Pause(1.0) >> FakeLLM())
    async with flow.open() as service, service.session("ann") as session, session.live(timeline=True) as live:
        await live.send("first")
        await trio.sleep(0.5)
        await live.send("second")
        await live.end()
        events = [event async for event in live]
    runs = [event.run for event in events if event.type == "stage" and event.stage == "pause"]
    assert set(runs) == {1, 2}
    interrupted = next(place for place, event in enumerate(events) if event.type == "interrupted")
    assert not [event for event in events[interrupted:] if event.run == 1 and event.type != "interrupted"]
    assert [event.seq for event in events] == list(range(len(events)))


async def test_a_client_that_reads_nothing_is_told_little(autojump_clock):
    flow = Words(0.2) >> Pause(0.0)
    async with flow.open(ear=4) as service, service.session("ann") as session:
        async with session.turn("a b c d e f g h", timeline=True) as turn:
            await trio.sleep(60)
            held = [await anext(turn) for _ in range(4)]
            rest = [event async for event in turn]
    texts = [event.item for event in [*held, *rest] if event.type == "text"]
    assert texts == ["a", "b", "c", "d", "e", "f", "g", "h"]
    assert (held + rest)[-1].reason == "done"
