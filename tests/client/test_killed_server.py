"""A server's process that dies in mid-turn: an error with a type, whatever the client was doing."""

from __future__ import annotations

import sys

import pytest
import trio
from programs import killable

from ezflow.client import Client, Closed, ConnectFailed

FLOW = """
from collections.abc import AsyncIterator
import trio
from ezflow import Module, Turn, module

@module
class Talks(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text
        await trio.sleep_forever()

flow = Talks()
"""


async def test_a_turn_whose_server_is_killed_raises_closed(tmp_path):
    file = tmp_path / "pipeline.py"
    file.write_text(FLOW)
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--port", "0"]
    async with killable(command) as (url, process), Client(url, user="ann") as client:
        bob = Client(url, user="bob")
        async with client.turn("hello") as turn, bob, bob.live() as live:
            await live.send("hello")
            for events in (turn, live):
                assert [(await anext(events)).type for _ in range(2)] == ["turn.started", "text"]
            process.kill()
            with trio.fail_after(10):
                with pytest.raises(Closed) as closed:
                    await anext(turn)
                assert closed.value.code is None
                with pytest.raises(Closed) as closed:
                    await anext(live)
                assert closed.value.code == 1006
        await process.wait()  # until then its port may still take a connection, and reset it
        with pytest.raises(ConnectFailed):
            await client.ready()
