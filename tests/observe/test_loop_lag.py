"""ezflow/observe/lag.py: how late the event loop is, and who holds it up. All here runs on the real clock."""

from __future__ import annotations

import logging
import re
import threading
import time

import pytest
import trio

from ezflow import Inbox, Module, Outbox, Turn, module
from ezflow.observe.lag import BEAT_S, Lag
from ezflow.service import Limits, open_flows
from ezflow.testing import Pause

BLOCK_S = 0.1


@module
class Blocks(Module[str, str]):
    """Sleeps on the event loop for so many seconds."""

    for_s: float = 0.6

    async def process(self, text: str, turn: Turn) -> str:
        time.sleep(self.for_s)  # noqa: ASYNC251  (the fault that is looked for)
        return text


@module
class BlocksInATaskOfItsOwn(Module[str, str]):
    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        async for _ in inbox:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sleep)

    async def sleep(self) -> None:
        time.sleep(0.6)  # noqa: ASYNC251


@module
class HoldsTheLock(Module[str, str]):
    """Computes in one call of C code that lets no other thread run."""

    async def process(self, text: str, turn: Turn) -> str:
        end = time.monotonic() + 0.5
        size = 20
        while time.monotonic() < end:
            re.match(r"(a+)+$", "a" * size + "b")
            size += 1
        return text


async def beats(lag: Lag, count: int) -> None:
    """Wait until it has measured so often."""
    with trio.fail_after(20):
        while lag.late.count < count:  # noqa: ASYNC110  (a count, not an event)
            await trio.sleep(BEAT_S / 4)


async def watched(lag: Lag, flow, turns: int = 1) -> None:
    async with open_flows({"voice": flow}, Limits()) as services, trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await beats(lag, 1)
        for _ in range(turns):
            async with services["voice"].session("ann") as session:
                async for _ in session.turn("x"):
                    pass
            await beats(lag, lag.late.count + 2)
        nursery.cancel_scope.cancel()


def held_up(caplog) -> list[str]:
    return [message for message in caplog.messages if "held up" in message]


async def test_an_idle_loop_is_on_time_and_nobody_is_named(caplog):
    lag = Lag(BLOCK_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await beats(lag, 4)
        nursery.cancel_scope.cancel()
    assert lag.late.count >= 4
    assert lag.late.total >= 0.0


async def test_a_module_that_blocks_the_loop_is_named_with_its_stage_and_line(caplog):
    lag = Lag(BLOCK_S)
    await watched(lag, Pause(0.0) >> Blocks())
    (said,) = held_up(caplog)
    assert re.search(
        r"held up, for 0\.\d\d s by now, by stage blocks of voice \(Blocks\), at test_loop_lag\.py:\d+ pro", said
    )
    assert "time.sleep(self.for_s)" in said
    assert "unrolled_run" not in said  # what is trio's is of no use to the reader
    (over,) = [message for message in caplog.messages if "goes on" in message]
    assert 0.4 < float(re.search(r"after (\S+) s", over)[1]) < 5
    assert lag.blocks >= 1
    assert lag.max_s > 0.4


async def test_a_module_that_blocks_in_a_task_of_its_own_is_named_by_its_class(caplog):
    await watched(Lag(BLOCK_S), BlocksInATaskOfItsOwn())
    (said,) = held_up(caplog)
    assert "by BlocksInATaskOfItsOwn, at test_loop_lag.py" in said


async def test_a_call_that_lets_no_thread_run_is_named_when_it_returns(caplog):
    await watched(Lag(BLOCK_S), HoldsTheLock())
    assert "stage holds_the_lock of voice (HoldsTheLock)" in held_up(caplog)[0]


async def test_the_same_culprit_is_not_named_again_at_once(caplog):
    lag = Lag(BLOCK_S)
    await watched(lag, Blocks(0.4), turns=3)
    assert len([said for said in held_up(caplog) if "stage blocks" in said]) == 1
    assert lag.blocks >= 3


async def test_many_tasks_that_are_late_together_blame_none_of_them(caplog):
    async def busy(until: float) -> None:
        while time.monotonic() < until:
            time.sleep(0.02)  # noqa: ASYNC251
            await trio.lowlevel.checkpoint()

    lag = Lag(BLOCK_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await beats(lag, 1)
        async with trio.open_nursery() as tasks:
            for _ in range(40):
                tasks.start_soon(busy, time.monotonic() + 1.0)
        nursery.cancel_scope.cancel()
    assert held_up(caplog)
    assert all("too much to do" in said for said in held_up(caplog))


async def test_the_most_is_told_once_and_since_the_start_for_ever(caplog):
    lag = Lag(0.0)
    await watched(lag, Blocks(0.3))
    assert lag.take_max_s() == lag.max_s > 0.1
    assert lag.take_max_s() == 0.0
    assert held_up(caplog) == []  # 0 is for never


async def test_its_thread_ends_with_it():
    def watchdogs() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "ezflow-watchdog"]

    lag = Lag(BLOCK_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await beats(lag, 1)
        (thread,) = watchdogs()
        assert not thread.daemon
        nursery.cancel_scope.cancel()
    assert watchdogs() == []


@pytest.fixture(autouse=True)
def warnings_alone(caplog):
    caplog.set_level(logging.WARNING, logger="ezflow.server")
