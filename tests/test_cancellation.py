"""A whole turn of text and voice, cancelled at every one of its checkpoints: nothing is left or late."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from steps import at_step

from ezflow import Audio, Event, Flow, Latest, Service, Session, TurnClosedError, module, ordered
from ezflow.channels import every_step
from ezflow.open_turn import OpenTurn
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD


@module
def words(text: str) -> str:
    return text.strip()


ANSWER = FakeASR(0.1) >> FakeLLM("one two three", 0.2, 0.1).shown() >> (words | ordered(FakeTTS(0.05), 2))
LIVE = FakeVAD() >> Latest(ANSWER)


def sound(text: str = "") -> Audio:
    return Audio(bytes(64), 16000, text=text)


async def speak(turn: OpenTurn) -> None:
    await turn.send(sound("hello"))
    await turn.send(sound())
    await trio.sleep(0.53)
    await turn.send(sound("stop"))
    await turn.send(sound())
    await turn.end()


async def once(session: Session, step: int, then: Callable[[OpenTurn], object]) -> tuple[int, list[Event]]:
    """One live turn with a barge-in; at a step of its tasks, `then` happens to it."""
    events: list[Event] = []
    async with session.live() as turn:
        with at_step(step, lambda: then(turn), below=session.place.nursery) as steps:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(speaking, turn)
                async for event in turn:
                    events.append(event)
                nursery.cancel_scope.cancel()
    return steps.count, events


async def speaking(turn: OpenTurn) -> None:
    try:
        await speak(turn)
    except TurnClosedError:
        return  # it was cancelled first


def tasks_of(session: Session) -> int:
    return len(session.place.nursery.child_tasks)


def check_order(events: list[Event]) -> None:
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event.type for event in events].count("turn.ended") == 1
    assert events[-1].type == "turn.ended"
    cut = False
    for event in events:
        if event.type == "interrupted":
            cut = True
        elif cut:
            assert event.run != 1


async def next_turn_works(session: Session) -> None:
    events = [event async for event in session.turn("again", entry="fake_llm")]
    assert [event.item for event in events if event.stage == "fake_llm"] == ["one", " two", " three"]
    assert events[-1].reason == "done"


async def count_steps(service: Service) -> int:
    async with service.session("count") as session:
        steps, events = await once(session, 0, lambda turn: None)
    check_order(events)
    assert events[-1].reason == "done"
    return steps


@pytest.mark.parametrize("way", ["cancel", "session", "client"])
async def test_a_turn_cancelled_at_any_checkpoint_leaves_nothing_behind(way, autojump_clock):
    flow: Flow[Audio, Audio | str] = LIVE
    with every_step():
        async with flow.open(capacity=1, ear=2) as service:
            steps = await count_steps(service)
            assert steps > 100
            for step in range(1, steps + 1):
                async with service.session("ann") as session:
                    if way == "client":
                        with trio.CancelScope() as scope:
                            await once(session, step, lambda turn, scope=scope: scope.cancel())
                    else:
                        events = await cancelled(session, step, way)
                        assert events[-1].reason in ("interrupted", "done"), step
                    assert tasks_of(session) == 0, step
                    await next_turn_works(session)
                    assert tasks_of(session) == 0, step
                assert service.sessions == {}


async def cancelled(session: Session, step: int, way: str) -> list[Event]:
    if way == "cancel":
        _, events = await once(session, step, lambda turn: turn._scope.cancel())
    else:
        async with trio.open_nursery() as nursery:
            _, events = await once(session, step, lambda turn: nursery.start_soon(session.interrupt))
    check_order(events)
    return events


async def test_a_run_interrupted_at_any_checkpoint_is_followed_by_nothing_of_its_own(autojump_clock):
    with every_step():
        async with LIVE.open(capacity=1, ear=2) as service:
            for step in range(1, await count_steps(service) + 1):
                async with service.session("ann") as session:
                    async with trio.open_nursery() as nursery:
                        _, events = await once(
                            session, step, lambda turn, nursery=nursery: nursery.start_soon(turn.interrupt)
                        )
                    check_order(events)
                    assert events[-1].reason == "done", step
                    assert tasks_of(session) == 0
