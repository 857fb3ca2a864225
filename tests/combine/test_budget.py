"""budget: an item has so long until its first reply, and in all; who was late is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from typing import Any

import pytest
import trio
from standins import Add, Breaks, Endless, Log, Module, Repeat, Silent, Sleepy, Take, Turn, items, module, timeline
from steps import at_step

from ezflow import (
    Audio,
    BudgetExceeded,
    Event,
    Flow,
    Inbox,
    Latest,
    Outbox,
    Progress,
    StageTimeout,
    Transcript,
    Utterance,
    batch,
    fallback,
    ordered,
    race,
    retry,
    timeout,
)
from ezflow.channels import every_step
from ezflow.instrument import Instrument
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD


async def turn_of(flow: Flow[Any, Any], item: Any, entry: int | str = 0, **limits: Any) -> list[Event]:
    async with flow.open(**limits) as service, service.session("ann") as session:
        return [event async for event in session.turn(item, entry=entry)]


def ends(events: list[Event]) -> list[tuple[float, Any, Any]]:
    """The errors, and how the turn ended."""
    return [
        (round(e.t, 3), e.stage, e.error.message if e.error else e.reason)
        for e in events
        if e.type in ("error", "turn.ended")
    ]


def sound(text: str = "hi") -> Audio:
    return Audio(b"", 16_000, text=text)


def voice(asr_s: float = 0.1, llm_s: float = 0.1, tts_s: float = 0.1) -> Flow[Audio | Utterance, Audio]:
    return FakeASR(asr_s) >> FakeLLM("one", llm_s) >> FakeTTS(tts_s)


# ---- the first reply


async def test_a_first_reply_in_time_passes(autojump_clock):
    events = await turn_of(voice().budget(first_reply_s=0.4), sound())
    assert [event.type for event in events] == ["turn.started", "transcript", "audio", "turn.ended"]
    assert events[-1].reason == "done"


@pytest.mark.parametrize(
    ("late", "stage", "story"),
    [
        ({"asr_s": 2}, "fake_asr", "fake_asr has given nothing"),
        ({"llm_s": 2}, "fake_llm", "fake_asr's first output came after 0.10 s, fake_llm has given nothing"),
        (
            {"tts_s": 2},
            "fake_tts",
            "fake_asr's first output came after 0.10 s, fake_llm's first output came after 0.20 s, "
            "fake_tts has given nothing",
        ),
    ],
)
async def test_the_stage_that_is_late_is_named_and_where_the_time_went(autojump_clock, late, stage, story):
    events = await turn_of(voice(**late).budget(first_reply_s=1.2), sound())
    assert ends(events) == [(1.2, stage, f"no reply within 1.2 s: {story}."), (1.2, None, "timeout")]


async def test_the_error_keeps_its_facts(autojump_clock):
    with pytest.RaisesGroup(BudgetExceeded) as failed:
        await voice(llm_s=5).budget(first_reply_s=1, total_s=9).collect([sound()])
    (error,) = failed.value.exceptions
    assert (error.flow, error.seconds, error.limit) == ("fake_asr >> fake_llm >> fake_tts", 1, "first_reply_s")
    assert (error.stage, error.first_s) == ("fake_llm", {"fake_asr": 0.1, "fake_llm": None})
    assert isinstance(error, StageTimeout)
    assert error.__notes__ == ["in stage 'fake_llm'"]


async def test_the_first_text_that_the_client_is_told_is_a_reply(autojump_clock):
    flow = (FakeLLM("one", 1).shown() >> FakeTTS(5)).budget(first_reply_s=1.5)
    assert ends(await turn_of(flow, "x")) == [(6, None, "done")]


async def test_an_output_given_onward_is_a_reply(autojump_clock):
    flow = FakeLLM("one two", 1, 5).budget(first_reply_s=1.5) >> FakeTTS(5)
    assert ends(await turn_of(flow, "x"))[-1][2] == "done"


@pytest.mark.parametrize(
    ("said", "is_reply"), [("Hm.", True), (sound(), True), (Progress("..."), False), (Transcript("hi"), False)]
)
async def test_what_is_told_on_the_way_is_a_reply_if_it_can_be_heard(autojump_clock, said, is_reply):
    @module
    class Mutters(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            await turn.reply(said)
            await trio.sleep(3)
            return text

    events = await turn_of(Mutters().budget(first_reply_s=1), "x")
    assert events[-1].reason == ("done" if is_reply else "timeout")


async def test_who_feeds_a_stage_slowly_is_late_and_not_who_is_fed(autojump_clock):
    @module
    class Three(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            texts = [await inbox.receive() for _ in range(3)]
            await outbox.send("".join(texts))

    flow = (FakeLLM("a b c", 0.5, 0.5) >> Three() >> FakeTTS()).budget(first_reply_s=1.2)
    assert ends(await turn_of(flow, "x"))[0] == (
        1.2,
        "fake_llm",
        "no reply within 1.2 s: fake_llm's first output came after 0.50 s, three has given nothing, "
        "fake_llm was at work.",
    )


async def test_whom_a_stage_asks_is_named(autojump_clock):
    @module
    class Asks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            turn.awaits = "Oracle at http://127.0.0.1:9"
            await trio.sleep(0 if text == "soon" else 5)
            return text

    flow = (Asks() >> FakeTTS(2)).budget(first_reply_s=1)
    told = "asks has given nothing, asks waits for Oracle at http://127.0.0.1:9."
    assert ends(await turn_of(flow, "x"))[0] == (1, "asks", f"no reply within 1 s: {told}")
    assert "Oracle" not in ends(await turn_of(flow, "soon"))[0][2]


# ---- the whole


async def test_once_there_is_a_reply_only_the_whole_counts(autojump_clock):
    flow = FakeLLM("a b c d", 0.5, 1.0).budget(first_reply_s=1, total_s=2.2)
    events = await turn_of(flow, "x")
    assert [event.item for event in events if event.item] == ["a", " b"]
    told = "not done within 2.2 s: fake_llm's first output came after 0.50 s, fake_llm was at work."
    assert ends(events) == [(2.2, "fake_llm", told), (2.2, None, "timeout")]


async def test_without_a_whole_it_may_take_as_long_as_it_likes(autojump_clock):
    assert (await turn_of(FakeLLM("a b c", 0.5, 100).budget(first_reply_s=1), "x"))[-1].reason == "done"


async def test_without_a_first_reply_only_the_whole_counts(autojump_clock):
    flow = voice(llm_s=2).budget(total_s=3)
    assert (await turn_of(flow, sound()))[-1].reason == "done"
    assert (await turn_of(flow, "x", entry="fake_llm"))[-1].reason == "done"
    assert (await turn_of(voice(llm_s=2, tts_s=2).budget(total_s=3), sound()))[-1].reason == "timeout"


async def test_of_the_stages_at_work_the_first_keeps_the_whole_from_being_done(autojump_clock):
    flow = (FakeLLM("a b c d", 0.5, 1.0) >> FakeTTS(0.8)).budget(total_s=2)
    assert ends(await turn_of(flow, "x"))[0][1] == "fake_llm"
    flow = (FakeLLM("a b c d", 0.5, 0.0) >> FakeTTS(0.8)).budget(total_s=2)
    assert ends(await turn_of(flow, "x"))[0][1] == "fake_tts"


async def test_a_stage_that_gives_nothing_is_done_in_time(autojump_clock):
    assert await (Silent(0.5) >> Add()).budget(first_reply_s=1).collect([1]) == []


async def test_the_stages_have_left_before_the_error_goes_on(autojump_clock):
    log = Log()

    @module
    class Tidy(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> int:
            try:
                await trio.sleep_forever()
            finally:
                with turn.cleanup():
                    await trio.sleep(1)
                    await turn.reply("goodbye")  # too late to be the reply that was waited for
                log.add("tidied")
            return item

    events = await turn_of(Tidy().budget(first_reply_s=2), 1)
    assert log.entries == [(3, "tidied")]
    assert ends(events)[0] == (3, "tidy", "no reply within 2 s: tidy has given nothing.")


async def test_an_item_that_fails_by_itself_fails_as_ever(autojump_clock):
    events = await turn_of(Breaks(seconds=0.5).budget(first_reply_s=1), 1)
    assert ends(events) == [(0.5, "breaks", "broken at 1"), (0.5, None, "error")]


async def test_a_turn_that_only_budgets_have_failed_ends_as_timeout(autojump_clock):
    events = await turn_of(race(Sleepy().budget(total_s=1), Sleepy().budget(total_s=2)), 5)
    assert ends(events) == [
        (2, "sleepy", "not done within 1 s: sleepy has given nothing."),
        (2, "sleepy_2", "not done within 2 s: sleepy_2 has given nothing."),
        (2, None, "timeout"),
    ]


async def test_a_turn_that_something_else_has_failed_too_ends_as_an_error(autojump_clock):
    events = await turn_of(race(Sleepy().budget(total_s=1), Breaks()), 5)
    assert [event.error.name for event in events if event.error] == ["BudgetExceeded", "ValueError"]
    assert events[-1].reason == "error"


# ---- what counts


async def test_waiting_for_an_item_takes_no_time_and_each_has_its_own(autojump_clock):
    flow = Sleepy().budget(total_s=2)
    assert items(await timeline(flow, [(100, 1), (200, 1), (200, 1)])) == [(101, 1), (201, 1), (202, 1)]


async def test_a_client_that_is_slow_takes_none_of_it(autojump_clock):
    flow = FakeLLM("a b c d e f", 0.1, 0.1).budget(first_reply_s=0.2, total_s=1)
    async with flow.open(ear=1) as service, service.session("ann") as session:
        events: list[Event] = []
        async for event in session.turn("x"):
            events.append(event)
            await trio.sleep(5)
    assert events[-1].reason == "done"
    assert trio.current_time() > 30


async def test_time_runs_on_once_the_slow_client_has_taken(autojump_clock):
    flow = FakeLLM("a b c d e f", 0.1, 0.4).budget(total_s=1)
    async with flow.open(ear=1) as service, service.session("ann") as session:
        events: list[Event] = []
        async for event in session.turn("x"):
            events.append(event)
            await trio.sleep(5)
    assert ends(events)[-1][2] == "timeout"
    assert "first output came after 0.10 s" in ends(events)[0][2]


async def test_a_next_stage_that_is_slow_takes_none_of_it(autojump_clock):
    assert await (Repeat(4).budget(total_s=1) >> Sleepy()).collect([3], capacity=0) == [3, 3, 3, 3]


async def test_of_an_utterance_the_time_counts_from_the_end_of_the_speech(autojump_clock):
    live = FakeVAD() >> Latest(voice(llm_s=1.0).budget(first_reply_s=1.5))
    async with live.open() as service, service.session("ann") as session, session.live() as turn:
        for _ in range(10):
            await turn.send(sound("so"))
            await trio.sleep(1)
        await turn.send(sound(""))
        await turn.end()
        events = [event async for event in turn]
    assert events[-1].reason == "done"
    late = FakeVAD() >> Latest(voice(llm_s=2.0).budget(first_reply_s=1.5))
    async with late.open() as service, service.session("ann") as session, session.live() as turn:
        await turn.send(sound("so"))
        await trio.sleep(10)
        await turn.send(sound(""))
        await turn.end()
        events = [event async for event in turn]
    told = "no reply within 1.5 s: fake_asr's first output came after 0.10 s, fake_llm has given nothing."
    assert ends(events) == [(11.5, "fake_llm", told), (11.5, None, "timeout")]


async def test_a_flow_that_is_done_before_the_speech_is_waits_for_nothing(autojump_clock):
    @module
    def notices(speech: Utterance) -> str:
        return "speech"

    assert await notices.budget(total_s=1).collect([Utterance()]) == ["speech"]


# ---- taking over


async def test_fallback_takes_over_when_the_first_reply_is_late(autojump_clock, caplog):
    flow = fallback(FakeLLM("slow", 5).budget(first_reply_s=1), FakeLLM("fast")).shown() >> FakeTTS()
    events = await turn_of(flow, "x")
    assert [(event.t, event.item) for event in events if event.type == "text"] == [(1, "fast")]
    assert events[-1].reason == "done"
    assert "no reply within 1 s: fake_llm has given nothing." in caplog.text


async def test_fallback_does_not_take_over_what_has_been_heard(autojump_clock):
    flow = fallback(FakeLLM("a b", 0.5, 5).budget(first_reply_s=1, total_s=2), FakeLLM("fast"))
    events = await turn_of(flow, "x")
    assert [event.item for event in events if event.type == "text"] == ["a"]
    assert events[-1].reason == "timeout"


async def test_a_fallback_inside_has_what_is_left(autojump_clock):
    flow = fallback(Sleepy().budget(total_s=1), Add(10, 0.5)).budget(total_s=2)
    assert await flow.collect([5]) == [15]
    flow = fallback(Sleepy().budget(total_s=1), Add(10, 5)).budget(total_s=2)
    told = "not done within 2 s: sleepy has given nothing, add has given nothing."
    assert ends(await turn_of(flow, 5)) == [(2, "add", told), (2, None, "timeout")]


async def test_retry_tries_again_and_each_attempt_has_its_own_time(autojump_clock):
    log = Log()
    events = await turn_of(retry(Sleepy(log).budget(first_reply_s=1), 3, 0.5), 5)
    assert log.entries == [(1, "5 cancelled"), (2.5, "5 cancelled"), (4.5, "5 cancelled")]
    assert ends(events)[-1] == (4.5, None, "timeout")


async def test_in_a_race_who_exceeds_its_budget_is_out(autojump_clock):
    assert await race(Sleepy().budget(first_reply_s=1), Add(10, 2)).collect([5]) == [15]
    assert trio.current_time() == 2


async def test_each_run_of_latest_has_its_own_budget(autojump_clock):
    flow = Latest(Sleepy().budget(first_reply_s=3))
    assert items(await timeline(flow, [(0, 5), (2, 2), (5, 2)])) == [(4, 2), (7, 2)]
    events = await timeline(flow, [(0, 5), (2, 9)])
    assert ends(events) == [(5, "sleepy", "no reply within 3 s: sleepy has given nothing."), (5, None, "timeout")]


async def test_around_latest_it_holds_for_the_item(autojump_clock):
    assert ends(await turn_of(Latest(Sleepy()).budget(total_s=3), 5))[-1] == (3, None, "timeout")


@pytest.mark.parametrize(("inner", "outer", "at", "limit_s"), [(1, 2, 1, 1), (2, 1, 1, 1)])
async def test_of_nested_budgets_the_nearest_ends_it(autojump_clock, inner, outer, at, limit_s):
    events = await turn_of((Add() >> Sleepy().budget(total_s=inner)).budget(total_s=outer), 5)
    assert [(t, stage) for t, stage, _ in ends(events)] == [(at, "sleepy"), (at, None)]
    assert f"within {limit_s} s" in ends(events)[0][2]


@pytest.mark.parametrize("seconds", [1, 3])
async def test_with_a_timeout_the_nearest_ends_it(autojump_clock, seconds):
    events = await turn_of(timeout(Sleepy(), seconds).budget(total_s=2), 5)
    assert (events[-2].error.name, events[-1].t) == (("StageTimeout", 1) if seconds == 1 else ("BudgetExceeded", 2))


async def test_it_works_around_and_inside_of_ordered(autojump_clock):
    assert await ordered(Sleepy().budget(total_s=4), 2).collect([3, 1, 2]) == [3, 1, 2]
    assert await ordered(Sleepy(), 2).budget(total_s=4).collect([3, 1, 2]) == [3, 1, 2]
    assert ends(await turn_of(ordered(Sleepy(), 2).budget(total_s=4), 5))[-1] == (4, None, "timeout")


async def test_an_item_may_enter_in_the_middle(autojump_clock):
    flow = FakeVAD() >> Latest(voice(llm_s=2).budget(first_reply_s=1))
    async with flow.open() as service, service.session("ann") as session, session.live() as live:
        await live.send("typed", entry="fake_llm")
        events = [event async for event in live]
    assert ends(events)[0] == (1, "fake_llm", "no reply within 1 s: fake_llm has given nothing.")
    assert ends(await turn_of(voice(tts_s=2).budget(first_reply_s=1), "x", entry=2))[0][1] == "fake_tts"


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> Add().budget(total_s=9) >> Take(2)).collect([5], capacity=capacity) == [5, 6]


# ---- the time as a stage sees it


async def test_a_stage_can_read_how_long_it_has(autojump_clock):
    seen: list[float] = []

    @module
    class Reads(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
            seen.append(turn.deadline - trio.current_time())
            yield item
            seen.append(turn.deadline - trio.current_time())

    flow = Reads()
    await flow.collect([1])
    await flow.budget(first_reply_s=2, total_s=5).collect([1])
    await timeout(flow.budget(first_reply_s=2, total_s=5), 3).collect([1])
    await flow.budget(total_s=5).budget(total_s=4).collect([1])
    await flow.collect([1], turn_s=7)
    assert seen == [inf, inf, 2, 5, 2, 3, 4, 4, 7, 7]


async def test_a_blocking_module_can_read_how_long_it_has():
    seen: list[float] = []

    @module(blocking=True)
    def reads(item: int, turn: Turn) -> int:
        seen.append(trio.from_thread.run_sync(lambda: turn.deadline - trio.current_time()))
        return item

    await reads.budget(total_s=100).collect([1])
    assert 90 < seen[0] <= 100


@pytest.mark.parametrize("attempt", range(20))
async def test_where_a_limit_of_the_modules_own_falls_on_the_same_moment_the_budget_is_told(autojump_clock, attempt):
    """Each time, whatever order the tasks come in: both scopes are cancelled before any task runs."""

    @module
    class Asks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            turn.awaits = "Oracle"
            with trio.fail_after(1):
                await trio.sleep_forever()
            return text

    told = "no reply within 1 s: asks has given nothing, asks waits for Oracle."
    assert ends(await turn_of(Asks().budget(first_reply_s=1), "x")) == [(1, "asks", told), (1, None, "timeout")]


async def test_the_instruments_of_the_service_hear_as_ever(autojump_clock):
    heard: list[tuple[str, object]] = []

    class Hears(Instrument):
        def item_out(self, turn: Any, stage: str, item: object) -> None:
            heard.append((stage, item))

    await (Add(1) >> Add(2)).budget(total_s=1).collect([1], instruments=(Hears(),))
    assert heard == [("add", 2), ("add_2", 4)]


# ---- cancelled, or out of time, at every step


async def test_cancelled_at_any_step_it_leaves_nothing_and_the_next_turn_works(autojump_clock):
    inner = (FakeASR(0.1) >> FakeLLM("one two", 0.2, 0.1).shown() >> FakeTTS(0.1)).budget(first_reply_s=1, total_s=2)
    flow = FakeVAD() >> Latest(fallback(inner, FakeASR() >> FakeTTS()))

    async def talk(session: Any) -> list[Event]:
        async with session.live() as live:
            await live.send(sound("hello"))
            await trio.sleep(0.1)
            await live.send(sound(""))
            await live.end()
            return [event async for event in live]

    with every_step():
        async with flow.open(capacity=1, ear=1) as service, service.session("ann") as session:
            with at_step(0, lambda: None) as steps:
                assert (await talk(session))[-1].reason == "done"
            assert steps.count > 50
            for step in range(1, steps.count + 1):
                with trio.CancelScope() as scope, at_step(step, scope.cancel):
                    await talk(session)
                assert not session.place.nursery.child_tasks, step
            assert (await talk(session))[-1].reason == "done"


@pytest.mark.parametrize("hundredths", range(3, 75, 4))
async def test_whenever_its_time_is_up_the_turn_ends_and_the_next_works(autojump_clock, hundredths):
    flow = (FakeASR(0.1) >> FakeLLM("one two", 0.2, 0.1).shown() >> FakeTTS(0.1)).budget(total_s=hundredths / 100)
    async with flow.open(capacity=1, ear=1) as service, service.session("ann") as session:
        events = [event async for event in session.turn(sound())]
        assert events[-1].reason == ("timeout" if hundredths <= 50 else "done")
        assert not session.place.nursery.child_tasks
        assert [event.type async for event in session.turn("x", entry=2)][-1] == "turn.ended"


# ---- as a value


def test_its_repr_can_be_pasted_back():
    for flow in (
        (Add(1) >> Add(2)).budget(first_reply_s=1.2),
        Add().budget(first_reply_s=1, total_s=5) >> (Add() | Add()).budget(total_s=5),
        Latest(Add().budget(total_s=5).budget(total_s=6)),
    ):
        assert eval(repr(flow)) == flow
    assert repr((Add() >> Add()).budget(first_reply_s=1.2)) == "(Add() >> Add()).budget(first_reply_s=1.2)"


def test_an_entry_keeps_it():
    flow = (Add(1) >> Add(2)).budget(total_s=5)
    assert flow[1:] == Add(2).budget(total_s=5)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, "a budget needs a limit"),
        ({"first_reply_s": 0}, "> 0"),
        ({"total_s": -1}, "> 0"),
        ({"total_s": float("nan")}, "> 0"),
        ({"first_reply_s": 3, "total_s": 2}, "first_reply_s=3 is more than total_s=2"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(limits, told):
    with pytest.raises(ValueError, match=told):
        Add().budget(**limits)


def test_a_limit_that_is_no_number_is_a_fault_of_the_flow():
    report = Add().budget(first_reply_s="1.2").check()  # type: ignore[arg-type]
    (fault,) = report.faults
    assert fault.message == (
        "budget: its first_reply_s is '1.2' (str), but float | None is needed: write flow.budget(first_reply_s=...)."
    )
    assert str(report)


def test_a_batch_that_would_starve_inside_is_refused():
    (fault,) = (Add() >> batch(2, 1)).budget(total_s=5).check().faults
    assert "budget gives each item a run of its own" in fault.message
