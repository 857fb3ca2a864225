"""Modules that break the rules, in a server's process: they are named, and cost nobody but their own users anything."""

from __future__ import annotations

import re
import signal
from contextlib import asynccontextmanager

import pytest
import trio
from processes import WITHIN_S, Clients, Process, served, started
from reachable import Post

from ezflow import Module, Turn, TurnFailed, module
from ezflow.service import open_flow

# What each does when it is told its name.
FLOW = """
import threading
import time
from collections.abc import AsyncIterator
import trio
from ezflow import Module, Turn, module

async def fail() -> None:
    raise ValueError("in a task of nobody's")

@module
class Misbehaves(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "begun"
        if text == "shields":
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        elif text == "swallows":
            while True:
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    await trio.lowlevel.cancel_shielded_checkpoint()
        elif text == "waits for a thread":
            await trio.to_thread.run_sync(time.sleep, 3600)
        elif text == "leaves a nursery open":
            nursery = await trio.open_nursery().__aenter__()
            nursery.start_soon(trio.sleep_forever)
        elif text == "leaves a scope open":
            trio.CancelScope().__enter__()
        elif text == "starts a thread":
            threading.Thread(target=time.sleep, args=(3600,), name="of-misbehaves").start()
        elif text == "blocks the loop":
            time.sleep(3600)
        elif text == "goes on":
            while True:
                await trio.sleep(0.02)
                yield "word "

flow = Misbehaves()
"""
STUBBORN = ("shields", "swallows", "waits for a thread")


async def turn(server: Process, user: str, says: str) -> list[dict]:
    events = []
    post = await Post.to(server, "/turns", {"user": user, "input": says})
    try:
        with trio.fail_after(WITHIN_S):
            while (event := await post.line()) is not None:
                events.append(event)
    finally:
        await post.vanish()
    return events


async def left_in(server: Process, user: str, says: str) -> None:
    """A turn whose client leaves when it is at work."""
    post = await Post.to(server, "/turns", {"user": user, "input": says})
    with trio.fail_after(WITHIN_S):
        while (await post.line())["type"] != "text":
            pass
    await post.vanish()


async def test_stages_that_do_not_leave_are_named_and_hold_up_neither_users_nor_the_end(tmp_path, count):
    """Each is named `cleanup_s` and a second after its turn was ended; its user's next turn works, in a new session."""
    async with served(FLOW, tmp_path, cleanup_s=0.2, grace_s=0.2, idle_s=3600.0) as server:
        others = Clients(server.url, {"http": (5, "goes on"), "live": (5, "goes on")})
        async with others.in_turns():
            for says in STUBBORN:
                await left_in(server, says, says)
            for says in STUBBORN:
                await server.until(rf"user '{says}', turn 1: misbehaves did not leave within 1\.2 s of being cancelled")
                assert (await turn(server, says, "hello"))[-1]["reason"] == "done"
            assert not others.ends
            await server.terminate()
        assert others.ends == {("http", "interrupted"): 5, ("live", "interrupted"): 5}
        assert await server.ended() == 1
        said = re.search(r"1.4 s after the signal (.*)", server.said)
        assert said is not None, server.said
        assert said[1].endswith("has not left: the process ends without it")
    count(stubborn_turns=len(STUBBORN), turns_beside_them=len(others))


async def test_a_nursery_or_a_scope_that_a_module_leaves_open_is_an_error_of_its_stage_alone(tmp_path, count, is_long):
    runs = 100 if is_long else 10
    async with served(FLOW, tmp_path, "--grace", "0.5", "--rate-burst", "1000") as server:
        others = Clients(server.url, {"http": (5, "goes on"), "live": (5, "goes on")})
        async with others.in_turns():
            for _ in range(runs):
                *_, error, ended = await turn(server, "ann", "leaves a nursery open")
                assert (error["stage"], ended["reason"]) == ("misbehaves", "error")
                assert "it has left a nursery open, in which there ran: 'trio.sleep_forever'" in error["message"]
                *_, error, ended = await turn(server, "ann", "leaves a scope open")
                assert (error["stage"], ended["reason"]) == ("misbehaves", "error")
                assert "it has left a cancel scope open" in error["message"]
                assert (await turn(server, "ann", "hello"))[-1]["reason"] == "done"
            assert not others.ends
            await server.terminate()
        assert await server.ended() == 0
    count(nurseries=runs, scopes=runs)


async def test_what_runs_in_a_nursery_that_is_left_open_ends_with_its_stage(autojump_clock):
    ended = []

    @module
    class Leaks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            for _ in range(2):
                nursery = await trio.open_nursery().__aenter__()
                nursery.start_soon(self.go_on)
            await trio.sleep(float(text))
            return text

        async def go_on(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                ended.append(trio.current_time())

    async with open_flow(Leaks()) as service, service.session("ann") as session:
        for runs_s in ("1", "inf"):  # to its end, and ended in the middle
            ended.clear()
            async with session.turn(runs_s) as turn:
                with trio.move_on_after(5):
                    events = [event async for event in turn]
                    assert [event.type for event in events[-2:]] == ["error", "turn.ended"]
            assert len(ended) == 2
            assert not session.place.tasks


async def test_what_a_module_raises_while_a_nursery_of_its_own_is_open_is_told_too(autojump_clock):
    @module
    class Breaks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            await trio.open_nursery().__aenter__()
            raise ValueError("the module's own error")

    with pytest.raises(TurnFailed) as failed:
        await Breaks().collect(["a"])
    assert [str(error).partition(",")[0] for error in failed.value.exceptions] == [
        "it has left a nursery open",
        "the module's own error",
    ]


async def test_nurseries_and_scopes_in_one_another_that_are_left_open_are_all_ended(autojump_clock):
    @module
    class Leaks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            for _ in range(2):
                trio.CancelScope().__enter__()
                nursery = await trio.open_nursery().__aenter__()
                nursery.start_soon(trio.sleep_forever)
            trio.move_on_after(float(text)).__enter__()
            await trio.sleep_forever()
            return text

    async with open_flow(Leaks()) as service, service.session("ann") as session:
        for gives_up_s in ("1", "inf"):  # the innermost of its scopes is cancelled, or the turn
            async with session.turn(gives_up_s) as turn:
                with trio.move_on_after(5):
                    events = [event async for event in turn]
                    errors = [(event.stage, event.error.message) for event in events if event.type == "error"]
                    assert [stage for stage, _ in errors] == ["leaks", "leaks"]
                    assert "'trio.sleep_forever', 'trio.sleep_forever'" in errors[0][1]
                    assert "a cancel scope open" in errors[1][1]
                    assert all("leave a generator that yields within one by" in message for _, message in errors)
            assert not session.place.tasks


async def test_what_a_task_raises_in_a_nursery_that_is_left_open_is_told_too(autojump_clock):
    @module
    class Leaks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            nursery = await trio.open_nursery().__aenter__()
            nursery.start_soon(self.fail)
            await trio.sleep(1)
            return text

        async def fail(self) -> None:
            raise ValueError(1)

    async with open_flow(Leaks()) as service, service.session("ann") as session:
        errors = [event.error.name async for event in session.turn("x") if event.type == "error"]
    assert errors == ["RuntimeError", "ValueError"]


async def test_a_thread_that_a_module_has_started_does_not_keep_the_process(tmp_path):
    async with served(FLOW, tmp_path) as server:
        assert (await turn(server, "ann", "starts a thread"))[-1]["reason"] == "done"
        await server.terminate()
        assert await server.ended() == 1
        assert "threads that a module has started do not end (of-misbehaves)" in server.said


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_blocked_loop_is_named_and_ends_with_the_signals(tmp_path, signals):
    """The loop cannot hear them: they are heard beside it. A second one waits for nothing."""
    settings = {"cleanup_s": 0.2, "grace_s": 0.2 if signals == 1 else 3600.0}
    async with served(FLOW, tmp_path, **settings) as server:
        post = await Post.to(server, "/turns", {"user": "ann", "input": "blocks the loop"})
        await server.until(r"the event loop is held up, .* by stage misbehaves \(Misbehaves\), at pipeline\.py:\d+ pro")
        server.process.send_signal(signal.SIGTERM)
        if signals == 2:
            with trio.fail_after(30):
                while "Stopped at once" not in server.said:
                    server.process.send_signal(signal.SIGTERM)
                    with trio.move_on_after(0.1):
                        await server.until("Stopped at once")
        assert await server.ended() == (1 if signals == 1 else -signal.SIGTERM)
        await post.vanish()
        if signals == 1:
            assert re.search(r"after the signal Misbehaves, at pipeline\.py:\d+ process, has not left", server.said)


OPENS = """
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
import trio
from ezflow import Module, Turn, module

@module
class Opens(Module[str, str]):
    how: str

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        print("opening", flush=True)
        if self.how == "in a thread":
            await trio.to_thread.run_sync(time.sleep, 3600)
        elif self.how == "on the loop":
            time.sleep(3600)
        else:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text

flow = Opens({how!r})
"""


async def test_a_module_that_hangs_while_it_opens_does_not_hold_up_the_end(tmp_path, count):
    named = {
        "in a thread": "Opens was not released within 0.2 s",
        "on the loop": "Opens, at pipeline",
        "under a shield": "Opens was not released within 0.2 s",
    }

    async def hangs(how: str) -> None:
        folder = tmp_path / how
        folder.mkdir()
        async with started(OPENS.replace("{how!r}", repr(how)), folder, cleanup_s=0.2, grace_s=0.2) as server:
            await server.until("opening")
            server.process.send_signal(signal.SIGTERM)
            assert await server.ended() == 1
            assert named[how] in server.said
            assert "Traceback" not in server.said
            count(runs=1, ended=1)

    async with trio.open_nursery() as nursery:
        for how in named:
            nursery.start_soon(hangs, how)


async def test_who_is_still_opening_is_said(autojump_clock, caplog):
    @module
    class Loads(Module[str, str]):
        @asynccontextmanager
        async def lifespan(self):
            await trio.sleep(25)
            yield

        async def process(self, text: str, turn: Turn) -> str:
            return text

    async with open_flow(Loads()):
        pass
    assert caplog.messages == [f"Loads: not open after {seconds} s, still waiting" for seconds in (10, 20)]
