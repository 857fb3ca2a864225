"""A server in a process of its own as its misusers and their victims see it, and as the system does."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

import attrs
import h11
import trio
from programs import killable

from ezflow.client import Client

WITHIN_S = 30.0
PACE_S = 0.03  # between two turns of a witness: it asks no oftener than a user may
PROGRAM = Path(__file__).with_name("abused_server.py")
LINGER_0 = struct.pack("ii", 1, 0)
CLOSED, LISTENING = "07", "0A"


@attrs.frozen
class Figures:
    """What there is of what a client could leave behind."""

    sessions: int
    holders: int
    running: int
    tasks: int
    descriptors: int
    threads: int


class Abused:
    """The running server."""

    def __init__(self, url: str, pid: int, log: Path) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.pid = pid
        self._log = log
        self._clients = list[Raw]()

    async def connect(self) -> Raw:
        """A client, to be closed at the end, if not before."""
        raw = Raw(await trio.open_tcp_stream("127.0.0.1", self.port))
        self._clients.append(raw)
        return raw

    def hang_up(self) -> None:
        """Be gone, all clients that are not."""
        for raw in self._clients:
            raw.stream.socket.close()
        self._clients.clear()

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def memory(self, field: str = "VmRSS") -> float:
        """MiB: what it holds now, or the most that it held (VmHWM) since `forget_peak`."""
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    def forget_peak(self) -> None:
        with suppress(OSError):  # where the system does not let us, the peak is that of all attacks so far
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    async def lag_s(self) -> float:
        """The most that its event loop has been late."""
        late: float = json.loads(await self.get("/debug/tree"))["loop"]["max_lag_s"]
        return late

    def connections(self) -> set[int]:
        """The ports of the clients whose connections it holds, be the clients there or not."""
        ours = f":{self.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # A connection without an inode belongs to no process any more: the kernel sends what is left to be sent.
        held = [row[2] for row in rows if row[1].endswith(ours) and row[3] not in (CLOSED, LISTENING) and row[9] != "0"]
        return {int(remote.rpartition(":")[2], 16) for remote in held}

    async def figures(self) -> Figures:
        metrics = (await self.get("/metrics")).decode()
        running = sum(map(float, re.findall(r"^ezflow_turns_running\{.*\} (\S+)$", metrics, re.MULTILINE)))
        sessions, holders = (
            float(re.findall(rf"^{name} (\S+)$", metrics, re.MULTILINE)[0])
            for name in ("ezflow_sessions", "ezflow_session_holders")
        )
        tasks = json.loads(await self.get("/echo/tasks"))["tasks"]
        proc = f"/proc/{self.pid}"
        found = (sessions, holders, running, tasks, len(os.listdir(f"{proc}/fd")), len(os.listdir(f"{proc}/task")))
        return Figures(*map(int, found))

    async def becomes(self, before: Figures) -> None:
        """Wait until there is no more than before. Raises: AssertionError."""
        now = before
        with trio.move_on_after(WITHIN_S):
            while True:
                now = await self.figures()
                if all(value <= least for value, least in zip(attrs.astuple(now), attrs.astuple(before), strict=True)):
                    return
                await trio.sleep(0.02)
        raise AssertionError(f"left behind: {now}, and before there was {before}")

    async def get(self, path: str) -> bytes:
        """The body of an answer, on a connection of its own."""
        raw = await self.connect()
        try:
            await raw.say(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
            http = h11.Connection(h11.CLIENT)
            http.send(h11.Request(method="GET", target=path, headers=[("Host", "localhost")]))
            body = b""
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http.receive_data(await raw.stream.receive_some())
                elif isinstance(event, h11.Data):
                    body += event.data
            return body
        finally:
            await trio.aclose_forcefully(raw.stream)
            while raw.port in self.connections():  # noqa: ASYNC110  (it is none of those that are looked for)
                await trio.sleep(0.001)


class Raw:
    """A client that sends bytes as they are, and may leave in any way."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.port: int = stream.socket.getsockname()[1]
        self.heard = bytearray()

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hears(self, words: bytes) -> None:
        """Read until these bytes have come."""
        while words not in self.heard:
            piece = await self.stream.receive_some()
            assert piece, f"{words!r} did not come: {bytes(self.heard[-500:])!r}"
            self.heard += piece
        del self.heard[: self.heard.index(words) + len(words)]

    async def rest(self) -> bytes:
        """All that comes until the server ends the connection, the end of it if that is much."""
        with suppress(trio.BrokenResourceError):
            async for piece in self.stream:
                self.heard += piece
                del self.heard[:-4096]
        return bytes(self.heard)

    async def leave(self) -> None:
        """By FIN: say no more, and listen until the server has closed."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_eof()
        await self.rest()
        await self.stream.aclose()

    async def reset(self) -> None:
        """By RST, as a machine does whose program has died."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        await self.stream.aclose()


@attrs.define
class Witness:
    """Users who use the server as one should, meanwhile: a turn after the other, and a live turn that goes on."""

    server: Abused = attrs.field(repr=False)
    turns: int = 0
    worst_s: float = 0.0

    async def ask(self) -> None:
        """Turns of a user, one after the other."""
        async with Client(self.server.url, user="witness") as client:
            while True:
                begun = perf_counter()
                with trio.fail_after(WITHIN_S):
                    events = [event async for event in client.of("voice").turn("hello", entry="fake_llm")]
                assert [event.seq for event in events] == list(range(len(events)))
                assert "".join(event.item for event in events if event.type == "text") == "You said hello."
                assert events[-1].reason == "done"
                self._done(begun)
                await trio.sleep(PACE_S)

    async def talk(self) -> None:
        """One live turn of another, of which no event is lost."""
        async with Client(self.server.url, user="talker") as client, client.of("echo").live() as live:
            assert (await anext(live)).type == "turn.started"
            number = 0
            while True:
                begun, number = perf_counter(), number + 1
                with trio.fail_after(WITHIN_S):
                    await live.send(str(number))
                    event = await anext(live)
                assert (event.turn, event.seq, event.item) == (1, number, str(number))
                self._done(begun)
                await trio.sleep(PACE_S)

    def _done(self, begun: float) -> None:
        self.turns += 1
        self.worst_s = max(self.worst_s, perf_counter() - begun)


@asynccontextmanager
async def abused(folder: Path) -> AsyncIterator[Abused]:
    """The server. At the end it must have logged nothing, and end in order on SIGTERM."""
    log = folder / "log"
    async with killable([sys.executable, str(PROGRAM)], log=log) as (url, process):
        server = Abused(url, process.pid, log)
        try:
            async with Client(server.url) as client, client.of("echo").live() as live:
                await live.begun()  # what a server begins with its first WebSocket stays
            with trio.fail_after(WITHIN_S):
                while server.connections() or (await server.figures()).sessions:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            yield server
            process.terminate()
            with trio.fail_after(WITHIN_S):
                assert await process.wait() == 0
            assert server.log == ""
        finally:
            server.hang_up()


@asynccontextmanager
async def witnessed(server: Abused) -> AsyncGenerator[Witness, None]:
    """What is done to the server in the block harms no user's turns, and afterwards nothing is left of it."""
    before = await server.figures()
    witness = Witness(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(witness.ask)
        nursery.start_soon(witness.talk)
        yield witness
        turns = witness.turns
        with trio.fail_after(WITHIN_S):  # they are served as before
            while witness.turns < turns + 4:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    await server.becomes(before)
