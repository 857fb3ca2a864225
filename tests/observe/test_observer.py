"""ezflow/observe/observer.py: each figure, on the virtual clock."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from ezflow import Audio, Flow, Inbox, Latest, Module, Outbox, Turn, module, ordered
from ezflow.observe.histogram import Histogram
from ezflow.observe.observer import ERROR_CLASSES, OTHER, Observer, StageFigures
from ezflow.service import Limits, open_flows
from ezflow.session import Session
from ezflow.testing import Failing, FakeLLM, FakeTTS, Pause


@module
class SlowToLeave(Module[str, str]):
    """Never answers, and takes half a second to leave."""

    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep_forever()
        finally:
            with turn.cleanup():
                await trio.sleep(0.5)
        return text


@asynccontextmanager
async def observed(flow: Flow[Any, Any], **limits: Any) -> AsyncIterator[tuple[Observer, Session]]:
    observer = Observer({"voice": [stage.name for stage in flow.stages]}, now=trio.current_time)
    async with open_flows({"voice": flow}, Limits(instruments=(observer,), **limits)) as services:
        async with services["voice"].session("ann") as session:
            yield observer, session


def of(observer: Observer, stage: str) -> StageFigures:
    return observer.stages()["voice", stage]


async def whole(session: Session, item: Any) -> None:
    async for _ in session.turn(item):
        pass


def placed(histogram: Histogram) -> dict[float, int]:
    """Each bound under which values lie, above the bound before, and how many."""
    before, found = 0, {}
    for bound, below in histogram.buckets():
        if below > before:
            found[bound] = below - before
        before = below
    return found


async def test_turns_are_counted_by_result_and_timed(autojump_clock):
    async with observed(Pause(2.0), turn_s=5.0) as (observer, session):
        flow = observer.flows["voice"]
        async with session.turn("x") as turn:
            await trio.testing.wait_all_tasks_blocked()
            assert flow.running == 1
            async for _ in turn:
                pass
        assert (flow.running, flow.results) == (0, {"done": 1})
        assert placed(flow.duration) == {2.5: 1}
        assert flow.duration.total == pytest.approx(2.0)
        async with session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
        assert flow.results == {"done": 1, "interrupted": 1}
    async with observed(Pause(9.0) >> Failing(), turn_s=5.0) as (observer, session):
        await whole(session, "x")
        assert observer.flows["voice"].results == {"timeout": 1}
    async with observed(Failing()) as (observer, session):
        await whole(session, "x")
        assert observer.flows["voice"].results == {"error": 1}


async def test_a_turn_counts_as_what_its_client_was_told(autojump_clock):
    """Not as what its stages did, where what they said was dropped, or has not been heard yet."""
    async with observed(FakeLLM("a b c")) as (observer, session):
        flow = observer.flows["voice"]
        async with session.turn("x") as turn:
            await trio.testing.wait_all_tasks_blocked()
            assert (flow.running, flow.results) == (0, {})  # its stages are done, and nothing has been taken
            assert await session.interrupt() == 1
            assert flow.results == {"interrupted": 1}
            assert [event.reason async for event in turn][-1] == "interrupted"
        assert flow.results == {"interrupted": 1}
        async with session.turn("x") as turn:
            assert [event.type async for event in turn if event.type != "text"] == ["turn.started", "turn.ended"]
        assert flow.results == {"interrupted": 1, "done": 1}
        async with session.turn("x") as turn:
            await trio.testing.wait_all_tasks_blocked()
        assert flow.results == {"interrupted": 2, "done": 1}


async def test_items_and_replies_are_counted_in_runs_that_go_on_too(autojump_clock):
    async with observed(FakeLLM("a b c", each_s=1.0).shown() >> Pause(0.0)) as (observer, session):
        async with session.turn("x") as turn:
            await trio.sleep(1.5)
            now = of(observer, "fake_llm")
            assert (now.items_in, now.items_out, now.replies) == (1, 2, 2)
            async for _ in turn:
                pass
        llm, pause = of(observer, "fake_llm"), of(observer, "pause")
        assert (llm.items_in, llm.items_out, llm.replies) == (1, 3, 3)
        assert (pause.items_in, pause.items_out, pause.replies) == (3, 3, 3)


async def test_time_to_the_first_output_is_that_of_each_item_whose_stage_is_asked_anew(autojump_clock):
    async with observed(FakeLLM("a b", first_s=0.3, each_s=0.02) >> FakeTTS(0.2)) as (observer, session):
        await whole(session, "x")
        assert placed(of(observer, "fake_llm").first_output) == {0.5: 1}
        tts = of(observer, "fake_tts").first_output
        assert placed(tts) == {0.25: 2}
        assert tts.total == pytest.approx(0.4)


async def test_a_stage_that_gathers_is_timed_from_the_first_that_it_gathers(autojump_clock):
    @module
    class Pairs(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            held: list[str] = []
            async for text in inbox:
                held.append(text)
                if len(held) == 2:
                    await outbox.send("".join(held))
                    held.clear()

    async with observed(FakeLLM("a b c d", each_s=0.4) >> Pairs()) as (observer, session):
        await whole(session, "x")
        assert placed(of(observer, "pairs").first_output) == {0.5: 2}


async def test_what_a_stage_waits_for_is_told_apart(autojump_clock):
    flow = Pause(0.0) >> Pause(1.0).named("slow")
    async with observed(flow, capacity=0, ear=1) as (observer, session):
        async with session.live() as live:
            await trio.sleep(2.0)  # both wait for input
            async with trio.open_nursery() as nursery:

                async def feed() -> None:
                    for text in "abcd":
                        await live.send(text)
                    await live.end()

                nursery.start_soon(feed)
                await trio.sleep(3.5)
                # `slow` took a and b at 0 and 1; of the ear's one place the start of the turn had it until a was put.
                waits = of(observer, "slow").waited_s
                assert waits["client"] > 1.0  # the client takes nothing
                assert of(observer, "pause").waited_s["room"] > 1.0
                async for _ in live:
                    pass
        pause, slow = of(observer, "pause").waited_s, of(observer, "slow").waited_s
        assert pause["input"] == pytest.approx(2.0)
        assert pause["client"] == slow["room"] == 0.0
        assert slow["input"] == pytest.approx(2.0)
        assert placed(of(observer, "slow").first_output) == {1.0: 4}  # without what the client took


async def test_a_wait_that_goes_on_counts_up_to_now_and_once(autojump_clock):
    async with observed(Pause(0.0)) as (observer, session):
        async with session.live() as live:
            await live.send("a")
            await trio.sleep(5.0)
            assert of(observer, "pause").waited_s["input"] == pytest.approx(5.0)
            await trio.sleep(5.0)
            assert of(observer, "pause").waited_s["input"] == pytest.approx(10.0)
        assert of(observer, "pause").waited_s["input"] == pytest.approx(10.0)


async def test_errors_are_counted_by_their_class_and_cancellation_is_none(autojump_clock, caplog):
    @module
    class Several(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)
                nursery.start_soon(trio.sleep_forever)

        async def fail(self) -> None:
            raise LookupError

    async with observed(Several() >> Pause(0.0)) as (observer, session):
        await whole(session, "x")
        assert of(observer, "several").errors == {"LookupError": 1}
        assert of(observer, "pause").errors == {}


async def test_classes_of_errors_that_are_made_anew_are_bounded(autojump_clock, caplog):
    @module
    class Inventive(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            raise type(f"Error{text}", (Exception,), {})

    async with observed(Inventive()) as (observer, session):
        for number in range(ERROR_CLASSES + 5):
            await whole(session, str(number))
        errors = of(observer, "inventive").errors
        assert len(errors) == ERROR_CLASSES + 1
        assert errors[OTHER] == 5


async def test_silence_is_timed_from_each_kind_of_interrupt(autojump_clock):
    async with observed(SlowToLeave()) as (observer, session):
        silence = observer.flows["voice"].silence
        async with session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
            await session.interrupt()
        assert placed(silence) == {0.5: 1}
        async with session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
            async with session.turn("newer"):  # supersedes it
                await trio.testing.wait_all_tasks_blocked()
        assert placed(silence) == {0.5: 3}  # and whoever asked for the newer one has left
        async with session.live() as live:
            await live.send("x")
            await trio.testing.wait_all_tasks_blocked()
            await live.interrupt()
            assert placed(silence) == {0.5: 4}
    async with observed(Latest(SlowToLeave())) as (observer, session), session.live() as live:
        await live.send("x")
        await trio.testing.wait_all_tasks_blocked()
        await live.send("y")  # barge-in
        await trio.sleep(1.0)
        assert placed(observer.flows["voice"].silence) == {0.5: 1}


async def test_a_turn_that_runs_out_is_no_interrupt(autojump_clock):
    async with observed(Latest(Pause(0.1))) as (observer, session):
        await whole(session, "x")
        assert observer.flows["voice"].silence.count == 0


async def test_an_answer_that_is_still_played_is_silent_at_once(autojump_clock):
    async with observed(Latest(FakeTTS(char_s=1.0))) as (observer, session), session.live() as live:
        await live.send("ten letters")
        async for event in live:
            if isinstance(event.item, Audio):
                break
        await trio.sleep(1.0)
        assert await live.interrupt()
        assert placed(observer.flows["voice"].silence) == {0.001: 1}


async def test_joins_are_known_by_the_stage_they_lead_to_as_long_as_they_are_there(autojump_clock):
    flow = Pause(0.0) >> SlowToLeave() >> Latest(Pause(0.0).named("inner"))
    async with observed(flow, capacity=2) as (observer, session):
        async with session.live() as live:
            for number in range(5):
                await live.send(str(number))
            await trio.testing.wait_all_tasks_blocked()
            # One is at work, two wait before it, one is held by `pause`, and one waits before that.
            assert sorted(observer.joins()) == [
                ("voice", "inner", 0, 2),
                ("voice", "pause", 1, 2),
                ("voice", "slow_to_leave", 2, 2),
            ]
            ((flow_name, ear),) = observer.ears()
            assert (flow_name, ear.capacity) == ("voice", 64)
        assert list(observer.joins()) == list(observer.ears()) == []


async def test_joins_of_items_that_are_done_are_forgotten_while_the_turn_goes_on(autojump_clock):
    async with observed(ordered(Pause(0.0) >> Pause(0.0), 2)) as (observer, session), session.live() as live:
        for number in range(20):
            await live.send(str(number))
            await trio.testing.wait_all_tasks_blocked()
        assert len(list(observer.joins())) == 1  # the turn's own


async def test_what_a_module_does_after_its_stage_has_left_disturbs_nothing(autojump_clock):
    kept: list[Turn] = []

    @module
    class Keeps(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            kept.append(turn)
            return text

    async with observed(Keeps()) as (observer, session):
        await whole(session, "x")
        await kept[0].reply("late")
        assert of(observer, "keeps").replies == 1


async def test_nothing_is_kept_of_turns_that_are_over(autojump_clock):
    async with observed(Latest(SlowToLeave() >> Pause(0.0))) as (observer, session):
        for _ in range(3):
            async with session.live() as live:
                await live.send("x")
                await trio.testing.wait_all_tasks_blocked()
                await live.send("y")
                await trio.testing.wait_all_tasks_blocked()
        assert (observer._turns, observer._lanes, observer._asked) == ({}, {}, {})


def test_a_value_at_a_bound_lies_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    assert list(histogram.buckets()) == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert (histogram.count, histogram.total) == (5, 14.0)


async def test_an_interrupt_of_a_run_whose_stages_have_left_keeps_nothing_when_it_is_cancelled(autojump_clock):
    async with observed(Latest(Pause(0.0))) as (_, session):
        turn = session.live()
        await turn.send("hello")
        await turn.end()
        await trio.sleep(1)  # all has ended; what was said has not been taken
        state = weakref.ref(turn.state)
        with trio.CancelScope() as scope:
            scope.cancel()
            assert await turn.interrupt()
        assert [event.type async for event in turn] == ["turn.started", "interrupted", "turn.ended"]
        await turn.aclose()
        async for _ in session.turn("another"):
            pass
        del turn
        gc.collect()
        assert state() is None
