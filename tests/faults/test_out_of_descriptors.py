"""A server that has no descriptor left: it goes on with what it has, says so, and takes up who waited."""

from __future__ import annotations

import trio
from processes import WITHIN_S, Clients, served
from reachable import Post, becomes

FLOW = """
from collections.abc import AsyncIterator
import trio
from ezflow import Module, Turn, module

@module
class Opens(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "begun"
        if text == "opens":  # as a module does that asks a server
            async with await trio.open_tcp_stream("127.0.0.1", 1):
                pass
        while text == "goes on":
            await trio.sleep(0.02)
            yield "word "

flow = Opens()
"""


async def test_without_descriptors_turns_go_on_and_who_waits_is_served_when_there_are_some(tmp_path, count, is_long):
    rounds = 30 if is_long else 3
    async with served(FLOW, tmp_path, "--grace", "0.5") as server:
        since = trio.current_time()
        others = Clients(server.url, {"http": (5, "goes on"), "live": (5, "goes on")})
        async with others.in_turns():
            held = server.descriptors
            for _ in range(rounds):
                server.may_open(held + 2)
                idle = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(20)]
                waits = [await Post.to(server, "/turns", {"user": f"late {n}", "input": "hello"}) for n in range(5)]
                await server.until("accept returned EMFILE")
                began, cpu_s = trio.current_time(), server.cpu_s
                await others.hear(200)
                assert server.cpu_s - cpu_s < 0.7 * (trio.current_time() - began)  # it waits, and does not spin
                assert server.descriptors == held + 2
                for stream in idle:
                    await stream.aclose()
                for post in waits:
                    assert (await last_of(post))["reason"] == "done"
            # One descriptor left: for the connection, and not for what a stage opens.
            await becomes(lambda: server.descriptors == held, "all of theirs are closed")
            server.may_open(held + 1)
            post = await Post.to(server, "/turns", {"user": "ann", "input": "opens"})
            assert (await last_of(post))["reason"] == "error"
            assert "Too many open files" in server.said.partition("stage opens failed")[2]
            assert not others.ends
            await server.terminate()
        assert await server.ended() == 0
    assert server.said.count("accept returned") <= 1 + (trio.current_time() - since) / 60
    count(rounds=rounds, turns_that_waited=5 * rounds)


async def last_of(post: Post) -> dict:
    """The last event of a turn."""
    last = {}
    try:
        with trio.fail_after(WITHIN_S):
            while (event := await post.line()) is not None:
                last = event
    finally:
        await post.vanish()
    return last
