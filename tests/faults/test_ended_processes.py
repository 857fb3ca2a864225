"""A server's process that is told to end, or killed, with forty clients in the middle of their turns."""

from __future__ import annotations

import trio
from processes import Clients, Process, served
from reachable import Socket

FLOW = """
import os
from collections.abc import AsyncIterator
import trio
from ezflow import Module, Turn, module

@module
class Talks(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "begun"
        while text != "hello" and not os.path.exists(text):
            await trio.sleep(0.05)
            yield "word "

flow = Talks()
flows = {"talk": flow}
"""
NOBODY = {"http": (20, "hello"), "live": (20, "hello")}  # with turns that have no end of their own


async def a_turn_each(server: Process) -> None:
    """The next turn of every client works."""
    clients = Clients(server.url, NOBODY)
    async with clients.in_turns():
        pass
    assert clients.ends == {("http", "done"): 20, ("live", "done"): 20}


async def test_told_to_end_it_lets_turns_finish_ends_the_others_and_leaves_its_port(tmp_path, count, is_long):
    """SIGTERM: what ends within the grace is done, what does not is told so, and the next server goes on."""
    kinds = {
        "http-ends": (10, "may_end"),
        "live-ends": (10, "may_end"),
        "http": (10, "for ever"),
        "live": (5, "for ever"),
        "live-open": (5, "for ever"),
    }
    port = 0
    for _ in range(10 if is_long else 1):
        (tmp_path / "may_end").unlink(missing_ok=True)
        async with served(FLOW, tmp_path, "--grace", "4", port=port) as server, trio.open_nursery() as nursery:
            port = server.port  # for all that follow
            await a_turn_each(server)
            idle = await Socket.connect(nursery, server, "talk", "idle")
            busy = await Socket.connect(nursery, server, "talk", "busy")
            await busy.send("start")
            await busy.send("input", data="for ever")
            clients = Clients(server.url, kinds)
            async with clients.in_turns():
                since = trio.current_time()
                await server.terminate()
                (tmp_path / "may_end").touch()
            assert await server.ended() == 0
            took_s = trio.current_time() - since
            assert clients.ends == {
                ("http-ends", "done"): 10,
                ("live-ends", "done"): 10,
                ("http", "interrupted"): 10,
                ("live", "interrupted"): 5,
                ("live-open", "interrupted"): 5,
            }
            assert await idle.event() is None
            while (event := await busy.event()) is not None:
                last = event
            assert (last["type"], last["reason"]) == ("turn.ended", "interrupted")
            assert [socket.closed_with for socket in (idle, busy)] == [1001, 1001]
            for socket in (idle, busy):
                await socket.vanish()
            assert "Traceback" not in server.said
        count(runs=1, turns=len(clients))
        print(f"{took_s:.2f} s from SIGTERM to the end of the process")
    async with served(FLOW, tmp_path, port=port) as server:
        await a_turn_each(server)


async def test_killed_it_ends_all_turns_at_once_and_the_next_server_takes_its_port(tmp_path, count, is_long):
    """SIGKILL: every client sees that the connection has broken off; no turn is left that waits."""
    port = 0
    for _ in range(20 if is_long else 2):
        async with served(FLOW, tmp_path, port=port) as server:
            port = server.port
            await a_turn_each(server)
            clients = Clients(server.url, {"http": (20, "for ever"), "live": (20, "for ever")})
            async with clients.in_turns():
                since = trio.current_time()
                server.process.kill()
            assert await server.ended() == -9
            assert clients.ends == {("http", "closed None"): 20, ("live", "closed 1006"): 20}
        count(kills=1, turns=len(clients))
        print(f"{clients.last_end - since:.3f} s from SIGKILL until the last of {len(clients)} clients knew")
    async with served(FLOW, tmp_path, port=port) as server:
        await a_turn_each(server)
