"""`ezflow serve` as a process of its own, and clients of it that are in the middle of their turns."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ezflow.client import Client, ClientError, Closed

WITHIN_S = 60.0  # what only a machine that stands still exceeds


class Process:
    """A server's process: what it has said so far, what it holds, and its end."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said = ""
        self.url = ""
        self._more = trio.Event()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu_s(self) -> float:
        """The processor's time that it has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def may_open(self, descriptors: int) -> None:
        """How many descriptors it may have from here on; what is open stays open."""
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (descriptors, hard))

    async def until(self, words: str, times: int = 1) -> None:
        """Wait until it has said that (a regular expression) so often. Raises: AssertionError if it ends before."""
        with trio.fail_after(WITHIN_S):
            while len(re.findall(words, self.said)) < times:
                assert self._more is not None, f"it has ended without {words!r}:\n{self.said}"
                await self._more.wait()

    async def ended(self) -> int:
        """Its exit code, when it and all that it has started are gone."""
        with trio.fail_after(WITHIN_S):
            code = await self.process.wait()
            while self._more is not None:
                await self._more.wait()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return code
        raise AssertionError("it has left a process behind")

    async def terminate(self) -> None:
        """Send SIGTERM, and wait until it says that it has heard."""
        self.process.send_signal(signal.SIGTERM)
        await self.until("Shutting down")

    async def listen(self) -> None:
        """Take what it says, to its end."""
        assert self.process.stdout is not None
        async for piece in self.process.stdout:
            self.said += piece.decode(errors="replace")
            self._more.set()
            self._more = trio.Event()
        more, self._more = self._more, None  # type: ignore[assignment]
        more.set()


@asynccontextmanager
async def started(
    flow: str, folder: Path, *options: str, said_to: str = "", **settings: Any
) -> AsyncGenerator[Process, None]:
    """The process of `ezflow serve` on this flow, which need not listen yet. Leaving the block kills what is left.

    With `settings`, which a command line cannot all say, it is one of a program that calls `ezflow.serve`. `said_to`: a
    file for all that it says and logs, which is not heard then.
    """
    file = folder / "pipeline.py"
    file.write_text(flow)
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--no-playground", *options]
    if settings:
        file.write_text(f"{flow}\nimport ezflow\nezflow.serve(flow, port=0, **{settings!r})\n")
        command = [sys.executable, str(file)]
    if said_to:
        command = ["sh", "-c", f'exec "$@" > {said_to} 2>&1', "sh", *command]
    process = await trio.lowlevel.open_process(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # with what it starts it is a group, and can be seen and ended as one
    )
    server = Process(process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.listen)
        try:
            yield server
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def served(
    flow: str, folder: Path, *options: str, port: int = 0, **settings: Any
) -> AsyncGenerator[Process, None]:
    """The same, listening."""
    async with started(flow, folder, "--port", str(port), *options, **settings) as server:
        await server.until(r"Listening on \S+ ")
        server.url = re.search(r"Listening on (\S+) ", server.said)[1]  # type: ignore[index]
        yield server


class Clients:
    """Clients of a server, in the middle of a turn each, and how the turns end.

    `kinds` says how many there are of each kind and what they say. Of the kind `http…` they do it over HTTP, of
    `live…` over a WebSocket; a `live-open` one has not ended its input.
    """

    def __init__(self, url: str, kinds: Mapping[str, tuple[int, str]]) -> None:
        self._says = {f"{kind} {number}": says for kind, (count, says) in kinds.items() for number in range(count)}
        self._clients = {name: Client(url, user=name) for name in self._says}
        self.ends: Counter[tuple[str, str]] = Counter()
        self.last_end = 0.0
        self._heard = 0
        self._more = trio.Event()

    def __len__(self) -> int:
        return len(self._clients)

    @asynccontextmanager
    async def in_turns(self) -> AsyncGenerator[None, None]:
        """Each is in its turn, of which it has heard a word. Leaving the block waits until all have ended."""
        async with AsyncExitStack() as stack:
            for client in self._clients.values():
                await stack.enter_async_context(client)
            async with trio.open_nursery() as nursery:
                with trio.fail_after(WITHIN_S):
                    async with trio.open_nursery() as starting:
                        for name in self._clients:
                            starting.start_soon(nursery.start, self._turn, name)
                yield
                nursery.cancel_scope.deadline = trio.current_time() + WITHIN_S

    async def hear(self, words: int) -> None:
        """Wait until they have together heard so many words more."""
        enough = self._heard + words
        with trio.fail_after(WITHIN_S):
            while self._heard < enough:
                self._more = trio.Event()
                await self._more.wait()

    async def _turn(self, name: str, task_status: Any) -> None:
        client, kind = self._clients[name], name.split()[0]
        try:
            if kind.startswith("http"):
                await self._hear(client.turn(self._says[name]), kind, task_status)
            else:
                async with client.live() as live:
                    await live.send(self._says[name])
                    if kind != "live-open":
                        await live.end()
                    await self._hear(live, kind, task_status)
        except Closed as closed:
            self._note(kind, f"closed {closed.code}")
        except ClientError as error:
            self._note(kind, repr(error))

    async def _hear(self, events: Any, kind: str, task_status: Any) -> None:
        async for event in events:
            if event.type == "text":
                self._heard += 1
                self._more.set()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
            elif event.type == "turn.ended":
                self._note(kind, event.reason)

    def _note(self, kind: str, how: str) -> None:
        self.ends[kind, how] += 1
        self.last_end = trio.current_time()
