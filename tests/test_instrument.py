"""ezflow/instrument.py: everything is reported, in order; without observers nothing is wrapped."""

from math import inf
from typing import Any

import pytest
import trio
import trio.testing

from ezflow import Inbox, Latest, Module, Outbox, Turn, module
from ezflow.channels import Receiver, Sender, Sink, channel
from ezflow.driving import drive
from ezflow.instrument import Instrument, watched
from ezflow.service import Limits, open_flows
from ezflow.testing import Failing, FakeLLM, Pause

HOOKS = [name for name in vars(Instrument) if not name.startswith("_")]


@module
class Slow(Module[str, str]):
    """Works for ever, and takes half a second to leave."""

    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep(0.0 if text == "quick" else inf)
        finally:
            with turn.cleanup():
                await trio.sleep(0.5)
        return text


class Recorder(Instrument):
    """Writes down each call, with the times."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.times: list[float] = []


def _recording(hook: str) -> Any:
    def record(self: Recorder, turn: Any, *facts: Any) -> None:
        assert turn.user in ("ann", "script")  # the latter is `collect`
        self.calls.append((hook, *facts))
        self.times.append(trio.current_time())

    return record


for _hook in HOOKS:
    setattr(Recorder, _hook, _recording(_hook))


async def observe(flow, *items: Any, limits: dict[str, Any] | None = None) -> Recorder:
    recorder = Recorder()
    async with flow.open(instruments=(recorder,), **(limits or {})) as service:
        async with service.session("ann") as session, session.live() as live:
            for item in items:
                await live.send(item)
            await live.end()
            async for _ in live:
                pass
    return recorder


async def test_one_stage_reports_each_step_in_order(autojump_clock):
    recorder = await observe(Pause(1.0), "x")
    assert recorder.calls[1][0] == "joined"  # the turn's input
    assert [*recorder.calls[:1], *recorder.calls[2:]] == [
        ("turn_started",),
        ("stage_started", "pause"),
        ("waits_for_input", "pause"),
        ("item_in", "pause", "x"),
        ("waits_for_client", "pause", "x"),
        ("replied", "pause", "x"),
        ("waits_for_room", "pause", "x"),
        ("item_out", "pause", "x"),
        ("waits_for_input", "pause"),
        ("stage_ended", "pause", None),
        ("turn_ended", "done"),
        ("turn_told", "done"),
    ]
    assert recorder.times[-1] - recorder.times[0] == 1.0


async def test_all_hooks_fire(autojump_clock):
    recorder = await observe(Latest(FakeLLM("a", 1.0)) >> Pause(0.0), "x", "y")
    assert {call[0] for call in recorder.calls} == set(HOOKS) - {"asked"}  # which a server alone does
    assert ("run_ended", 1, True) in recorder.calls
    assert ("run_ended", 2, False) in recorder.calls


async def test_runs_are_reported_with_their_numbers(autojump_clock):
    recorder = await observe(Latest(Pause(1.0)), "x", "y")
    runs = [call for call in recorder.calls if call[0].startswith("run_")]
    assert runs == [
        ("run_started", 1),
        ("run_ended", 1, True),
        ("run_started", 2),
        ("run_ended", 2, False),
    ]


async def test_a_newer_item_interrupts_and_the_end_of_it_is_reported(autojump_clock):
    recorder = Recorder()
    async with Latest(Slow()).open(instruments=(recorder,)) as service, service.session("ann") as session:
        async with session.live() as live:
            await live.send("x")
            await trio.testing.wait_all_tasks_blocked()
            await live.send("quick")
            await live.end()
            async for _ in live:
                pass
    told = [(call, when) for call, when in zip(recorder.calls, recorder.times, strict=True) if "interrupt" in call[0]]
    (asked, asked_at), (silent, silent_at) = told
    assert (asked, silent) == (("interrupting", 1), ("interrupted", 1))
    assert silent_at - asked_at == pytest.approx(0.5)


async def test_an_interrupted_turn_and_one_whose_client_leaves_are_reported_once(autojump_clock):
    recorder = Recorder()
    async with Slow().open(instruments=(recorder,)) as service, service.session("ann") as session:
        async with session.turn("x") as turn:
            await trio.testing.wait_all_tasks_blocked()
            await session.interrupt()
            await session.interrupt()
        async with session.turn("y"):
            await trio.testing.wait_all_tasks_blocked()
        async with session.turn("quick") as turn:
            async for _ in turn:
                pass
    interrupts = [call for call in recorder.calls if "interrupt" in call[0]]
    assert interrupts == [("interrupting", 0), ("interrupted", 0)] * 2


async def test_a_live_turn_without_latest_reports_what_it_is_asked_to_stop(autojump_clock):
    recorder = Recorder()
    async with Slow().open(instruments=(recorder,)) as service, service.session("ann") as session:
        async with session.live() as live:
            await live.send("x")
            await trio.testing.wait_all_tasks_blocked()
            assert await live.interrupt()
            await live.end()
            assert [event.type async for event in live] == ["turn.started", "interrupted", "turn.ended"]
    assert [call for call in recorder.calls if "interrupt" in call[0]] == [("interrupting", 0), ("interrupted", 0)]


async def test_each_join_is_reported_with_the_flow_that_takes_from_it(autojump_clock):
    held: list[tuple[str, int, int]] = []

    class Joins(Instrument):
        def joined(self, turn: Any, flow: Any, join: Any) -> None:
            joins.append((repr(flow), join))

        def turn_ended(self, turn: Any, reason: str) -> None:
            held.extend((flow, len(join.items), join.capacity) for flow, join in joins)

    joins: list[tuple[str, Any]] = []
    flow = Pause(0.0) >> (Pause(0.0).named("left") | Pause(0.0).named("right"))
    async with flow.open(instruments=(Joins(),), capacity=3) as service, service.session("ann") as session:
        async for _ in session.turn("x"):
            pass
    assert held == [("left | right", 0, 3), ("left", 0, 3), ("right", 0, 3)]


async def test_a_turn_knows_the_name_of_its_flow():
    class Names(Instrument):
        def stage_started(self, turn: Any, stage: str) -> None:
            names.append((turn.flow, stage))

    names: list[tuple[str, str]] = []
    async with open_flows({"one": Pause(0.0), "two": Pause(0.0)}, Limits(instruments=(Names(),))) as services:
        for service in services.values():
            async with service.session("ann") as session:
                async for _ in session.turn("x"):
                    pass
    assert names == [("one", "pause"), ("two", "pause")]


async def test_an_error_is_reported_where_it_happened(autojump_clock):
    recorder = await observe(Pause(0.0) >> Failing("oh"), "x")
    (error,) = [call[2] for call in recorder.calls if call[:2] == ("stage_ended", "failing")]
    assert isinstance(error, RuntimeError)
    assert ("turn_ended", "error") in recorder.calls


async def test_a_stage_reports_when_it_waits_for_room(autojump_clock):
    recorder = Recorder()

    @module
    class Never(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            await trio.sleep_forever()

    async with (Pause(0.0) >> Never()).open(instruments=(recorder,), capacity=1) as service:
        async with service.session("ann") as session, session.live() as live:
            for text in "abc":
                await live.send(text)
            await trio.testing.wait_all_tasks_blocked()
    waits = [call for call in recorder.calls if call[0] in ("waits_for_room", "item_out")]
    assert waits == [
        ("waits_for_room", "pause", "a"),
        ("item_out", "pause", "a"),
        ("waits_for_room", "pause", "b"),
    ]
    assert recorder.calls[-3:] == [("turn_ended", "interrupted"), ("interrupted", 0), ("turn_told", "interrupted")]


async def test_a_function_takes_all_at_once_and_each_item_is_reported():
    recorder = Recorder()

    @module
    def same(text: str) -> str:
        return text

    await same.collect(["a", "b", "c"], instruments=(recorder,), capacity=16)
    assert [call for call in recorder.calls if call[0] != "joined"] == [
        ("turn_started",),
        ("stage_started", "same"),
        ("waits_for_input", "same"),
        ("item_in", "same", "a"),
        ("item_in", "same", "b"),
        ("item_in", "same", "c"),
        *[call for item in "abc" for call in (("waits_for_room", "same", item), ("item_out", "same", item))],
        ("waits_for_input", "same"),
        ("stage_ended", "same", None),
        ("turn_ended", "done"),
        ("turn_told", "done"),
    ]


@pytest.mark.parametrize("capacity", [0, 1, 2])
async def test_each_item_is_reported_where_some_are_given_at_once_and_others_wait(capacity):
    recorder = Recorder()

    @module
    def same(text: str) -> str:
        return text

    assert await (same >> Pause(0.0)).collect("abcde", instruments=(recorder,), capacity=capacity) == list("abcde")
    taken = [call[2] for call in recorder.calls if call[:2] == ("item_in", "same")]
    given = [
        (call[0], call[2]) for call in recorder.calls if call[0] in ("waits_for_room", "item_out") and call[1] == "same"
    ]
    assert taken == list("abcde")
    assert given == [(hook, item) for item in "abcde" for hook in ("waits_for_room", "item_out")]


async def test_what_has_no_room_at_once_is_reported_once():
    recorder = Recorder()
    state = type("State", (), {"user": "ann"})()
    give, take = channel(1)
    _, outbox = watched(take, give, (recorder,), state, "s")
    assert outbox.offer("a")  # type: ignore[attr-defined]
    assert not outbox.offer("b")  # type: ignore[attr-defined]
    assert outbox.offer_all(["b"]) == 0  # type: ignore[attr-defined]
    assert recorder.calls == [("waits_for_room", "s", "a"), ("item_out", "s", "a")]


async def test_several_instruments_hear_the_same(autojump_clock):
    one, two = Recorder(), Recorder()
    async with FakeLLM("a b").open(instruments=(one, two)) as service, service.session("ann") as session:
        async for _ in session.turn("x"):
            pass
    assert one.calls == two.calls != []


async def test_the_history_is_kept_under_instruments_too(autojump_clock):
    async with (FakeLLM("a b") >> Pause(0.0)).open(instruments=(Instrument(),)) as service:
        async with service.session("ann") as session:
            async for _ in session.turn("x"):
                pass
            assert [message.content for message in session.history.messages] == ["x", "a b"]


async def test_a_clone_reports_too(autojump_clock):
    recorder = Recorder()
    state = type("State", (), {"user": "ann"})()
    give, take = channel(2)
    _, outbox = watched(take, give, (recorder,), state, "s")
    twin = outbox.clone()
    outbox.close()
    await twin.send("x")
    twin.close()
    assert ("item_out", "s", "x") in recorder.calls
    assert [item async for item in take] == ["x"]


def test_without_instruments_the_ends_are_the_same_objects():
    give, take = channel(1)
    assert watched(take, give, (), None, "s") == (take, give)


class Starts(Instrument):
    """Hears when stages start, and nothing of their items."""

    def stage_started(self, turn: Any, stage: str) -> None: ...


class Takes(Instrument):
    def item_in(self, turn: Any, stage: str, item: object) -> None: ...


@pytest.mark.parametrize(("instruments", "count"), [((), 3), ((Instrument(), Starts()), 3), ((Takes(),), 2)])
async def test_a_stage_that_remembers_nothing_gets_the_channel_itself_where_nobody_observes(
    instruments, count, monkeypatch
):
    seen: list[type] = []

    async def look(function, kind, rest, inbox, outbox, limiter, answered) -> None:
        seen.extend((type(inbox), type(outbox)))
        await drive(function, kind, rest, inbox, outbox, limiter, answered)

    @module
    def same(text: str) -> str:
        return text

    monkeypatch.setattr("ezflow.modules.drive", look)
    assert await (same >> same).collect(["x"], instruments=instruments) == ["x"]
    plain = [cls for cls in seen if cls in (Sender, Receiver, Sink)]
    assert len(plain) == count  # the first inbox is the turn's feed


def test_an_instrument_that_overrides_nothing_is_silent():
    for hook in HOOKS:
        count = getattr(Instrument, hook).__code__.co_argcount
        assert getattr(Instrument(), hook)(*(["x"] * (count - 1))) is None
