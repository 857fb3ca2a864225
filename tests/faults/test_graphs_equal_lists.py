"""Any graph of combinators gives what its model on lists gives: in order, nothing lost, nothing doubled; and after an
interrupt nothing of what was interrupted, and all of the rest.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from graphs import LONG_S, Names, Plan, graphs, plans
from hypothesis import given, note
from hypothesis import strategies as st
from orders import Mark, Then, differences, marks

from ezflow import Event, TurnFailed
from ezflow.channels import ReceiverGone
from ezflow.open_turn import OpenTurn
from ezflow.testing import Failing

CAPACITIES = st.sampled_from([0, 1, 2, 16])
TIMES = st.sampled_from([0.0, 0.0, 0.05, 1.0])
PAUSES = st.lists(TIMES, min_size=1, max_size=12)
LATER = 120  # the number of the first item after an interrupt, from which it can be told


def in_virtual_time(main: Any) -> Any:
    """Run it on a virtual clock; what goes no further fails at the end of that clock's patience."""

    async def within() -> Any:
        with trio.fail_after(100 * LONG_S):
            return await main()

    return trio.run(within, clock=trio.testing.MockClock(autojump_threshold=0))


def numbered(count: int, first: int = 0) -> tuple[Mark, ...]:
    return tuple(map(Mark, range(first, first + count)))


async def fed(pauses: Sequence[float]) -> AsyncIterator[Mark]:
    for number, pause in enumerate(pauses):
        await trio.sleep(pause)
        yield Mark(number)


@pytest.fixture(autouse=True)
def _says_nothing_of_attempts(caplog: pytest.LogCaptureFixture) -> None:
    """Attempts that fail are logged with their tracebacks, and here they are many."""
    caplog.set_level(logging.CRITICAL, "ezflow")


def test_a_graph_gives_what_its_model_gives(effort, count):
    @effort(400, 8000)
    @given(st.data(), PAUSES, CAPACITIES, st.booleans())
    def check(data: st.DataObject, pauses: Sequence[float], capacity: int, at_once: bool) -> None:
        plan = data.draw(graphs(len(pauses)))
        items = numbered(len(pauses)) if at_once else fed(pauses)
        given = in_virtual_time(partial(plan.flow.collect, items, capacity=capacity))
        note(f"{plan.flow!r} gave {given}")
        count(examples=1, stages=len(plan.flow.stages), items=len(pauses), outputs=len(given))
        assert not differences(given, plan.model(Then(numbered(len(pauses)))))

    check()


def test_a_stage_that_fails_behind_a_graph_fails_the_turn_with_its_own_error(effort, count):
    @effort(100, 1500)
    @given(st.data(), PAUSES, CAPACITIES, st.integers(0, 8))
    def check(data: st.DataObject, pauses: Sequence[float], capacity: int, good: int) -> None:
        plan = data.draw(graphs(len(pauses)))
        outputs = len(marks(plan.model(Then(numbered(len(pauses))))))
        run = partial((plan.flow >> Failing("enough", after=good)).collect, fed(pauses), capacity=capacity)
        count(examples=1, failed=outputs > good)
        if outputs <= good:
            assert len(in_virtual_time(run)) == outputs
            return
        with pytest.raises(TurnFailed) as failed:
            in_virtual_time(run)
        # Beside it may stand what a stage before it raised in the same moment, and a fallback had no time to mend.
        assert "enough" in [str(error) for error in failed.value.exceptions]
        assert not [error for error in failed.value.exceptions if isinstance(error, ReceiverGone)]

    check()


async def interrupted(
    plan: Plan, pauses: Sequence[float], stops: Sequence[float], after: int, capacity: int
) -> tuple[list[Mark], list[Event]]:
    """A live turn that is interrupted some times while it is fed, and then fed `after` items more: what it was fed,
    and its events.
    """
    sent: list[Mark] = []
    events: list[Event] = []

    async def feed(turn: OpenTurn, mark: Mark) -> None:
        await turn.send(mark)
        sent.append(mark)

    async def feed_slowly(turn: OpenTurn) -> None:
        for number, pause in enumerate(pauses):
            await trio.sleep(pause)
            await feed(turn, Mark(number))

    async def stop(turn: OpenTurn, nursery: trio.Nursery) -> None:
        for pause in stops:
            await trio.sleep(pause)
            await turn.interrupt()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()  # what is not fed by now is fed by nobody

    async def converse(turn: OpenTurn) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed_slowly, turn)
            nursery.start_soon(stop, turn, nursery)
        for mark in numbered(after, LATER):
            await feed(turn, mark)
        await turn.end()

    async with plan.flow.open(capacity=capacity) as service, service.session("ann") as session:
        async with session.live() as turn, trio.open_nursery() as nursery:
            nursery.start_soon(converse, turn)
            async for event in turn:
                events.append(event)
    assert [event.seq for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type, events[-1].reason) == ("turn.started", "turn.ended", "done")
    return sent, events


def given_in(events: Sequence[Event]) -> list[Mark]:
    return [event.item for event in events if event.type == "json"]


def test_after_an_interrupt_comes_nothing_that_was_at_work_and_all_that_was_not(effort, count):
    @effort(200, 3000)
    @given(st.data(), PAUSES, TIMES, st.integers(0, 4), CAPACITIES)
    def check(data: st.DataObject, pauses: Sequence[float], stop: float, after: int, capacity: int) -> None:
        plan = data.draw(plans(Names(), data.draw(st.sampled_from([2, 1]))))
        sent, events = in_virtual_time(partial(interrupted, plan, pauses, [stop], after, capacity))
        told = [event.type for event in events]
        count(examples=1, interrupted=told.count("interrupted"))
        if "interrupted" not in told:  # it came before anything, or after everything
            assert not differences(given_in(events), plan.model(Then(tuple(sent))))
            return
        place = told.index("interrupted")
        assert not differences(given_in(events[:place]), plan.model(Then(tuple(sent))), whole=False)
        rest = given_in(events[place:])
        assert any(not differences(rest, plan.model(Then(tuple(sent[start:])))) for start in range(1, len(sent) + 1))

    check()
