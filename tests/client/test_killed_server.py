"""A server's process that dies in mid-turn: an error with a type, whatever the client was doing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

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


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[tuple[str, trio.Process]]:
    file = folder / "pipeline.py"
    file.write_text(FLOW)
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--port", "0"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(30):
            while not (found := re.search(rb"Listening on (http://\S+) ", said)):
                said += await process.stdout.receive_some()
        yield found[1].decode(), process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def test_a_turn_whose_server_is_killed_raises_closed(tmp_path):
    async with server(tmp_path) as (url, process), Client(url, user="ann") as client:
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
