"""ezflow/observe/tree.py: what is read off the tasks, on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from ezflow import Flow, Inbox, Latest, Module, Outbox, StageStuck, Turn, module, ordered
from ezflow.observe.observer import Observer
from ezflow.observe.tree import STAGES, sessions
from ezflow.service import Limits, Service, open_flows
from ezflow.testing import FakeLLM, Pause


@asynccontextmanager
async def opened(flow: Flow[Any, Any], *, observe: bool, **limits: Any) -> AsyncIterator[tuple[Service, Any]]:
    """A service, and a function that gives its tree."""
    stages = {"voice": [stage.name for stage in flow.stages]}
    observer = Observer(stages, now=trio.current_time) if observe else None
    instruments = () if observer is None else (observer,)
    async with open_flows({"voice": flow}, Limits(instruments=instruments, **limits)) as services:
        service = services["voice"]

        async def tree(at_most: int = 100) -> dict[str, Any]:
            return await sessions(service.sessions.all, observer, at_most)

        yield service, tree


@pytest.mark.parametrize("observe", [True, False])
async def test_a_stage_waits_for_input_for_room_for_the_client_or_works(observe, autojump_clock):
    flow = Pause(0.0).named("blocked") >> Pause(0.0).named("told") >> Pause(0.0).named("idle")
    async with opened(flow.shown(), observe=observe, capacity=0, ear=1) as (service, tree):
        async with service.session("ann") as session, session.live() as live:
            await trio.testing.wait_all_tasks_blocked()
            assert waits(await tree()) == {"blocked": "input", "told": "input", "idle": "input"}
    flow = Pause(0.0).named("blocked") >> Pause(50.0).named("works")
    async with opened(flow, observe=observe, capacity=0) as (service, tree):
        async with service.session("ann") as session, session.live() as live:
            await live.send("a")
            await trio.sleep(1.0)
            await live.send("b")
            await trio.sleep(2.5)
            assert waits(await tree()) == {"blocked": "room", "works": None}
            (works,) = [it for it in stages(await tree()) if it["stage"] == "works"]
            assert works["at"].startswith("fakes.py:")
            assert works["at"].endswith(" process")
            if observe:
                assert [it["since_s"] for it in stages(await tree())] == [2.5, 3.5]
                assert [(it["items_in"], it["items_out"]) for it in stages(await tree())] == [(2, 1), (1, 0)]
            else:
                assert "since_s" not in works
    async with opened(FakeLLM("a b c d"), observe=observe, ear=2) as (service, tree):
        async with service.session("ann") as session, session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
            assert waits(await tree()) == {"fake_llm": "client"}
            assert turn(await tree())["ear"] == {"held": 2, "capacity": 2}


async def test_a_turn_tells_its_flow_its_age_and_when_its_time_is_over(autojump_clock):
    async with opened(Pause(50.0), observe=False, turn_s=60.0) as (service, tree):
        async with service.session("ann") as session, session.turn("x"):
            await trio.sleep(20.0)
            told = turn(await tree())
            assert (told["id"], told["flow"], told["age_s"], told["ends_in_s"]) == (1, "voice", 20.0, 40.0)
            assert not told["ending"]
    async with opened(Pause(50.0), observe=False) as (service, tree):
        async with service.session("ann") as session, session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
            assert turn(await tree())["ends_in_s"] is None


async def test_runs_of_latest_stand_apart_from_the_turns_own(autojump_clock):
    flow = Pause(0.0).named("front") >> Latest(Pause(9.0).named("one") >> Pause(0.0).named("two"))
    async with opened(flow, observe=True) as (service, tree):
        async with service.session("ann") as session, session.live() as live:
            for text in "ab":
                await live.send(text)
                await trio.sleep(1.0)
            runs = turn(await tree())["runs"]
            assert {run["run"]: [it["stage"] for it in run["stages"]] for run in runs} == {
                0: ["front"],
                2: ["one", "two"],
            }


async def test_joins_show_how_full_they_are(autojump_clock):
    async with opened(Pause(0.0) >> Pause(99.0), observe=False, capacity=4) as (service, tree):
        async with service.session("ann") as session, session.live() as live:
            for text in "abc":
                await live.send(text)
            await trio.testing.wait_all_tasks_blocked()
            pause = next(it for it in stages(await tree()) if it["stage"] == "pause_2")
            assert pause["join"] == {"held": 2, "capacity": 4}


async def test_an_idle_session_has_no_turn(autojump_clock):
    async with opened(Pause(1.0), observe=False, idle_s=60.0) as (service, tree):
        async with service.session("ann") as session:
            async for _ in session.turn("x"):
                pass
        await trio.sleep(5.0)
        told = await tree()
        assert told["list"] == [{"user": "ann", "holders": 0, "idle_s": 5.0, "turns": []}]
        assert (told["count"], told["busy"], told["holders"]) == (1, 0, 0)


async def test_the_oldest_turns_come_first_and_of_the_rest_the_number(autojump_clock):
    async with opened(Pause(999.0), observe=False, idle_s=999.0) as (service, tree), trio.open_nursery() as nursery:

        async def hold(user: str) -> None:
            async with service.session(user) as session:
                async for _ in session.turn("x"):
                    pass

        async with service.session("idle"):
            pass
        for user in ("first", "second", "third"):
            nursery.start_soon(hold, user)
            await trio.sleep(1.0)
        told = await tree(2)
        assert [it["user"] for it in told["list"]] == ["first", "second"]
        assert (told["count"], told["busy"], told["more"]) == (4, 3, 2)
        assert [it["user"] for it in (await tree())["list"]] == ["first", "second", "third", "idle"]
        nursery.cancel_scope.cancel()


async def test_a_stage_that_does_not_leave_is_shown_as_ending_with_its_line(autojump_clock, caplog):
    @module
    class Stubborn(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            with trio.CancelScope(shield=True):
                await trio.sleep(4.0)  # less than it may take
            return text

    async with opened(Stubborn(), observe=True) as (service, tree):
        async with service.session("ann") as session, trio.open_nursery() as nursery:
            async with session.turn("x") as events:
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(session.interrupt)
                await trio.sleep(1.0)
                told = turn(await tree())
                assert told["ending"]
                assert told["runs"][0]["stages"][0]["at"].startswith("test_tree.py:")
                async for _ in events:
                    pass


async def test_a_session_whose_stage_is_stuck_is_shown_beside_the_next_one_of_its_user(autojump_clock, caplog):
    @module
    class Stubborn(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            if text == "stuck":
                with trio.CancelScope(shield=True):
                    await trio.sleep(60.0)
            return text

    async with opened(Stubborn(), observe=False, cleanup_s=1.0, idle_s=999.0) as (service, tree):
        async with service.session("ann") as session:
            with pytest.raises(StageStuck):
                async with session.turn("stuck"):
                    await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(5.0)
        async with service.session("ann") as session:
            assert [event.reason async for event in session.turn("x")][-1] == "done"
            told = await tree()
            (stuck,) = told["list"][0]["turns"]
            assert [it["user"] for it in told["list"]] == ["ann", "ann"]
            assert (stuck["ending"], stuck["stuck_s"]) == (True, 5.0)
            assert [it["stage"] for it in stuck["runs"][0]["stages"]] == ["stubborn"]
            assert (told["count"], told["busy"], told["list"][1]["turns"]) == (2, 1, [])
            await trio.sleep(60.0)  # the stage leaves at last, and its session with it
            assert len((await tree())["list"]) == 1


async def test_a_stage_with_tasks_of_its_own_is_one_stage(autojump_clock):
    @module
    class Busy(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 5)
                nursery.start_soon(turn.reply, "more than the ear holds")
                nursery.start_soon(turn.reply, "and more")

    async with opened(Busy(), observe=True, ear=1) as (service, tree):
        async with service.session("ann") as session, session.turn("x"):
            await trio.testing.wait_all_tasks_blocked()
            # Known to the observer alone: its own task waits for its others.
            assert waits(await tree()) == {"busy": "client"}


async def test_a_turn_of_very_many_tasks_is_cut_short(autojump_clock):
    async with opened(ordered(Pause(9.0), STAGES + 50), observe=False) as (service, tree):
        async with service.session("ann") as session, session.live() as live:
            for number in range(STAGES + 50):
                await live.send(str(number))
            await trio.testing.wait_all_tasks_blocked()
            told = turn(await tree())
            assert len(stages(await tree())) == STAGES
            assert told["more_stages"] == 50


def turn(tree: dict[str, Any]) -> dict[str, Any]:
    (session,) = tree["list"]
    (found,) = session["turns"]
    return found


def stages(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [stage for run in turn(tree)["runs"] for stage in run["stages"]]


def waits(tree: dict[str, Any]) -> dict[str, str | None]:
    return {stage["stage"]: stage["waits_for"] for stage in stages(tree)}
