"""Entries addressed in mid-turn, and what was heard of an interrupted answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from ezflow import (
    Audio,
    EntryError,
    ItemTypeError,
    Latest,
    Module,
    Turn,
    TurnClosedError,
    fallback,
    module,
    ordered,
    race,
    retry,
    route,
    timeout,
)
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause


def sound(text: str) -> Audio:
    return Audio(bytes(640), 16_000, text=text)


@module
class Marks(Module[str, str]):
    """Adds its mark, so that a text tells which stages it went through."""

    mark: str

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text + self.mark


a, b, c, d = (Marks(mark).named(mark) for mark in "abcd")


async def through(flow, *inputs: tuple[str, str | int | None], outputs: int) -> list[str]:
    """What comes out of a live turn for (text, entry) one after the other, each awaited."""
    came: list[str] = []
    async with flow.open() as service, service.session("ann") as session, session.live() as turn:
        for text, entry in inputs:
            await turn.send(text, entry)
            while len(came) < outputs * (inputs.index((text, entry)) + 1):
                event = await anext(turn)
                if event.type == "text":
                    came.append(event.item)
        await turn.end()
        assert [event.reason async for event in turn][-1] == "done"
    return came


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (a >> b >> c, ["-abc", "-bc", "-c"]),
        (a >> Latest(b >> c), ["-abc", "-bc", "-c"]),
        (Latest(a >> b) >> c, ["-abc", "-bc", "-c"]),
        (a >> ordered(b >> c, 2), ["-abc", "-bc", "-c"]),
        (a >> Latest(ordered(b >> c, 2)), ["-abc", "-bc", "-c"]),
    ],
    ids=repr,
)
async def test_an_item_enters_a_live_turn_at_any_stage(flow, expected, autojump_clock):
    with trio.fail_after(5):
        assert await through(flow, ("-", None), ("-", "b"), ("-", 2), outputs=1) == expected


@pytest.mark.parametrize("around", [Latest, lambda f: fallback(f, d), lambda f: ordered(f, 1), lambda f: retry(f, 1)])
@pytest.mark.parametrize("capacity", [0, 16])
async def test_a_combinator_that_is_all_of_a_live_turn_is_through_with_an_item_before_its_input_ends(
    around, capacity, autojump_clock
):
    flow = a >> around(b >> c)
    for entry, expected in ((0, "-abc"), (1, "-bc")):  # entered at 1, the flow is the combinator alone
        async with flow.open(capacity=capacity) as service, service.session("ann") as session:
            async with session.live(entry=entry) as turn:
                events = [await anext(turn)]
                for _ in range(3):
                    with trio.fail_after(5):
                        await turn.send("-")
                        events.append(await anext(turn))
                    await trio.testing.wait_all_tasks_blocked()
                assert [event.item for event in events[1:]] == 3 * [expected]


async def test_an_entry_inside_a_branch_runs_that_branch_and_what_follows(autojump_clock):
    flow = a >> route(len, {2: b >> c, 3: c.named("c2") >> d.named("d2")}) >> d
    with trio.fail_after(5):
        assert await through(flow, ("-", "c"), ("-", "d2"), ("-", "d"), outputs=1) == ["-cd", "-dd", "-d"]


async def test_text_entered_into_latest_interrupts_the_spoken_answer(autojump_clock):
    flow = FakeVAD() >> Latest(FakeASR() >> FakeLLM("{} one two three", each_s=1.0).shown() >> FakeTTS())
    async with flow.open() as service, service.session("ann") as session, session.live() as turn:
        await turn.send(sound("spoken"))
        await turn.send(sound(""))
        seen = []
        async for event in turn:
            seen.append((event.type, event.run, event.item if event.type == "text" else None))
            if seen[-1] == ("text", 1, " one"):
                await turn.send("typed", entry="fake_llm")
                await turn.end()
        assert ("interrupted", 1, None) in seen
        after = seen[seen.index(("interrupted", 1, None)) + 1 :]
        assert "".join(item for kind, run, item in after if kind == "text") == "typed one two three"
        assert {run for kind, run, _ in after if kind != "turn.ended"} == {2}


async def test_a_wrong_entry_or_type_is_refused_and_the_turn_goes_on(autojump_clock):
    flow = FakeVAD() >> Latest(FakeASR() >> FakeLLM("{}"))
    async with flow.open() as service, service.session("ann") as session, session.live(entry=1) as turn:
        with pytest.raises(EntryError):
            await turn.send("x", entry="nobody")
        with pytest.raises(EntryError):
            await turn.send(sound("x"), entry="fake_vad")  # this turn began behind it
        with pytest.raises(ItemTypeError):
            await turn.send(5, entry="fake_llm")
        await turn.send("fine", entry=2)
        await turn.end()
        assert "fine" in [event.item async for event in turn]


async def test_an_entry_into_a_turn_that_is_over_is_refused(autojump_clock):
    async with (a >> b).open() as service, service.session("ann") as session:
        turn = session.live()
        async with turn:
            await turn.send("-")
        with pytest.raises(TurnClosedError):
            await turn.send("-", entry="b")


async def barge_in(reports: list[tuple[int, float]], at_s: float) -> tuple[list[str], list[tuple[str, bool]]]:
    """A spoken answer of one sound, 18 characters and 1.8 s, of which the listener reports hearing some."""
    flow = FakeVAD() >> Latest(FakeASR() >> Remembers() >> FakeTTS(char_s=0.1))
    async with flow.open() as service, service.session("ann") as session, session.live() as turn:
        await turn.send(sound("hello"))
        await turn.send(sound(""))
        types = []
        async for event in turn:
            types.append(event.type)
            if types.count("audio") == 1 and event.type == "audio":
                for share, ms in reports:
                    turn.played(event.seq + share, ms)
                await trio.sleep(at_s)
                await turn.send(sound("stop"))
                await turn.end()
        return types, [(m.content, m.cut) for m in session.history.messages if m.role == "assistant"]


@module
class Remembers(Module[str, str]):
    """Answers in one piece."""

    async def process(self, text: str, turn: Turn) -> str:
        turn.remember(text)
        return "one two three four"


async def test_speech_over_sound_that_is_still_played_interrupts_it(autojump_clock):
    types, remembered = await barge_in([], at_s=1.0)
    assert types.index("interrupted") > types.index("audio")
    assert remembered[0] == ("one two three four", True)  # nobody said what was heard: all was sent


async def test_speech_after_the_sound_was_played_is_no_interruption(autojump_clock):
    types, remembered = await barge_in([], at_s=2.0)
    assert "interrupted" not in types
    assert remembered[0] == ("one two three four", False)


async def test_a_report_that_all_was_played_ends_the_playing(autojump_clock):
    types, remembered = await barge_in([(0, 900.0), (0, 1800.0)], at_s=0.5)
    assert "interrupted" not in types
    assert remembered[0] == ("one two three four", False)


async def test_an_interrupted_answer_is_remembered_as_far_as_it_was_heard(autojump_clock):
    types, remembered = await barge_in([(0, 900.0)], at_s=1.0)
    assert "interrupted" in types
    assert remembered[0] == ("one two", True)


async def test_a_report_on_another_event_or_turn_changes_nothing(autojump_clock):
    _, remembered = await barge_in([(7, 900.0)], at_s=1.0)
    assert remembered[0] == ("one two three four", True)


@pytest.mark.parametrize(
    "each",
    [
        lambda flow: ordered(flow, 1),
        lambda flow: retry(flow, 2),
        lambda flow: timeout(flow, 60.0),
        lambda flow: fallback(flow, Pause(0.0)),
        lambda flow: race(flow, Pause(9.0)),
    ],
)
async def test_a_live_turn_whose_flow_is_a_combinator_answers_each_item_when_it_comes(each, autojump_clock):
    async with each(Pause(0.0) >> Pause(0.0)).open() as service, service.session("ann") as session:
        async with session.live() as live:
            texts = (event.item async for event in live if event.type == "text")
            for text in "abc":
                await live.send(text)
                with trio.fail_after(5):
                    assert await anext(texts) == text
            await texts.aclose()


async def test_a_run_of_latest_that_is_done_and_heard_is_not_interrupted_by_the_next(autojump_clock):
    async with Latest(Pause(0.0) >> Pause(0.0)).open() as service, service.session("ann") as session:
        async with session.live() as live:
            events = []
            for text in "ab":
                await live.send(text)
                while not (events and events[-1].item == text):
                    events.append(await anext(live))
                await trio.testing.wait_all_tasks_blocked()
    assert "interrupted" not in [event.type for event in events]
