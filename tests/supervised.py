"""`ezflow serve --workers` and `--reload` as processes of their own, for tests that look at them from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from ezflow.client import Client, Received
from ezflow.server.workers import Supervisor

WITHIN_S = 60.0

# Tells which process answers. It stays for ever, waits for a file, dies, or heeds nothing.
FLOW = """
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from ezflow import Module, Turn, module


@module
class Talks(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield f"{os.getpid()}"
        match text.split():
            case ["stay"]:
                await trio.sleep_forever()
            case ["wait", path]:
                await there(path)
            case ["die"]:
                os._exit(3)
            case ["block", path, mark]:
                await there(path)
                Path(mark).touch()
                time.sleep(1000)


async def there(path: str) -> None:
    while not Path(path).exists():
        await trio.sleep(0.02)


flow = Talks()
"""


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[list[int]]:
    """A supervisor in this process. Leaving the block waits for its end; then its exit code is in the list."""
    codes: list[int] = []

    async def run() -> None:
        codes.append(await supervisor.run())

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield codes


@attrs.define
class Supervised:
    """A supervisor, and what it and its workers have said."""

    process: trio.Process
    said: str = ""
    _more: trio.Condition = attrs.field(factory=trio.Condition)

    async def hear(self, stream: trio.abc.ReceiveStream) -> None:
        async for piece in stream:
            self.said += piece.decode()
            async with self._more:
                self._more.notify_all()

    async def until(self, pattern: str, times: int = 1) -> re.Match[str]:
        """The match of what is said that many times."""
        async with self._more:
            while len(found := list(re.finditer(pattern, self.said))) < times:
                await self._more.wait()
        return found[times - 1]

    async def urls(self, workers: int) -> list[str]:
        """Its own, and those of its workers, once it listens."""
        await self.until(rf"(Listening on \S+[^$]*){'Workers: .*' if workers else ''}\n")
        return re.findall(r"http://[\d.]+:\d+(?=[ ,\n])", self.said)

    async def ended(self) -> int:
        return await self.process.wait()

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)


@asynccontextmanager
async def supervised(folder: Path, *options: str, flow: str | None = FLOW) -> AsyncIterator[Supervised]:
    """`ezflow serve pipeline.py` in that folder; ended by force, if the test has not ended it."""
    if flow is not None:
        (folder / "pipeline.py").write_text(flow)
    command = [sys.executable, "-m", "ezflow", "serve", "pipeline.py", "--no-playground", "--port", "0", *options]
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert process.stdout is not None
            server = Supervised(process)
            nursery.start_soon(server.hear, process.stdout)
            try:
                yield server
            except BaseException:
                print(server.said)
                raise
            finally:
                if process.returncode is None:
                    process.kill()  # its workers leave with it
                with trio.CancelScope(shield=True):
                    await process.wait()
            # Not before all that hold its standard output have left.


async def ask(url: str, text: str = "", user: str = "ann") -> list[str]:
    """The texts of a turn."""
    async with Client(url, user=user) as client:
        return [event.item async for event in client.turn(text) if event.type == "text"]


async def process_at(url: str) -> int:
    """Which process answers there."""
    return int((await ask(url))[0])


async def first_process(turn: Received) -> int:
    """Which process answers this turn, in which nothing was read before."""
    events = [await anext(turn) for _ in range(2)]
    return int(events[1].item)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(process: int) -> None:
    while is_alive(process):  # noqa: ASYNC110
        await trio.sleep(0.02)
