"""ezflow/service.py, ezflow/opening.py: modules acquired and released, sessions bounded, `collect`."""

import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from ezflow import (
    FlowError,
    Inbox,
    InputError,
    ItemTypeError,
    Module,
    ModuleOpenError,
    NotOpenError,
    Outbox,
    Service,
    SessionsFull,
    StageStuck,
    Turn,
    TurnFailed,
    module,
    resource,
)
from ezflow.service import Limits, open_flows
from ezflow.testing import Failing, FakeLLM, Pause

LOG: list[tuple[float, str, str]] = []


@pytest.fixture(autouse=True)
def log() -> Iterator[list[tuple[float, str, str]]]:
    LOG.clear()
    yield LOG
    LOG.clear()


def note(what: str, name: str) -> None:
    LOG.append((round(trio.current_time() % 1000, 6), what, name))


def happened() -> list[str]:
    return [f"{what} {name}" for _, what, name in LOG]


@module
class Held(Module[str, str]):
    """Says when it is opened and released; can fail or hang at each."""

    name_: str
    open_s: float = 0.0
    close_s: float = 0.0
    trouble: str = ""
    key: str = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        note("opening", self.name_)
        try:
            await trio.sleep(self.open_s)
        except trio.Cancelled:
            note("cancelled", self.name_)
            raise
        if self.trouble == "open":
            raise ValueError(f"no {self.name_}")
        self.key = self.name_
        note("opened", self.name_)
        try:
            yield
        finally:
            note("closing", self.name_)
            await trio.sleep(self.close_s)
            note("closed", self.name_)
            if self.trouble == "close":
                raise ValueError(f"cannot let go of {self.name_}")

    async def process(self, text: str, turn: Turn) -> str:
        return f"{text}{self.key}"


async def run_turn(service, text: str = "") -> list[str]:
    async with service.session("ann") as session:
        return [event.item async for event in session.turn(text) if event.type == "text"]


# ---- opening and releasing


async def test_modules_are_opened_in_parallel_and_released_in_reverse(autojump_clock):
    flow = Held("a", 1.0, 0.5) >> Held("b", 2.0, 0.5) >> Held("c", 1.0, 0.5)
    began = trio.current_time()
    async with flow.open() as service:
        assert trio.current_time() == began + 2.0
        assert await run_turn(service) == ["abc"]
    assert trio.current_time() == began + 3.5
    assert happened()[-6:] == ["closing c", "closed c", "closing b", "closed b", "closing a", "closed a"]


async def test_a_resource_exists_only_while_its_module_is_open(autojump_clock):
    held = Held("a")
    async with held.open() as service:
        assert service.stages[0].module.key == "a"
        with pytest.raises(NotOpenError):
            held.key  # the service works on a copy  # noqa: B018


@pytest.mark.parametrize("others", [("b", "c")])
async def test_a_lifespan_that_fails_names_its_module_and_undoes_the_others(others, autojump_clock, caplog):
    flow = Held("ready") >> Held("bad", 1.0, trouble="open") >> Held("late", 100.0)
    began = trio.current_time()
    with pytest.raises(ModuleOpenError, match="Held could not open: ValueError: no bad") as caught:
        async with flow.open():
            pytest.fail("the body must not run")
    assert trio.current_time() == began + 1.0
    assert (caught.value.module, caught.value.when) == ("Held", "could not open")
    assert isinstance(caught.value.__cause__, ValueError)
    assert happened().count("closed ready") == 1
    assert "cancelled late" in happened()
    assert "opened late" not in happened()
    assert "no bad" in caplog.text


async def test_several_lifespans_that_fail_are_all_told(autojump_clock):
    flow = Held("a", trouble="open") >> Held("b", 0.0, trouble="open")
    with pytest.raises(ModuleOpenError) as caught:
        async with flow.open():
            pass
    first, (other,) = caught.value, caught.value.others
    assert sorted([str(first.__cause__), str(other.__cause__)]) == ["no a", "no b"]
    assert str(first) == f"Held could not open: ValueError: {first.__cause__}; {other}"
    assert other.others == ()


async def test_a_flow_with_faults_opens_nothing():
    @module
    def length(text: str) -> int:
        return len(text)

    with pytest.raises(FlowError, match="gives int, but Held takes str") as caught:
        async with (length >> Held("a")).open():
            pass
    assert not caught.value.report.ok
    assert LOG == []


async def test_equal_modules_are_opened_once(autojump_clock):
    async with (Held("a") >> Held("b") >> Held("a")).open() as service:
        assert await run_turn(service) == ["aba"]
    assert sorted(happened()) == sorted(
        f"{what} {name}" for what in ("opening", "opened", "closing", "closed") for name in "ab"
    )


async def test_equal_modules_are_opened_once_also_across_flows(autojump_clock):
    flows = {"one": Held("a") >> Held("b"), "two": Held("b") >> Held("c")}
    async with open_flows(flows, Limits()) as services:
        assert await run_turn(services["one"]) == ["ab"]
        assert await run_turn(services["two"]) == ["bc"]
        assert services["one"].stages[1].module is services["two"].stages[0].module
    assert happened().count("opened b") == 1


async def test_a_user_has_one_turn_and_one_history_in_all_flows_that_are_opened_together(autojump_clock):
    flows = {"one": FakeLLM("first", 1.0), "two": FakeLLM("second", 1.0)}
    async with open_flows(flows, Limits()) as services:
        one, two = services["one"].session("ann"), services["two"].session("ann")
        async with one as first, two as second, first.turn("a") as running:
            assert (await anext(running)).type == "turn.started"
            events = [event async for event in second.turn("b")]
            assert [event.reason async for event in running] == ["interrupted"]
            assert events[0].turn == 2
            assert first.history is second.history
            assert [message.content for message in first.history.messages] == ["a", "b", "second"]
            async with first.turn("c") as again:
                assert await second.interrupt() == again.id


async def test_one_flow_can_be_opened_twice_at_once(autojump_clock):
    flow = Held("a")
    async with flow.open() as one:
        async with flow.open() as two:
            assert one.stages[0].module is not two.stages[0].module
            assert await run_turn(two) == ["a"]
        assert happened().count("closed a") == 1
        assert await run_turn(one) == ["a"]
    assert happened().count("closed a") == 2


async def test_a_flow_can_be_opened_again(autojump_clock):
    for _ in range(2):
        async with Held("a").open() as service:
            assert await run_turn(service) == ["a"]


async def test_cancelled_while_opening_it_releases_what_was_open(autojump_clock):
    with trio.move_on_after(1) as scope:
        async with (Held("quick") >> Held("slow", 10.0)).open():
            pytest.fail("the body must not run")
    assert scope.cancelled_caught
    assert "cancelled slow" in happened()
    assert happened()[-2:] == ["closing quick", "closed quick"]


async def test_cancelled_while_open_it_releases_in_reverse_with_time_to_clean_up(autojump_clock):
    began = trio.current_time()
    with trio.move_on_after(1):
        async with (Held("a", 0.0, 2.0) >> Held("b", 0.0, 2.0)).open(cleanup_s=3.0):
            await trio.sleep_forever()
    assert happened()[-4:] == ["closing b", "closed b", "closing a", "closed a"]
    assert trio.current_time() == began + 5.0


@module
class Breaking(Module[str, str]):
    """What it stands on breaks after `after_s`."""

    after_s: float

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        async def watch() -> None:
            await trio.sleep(self.after_s)
            raise ConnectionError("the server has gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            yield
            nursery.cancel_scope.cancel()

    async def process(self, text: str, turn: Turn) -> str:
        return text


async def test_a_module_that_fails_while_open_ends_the_service_and_is_named(autojump_clock):
    began = trio.current_time()
    with pytest.raises(ModuleOpenError, match="Breaking failed while open") as caught:
        async with (Held("a") >> Breaking(2.0)).open() as service, service.session("ann") as session:
            async for _ in session.live():
                pass
            pytest.fail("it must not go on")
    assert trio.current_time() == began + 2.0
    assert caught.value.when == "failed while open"
    assert happened()[-1] == "closed a"


async def test_a_module_that_breaks_later_than_its_service_ends_is_no_failure(autojump_clock):
    async with Breaking(2.0).open():
        await trio.sleep(1)


async def test_a_module_that_hangs_at_release_is_cancelled_and_named(autojump_clock, caplog):
    began = trio.current_time()
    async with (Held("a", 0.0, 0.5) >> Held("stuck", 0.0, 1000.0) >> Held("c", 0.0, 0.5)).open(cleanup_s=2.0):
        pass
    assert trio.current_time() == began + 0.5 + 2.0 + 0.5
    assert "Held was not released within 2 s: cancelling it" in caplog.text
    assert [line for line in happened() if line.startswith("closed")] == ["closed c", "closed a"]


async def test_a_module_that_cannot_close_is_named_and_the_others_are_released(autojump_clock):
    with pytest.raises(ModuleOpenError, match="Held could not close: ValueError: cannot let go of b"):
        async with (Held("a") >> Held("b", trouble="close")).open():
            pass
    assert happened()[-1] == "closed a"


async def test_the_body_s_error_comes_out_as_it_is(autojump_clock):
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with Held("a").open() as service, service.session("ann"):
            raise error
    assert caught.value is error
    assert happened()[-1] == "closed a"


async def test_the_body_s_group_comes_out_as_it_is(autojump_clock):
    with pytest.RaisesGroup(ValueError, TypeError):
        async with Held("a").open():
            raise ExceptionGroup("mine", [ValueError(), TypeError()])


async def test_the_body_s_error_is_not_lost_when_a_module_cannot_close(autojump_clock, caplog):
    with pytest.raises(KeyError, match="mine"):
        async with Held("a", trouble="close").open():
            raise KeyError("mine")
    assert "cannot let go of a" in caplog.text


async def test_sessions_end_before_the_modules_are_released(autojump_clock):
    @module
    class Uses(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with turn.cleanup():
                    await trio.sleep(0.5)
                note("left", "stage")

    with pytest.raises(KeyError):
        async with (Uses() >> Held("a")).open() as service, service.session("ann") as session:
            await anext(session.turn("x"))
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError
    assert happened()[-3:] == ["left stage", "closing a", "closed a"]


# ---- sessions


async def test_a_session_is_shared_by_all_who_hold_it(autojump_clock):
    async with FakeLLM("{n}").open() as service:
        async with service.session("ann") as one, service.session("ann") as two:
            assert one.place is two.place
            assert [event.item async for event in one.turn("x")][1] == "0"
        assert service.sessions == {}
        async with service.session("ann") as fresh:
            assert fresh is not one
            assert fresh.history.messages == ()


async def test_a_session_stays_until_its_last_holder_leaves(autojump_clock):
    async with FakeLLM("a b", 1.0, 1.0).open() as service:
        async with service.session("ann") as session:
            async with service.session("ann"):
                turn = session.turn("x")
                await anext(turn)
            assert [event.item async for event in turn][:2] == ["a", " b"]


async def test_an_idle_session_keeps_its_history_for_a_while(autojump_clock):
    async with FakeLLM("{n}").open(idle_s=10.0) as service:

        async def ask() -> str:
            async with service.session("ann") as session:
                return [event.item async for event in session.turn("x")][1]

        began = trio.current_time()
        assert await ask() == "0"
        assert trio.current_time() == began  # leaving does not wait
        await trio.sleep(9)
        assert await ask() == "2"
        await trio.sleep(9)
        assert await ask() == "4"
        await trio.sleep(11)
        assert service.sessions == {}
        assert await ask() == "0"


async def test_an_idle_session_ends_with_its_service(autojump_clock):
    began = trio.current_time()
    async with FakeLLM("{n}").open(idle_s=1000.0) as service:
        async with service.session("ann") as session:
            async for _ in session.turn("x"):
                pass
    assert trio.current_time() == began
    assert service.sessions == {}


async def test_a_turn_goes_on_while_its_session_is_idle(autojump_clock):
    """An HTTP client may come back: until `idle_s` is over the turn runs; then it is ended."""
    async with Pause(5.0).open(idle_s=10.0) as service:
        async with service.session("ann") as session:
            turn = session.turn("x")
            await anext(turn)
        await trio.sleep(6)
        async with service.session("ann") as again:
            assert again.place is session.place
            assert (await anext(turn)).item == "x"


async def test_no_more_sessions_than_the_service_may_hold(autojump_clock):
    async with Pause(0.0).open(max_sessions=2) as service:
        async with service.session("ann"), service.session("bob"):
            with pytest.raises(SessionsFull, match=r"All sessions are taken \(max_sessions=2\)") as caught:
                async with service.session("cy"):
                    pass
            assert caught.value.limit == 2
            async with service.session("ann"):
                pass
        async with service.session("cy"), service.session("dee"):
            assert sorted(service.sessions) == ["cy", "dee"]


@pytest.mark.parametrize("idle_s", [0.0, 10.0])
async def test_a_session_whose_stage_does_not_leave_keeps_its_room(autojump_clock, idle_s):
    """Also when its user has left for good, and when its room is needed: else each such turn would cost some more."""

    @module
    class Stubborn(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            with trio.CancelScope(shield=True):
                await trio.sleep(1000.0)
            return text

    async with Stubborn().open(max_sessions=2, idle_s=idle_s, cleanup_s=1.0) as service:
        for user in ("ann", "bob"):
            with pytest.raises(StageStuck):
                async with service.session(user) as session, session.turn("x"):
                    await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(SessionsFull):
                async with service.session("cy"):
                    pass
            await trio.sleep(20.0)
        assert len(service.sessions.all) == 2
        await trio.sleep(1000.0)
        assert service.sessions.all == []
        async with service.session("cy"):
            pass


async def test_many_sessions_come_and_go(autojump_clock):
    async with FakeLLM("{}", 0.01).open() as service:

        async def user(name: str) -> None:
            async with service.session(name) as session:
                assert [event.item async for event in session.turn(name)][1] == name

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(user, f"u{number}")
        assert service.sessions == {}


async def test_blocking_modules_of_all_users_share_so_many_threads():
    at_once, most, counting = 0, 0, threading.Lock()

    @module(blocking=True)
    def slow(text: str) -> str:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002)
        with counting:
            at_once -= 1
        return text

    async def ask(service: Service, user: str) -> None:
        async with service.session(user) as session, session.turn("hi") as events:
            assert [event.type async for event in events][-1] == "turn.ended"

    async with slow.open(threads=2) as service, trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, service, f"u{number}")
    assert most == 2


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError):
        Limits(ear=0)
    with pytest.raises(ValueError):
        Limits(capacity=-1)
    with pytest.raises(TypeError):
        Limits(speed=3)  # type: ignore[call-arg]


# ---- collect


async def test_collect_returns_all_that_comes_out_in_order(autojump_clock):
    flow = FakeLLM("{} b") >> Held("!")
    assert await flow.collect(["1", "2"]) == ["1!", " b!", "2!", " b!"]
    assert await flow.collect([]) == []
    assert await flow.collect(iter(["1"])) == ["1!", " b!"]
    assert happened().count("opened !") == happened().count("closed !") == 3


async def test_collect_takes_more_items_than_joins_and_ear_hold(autojump_clock):
    assert await (Pause(0.0) >> Pause(0.0)).collect(range(500), capacity=1, ear=1) == list(range(500))


async def test_collect_takes_async_iterables_as_they_come(autojump_clock):
    async def slowly() -> AsyncIterator[str]:
        for text in "abc":
            await trio.sleep(1)
            yield text

    began = trio.current_time()
    assert await Pause(0.5).collect(slowly()) == ["a", "b", "c"]
    assert trio.current_time() == began + 3.5


@attrs.frozen
class Style:
    mark: str = "!"


@module(options=Style, key="STYLE")
class Marked(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text + turn.options[Style].mark


async def test_collect_takes_options(autojump_clock):
    assert await Marked().collect(["x"], options={"STYLE": {"mark": "?"}}) == ["x?"]
    with pytest.raises(InputError, match=r"options\.STYLE\.colour: unknown"):
        await Marked().collect(["x"], options={"STYLE": {"colour": 1}})


async def test_collect_raises_what_the_stages_raised_as_a_flat_group(autojump_clock):
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="bad luck")) as caught:
        await (Pause(0.0) >> Failing("bad luck")).collect(["x"])
    assert isinstance(caught.value, TurnFailed)
    assert caught.value.exceptions[0].__notes__ == ["in stage 'failing'"]


async def test_collect_s_group_can_be_split(autojump_clock):
    caught: list[BaseException] = []
    try:
        await Failing().collect(["x"])
    except* RuntimeError as group:
        caught.append(group)
    assert [type(group) for group in caught] == [TurnFailed]


async def test_collect_raises_all_that_was_raised(autojump_clock):
    @module
    class Sulk(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("sulk")

    with pytest.RaisesGroup(RuntimeError, ValueError):
        await (Sulk() | Pause(1.0) >> Failing()).collect(["x"])


async def test_collect_does_not_log_what_it_raises(autojump_clock, caplog):
    with pytest.RaisesGroup(RuntimeError):
        await Failing().collect(["x"])
    assert caplog.text == ""


async def test_collect_ends_when_the_flow_ends_before_its_input(autojump_clock):
    @module
    class First(Module[str, str]):
        """Takes one item, and has had enough."""

        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            await outbox.send(await inbox.receive())

    endless = (str(number) for number in iter(int, 1))
    assert await First().collect(endless) == ["0"]
    assert await (Pause(0.0) >> First()).collect(str(number) for number in iter(int, 1)) == ["0"]

    async def never() -> AsyncIterator[str]:
        yield "a"
        await trio.sleep_forever()

    assert await First().collect(never()) == ["a"]


async def test_collect_raises_what_the_items_raise_as_it_is(autojump_clock):
    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise OSError("no microphone")

    with pytest.raises(OSError, match="no microphone"):
        await Held("a").collect(broken())
    assert happened()[-1] == "closed a"
    with pytest.raises(ItemTypeError, match="held takes str, but was given 5"):
        await Held("a").collect(["x", 5])  # type: ignore[list-item]


async def test_collect_of_a_turn_that_takes_too_long_raises_a_timeout(autojump_clock):
    with pytest.RaisesGroup(TimeoutError) as caught:
        await Pause(10.0).collect(["x"], turn_s=5.0)
    assert isinstance(caught.value, TurnFailed)


async def test_collect_can_be_cancelled(autojump_clock):
    with trio.move_on_after(1) as scope:
        await (Held("a") >> Pause(10.0)).collect(["x"])
    assert scope.cancelled_caught
    assert happened()[-1] == "closed a"


def test_collect_runs_from_a_script():
    assert trio.run(Held("!").collect, ["x"]) == ["x!"]


async def test_a_full_service_ends_the_session_that_nobody_has_held_for_longest(autojump_clock):
    async with FakeLLM().open(max_sessions=2, idle_s=1000.0) as service:
        for user in ("ann", "bob"):
            async with service.session(user):
                await trio.sleep(1)
        async with service.session("ann"), service.session("cy"):
            assert set(service.sessions) == {"ann", "cy"}
            with pytest.raises(SessionsFull):
                async with service.session("bob"):
                    pass
