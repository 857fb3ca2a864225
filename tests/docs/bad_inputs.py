"""docs/bad-inputs.md, made from what a server really answers: `python -m tests.docs.bad_inputs` writes the page."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import h11
import trio
from trio_websocket import ConnectionClosed, connect_websocket_url

from ezflow import Audio, Flow, Module, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run
from ezflow.testing import FakeTTS

__all__ = ["PAGE", "SECTIONS", "produced"]

PAGE = Path(__file__).parents[2] / "docs" / "bad-inputs.md"
TOKEN = "a-token-of-more-than-16"
WITHIN_S = 20.0

HEAD = """# Bad inputs

What a server answers to what does not fit. Each line is produced by a test, `tests/docs/test_bad_inputs.py`, which
sends what stands there and holds the page against the answer (`python -m tests.docs.bad_inputs` writes it anew). The
server has this flow, whose stages are `0 counts` (takes sound), `1 tuned` (text, options under `LLM`) and `2 fake_tts`:

```
counts -> tuned -> fake_tts
```

Three rules hold everywhere. A refusal loses nothing: the user's running turn, open utterance or socket goes on. It says
where (`path`) and what was expected. No answer holds a traceback; what is a fault of the server itself is `500`
`InternalServerError` (over a WebSocket: closing code 1011) to the client, and the log has the rest.

A running turn reports what fails in it by an `error` event that names the stage; `docs/concepts.md` has that.
"""


@attrs.frozen
class TunedOptions:
    temperature: float = 0.7


@module
class Counts(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        return str(sound.samples)


@module(options=TunedOptions, key="LLM")
class Tuned(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class Waits(Module[str, str]):
    """Never ends a turn by itself."""

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("working")
        await trio.sleep_forever()
        return text


@module
class Stubborn(Module[str, str]):
    """Does not leave when it is cancelled, until `release` is set."""

    release: trio.Event

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("working")
        with trio.CancelScope(shield=True):
            await self.release.wait()
        return text


VOICE = Counts() >> Tuned() >> FakeTTS()
WAV_HEAD = base64.b64encode(b"RIFF....WAVE").decode()

Row = tuple[str, str, str]


class Server:
    def __init__(self, url: str, stop: trio.Event) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.stop = stop

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: bytes, **headers: str) -> AsyncIterator[Reply]:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            connection = h11.Connection(h11.CLIENT)
            fields = list({"Host": "localhost", "Content-Length": str(len(body)), **headers}.items())
            for event in (h11.Request(method=method, target=path, headers=fields), h11.Data(body), h11.EndOfMessage()):
                await stream.send_all(connection.send(event) or b"")
            reply = Reply(connection, stream)
            await reply.begin()
            yield reply

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[str, str]:
        """The status, with when to come again, and the body."""
        async with self.stream(method, path, body, **headers) as reply:
            text = (await reply.rest()).decode()
        again = reply.headers.get("retry-after")
        return f"{reply.status}, `Retry-After: {again}`" if again else str(reply.status), text

    async def row(self, sent: str, method: str, path: str, body: Any = b"", **headers: str) -> Row:
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return (sent, *await self.ask(method, path, data, **headers))

    @asynccontextmanager
    async def socket(self, query: str = "?user=ann", **options: Any) -> AsyncIterator[Any]:
        async with trio.open_nursery() as nursery:
            ws = await connect_websocket_url(nursery, f"ws{self.url.removeprefix('http')}/ws{query}", **options)
            yield ws
            await trio.aclose_forcefully(ws._stream)
            nursery.cancel_scope.cancel()


class Reply:
    def __init__(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        self._connection, self._stream = connection, stream
        self.status, self.headers = 0, {}

    async def _next(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._stream.receive_some())
        return event

    async def begin(self) -> None:
        head = await self._next()
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def piece(self) -> bytes:
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def rest(self) -> bytes:
        body = b""
        while piece := await self.piece():
            body += piece
        return body

    async def until(self, word: bytes) -> None:
        seen = b""
        while word not in seen:
            piece = await self.piece()
            assert piece, seen
            seen += piece


@asynccontextmanager
async def serving(flow: Flow[Any, Any] = VOICE, **settings: Any) -> AsyncIterator[Server]:
    stop = trio.Event()
    chosen = Settings(port=0, tokens=settings.pop("tokens", ()), grace_s=2.0, **settings)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(run, flow, chosen, say=lambda _: None, stop=stop))
        try:
            yield Server(url, stop)
        finally:
            stop.set()


async def turns() -> list[Row]:
    bodies: list[Any] = [
        b'{"user"',
        b"\xff\xfe",
        [],
        {"user": "ann"},
        {"user": "", "input": "x"},
        {"user": 5, "input": "x"},
        {"user": "ann", "input": "x", "entri": 1},
        {"user": "ann", "input": "x", "entry": 1.5},
        {"user": "ann", "input": "x", "entry": 7},
        {"user": "ann", "input": "x", "entry": "llm"},
        {"user": "ann", "input": 5, "entry": 1},
        {"user": "ann", "input": "not base64!"},
        {"user": "ann", "input": "AAAA"},
        {"user": "ann", "input": WAV_HEAD},
        {"user": "ann", "input": "x", "entry": 1, "options": {"TTS": {}}},
        {"user": "ann", "input": "x", "entry": 1, "options": {"LLM": {"temperature": "hot"}}},
        {"user": "ann", "input": "x", "entry": 1, "options": {"LLM": {"temperatur": 1}}},
    ]
    async with serving() as server:
        rows = [await server.row(shown(body), "POST", "/turns", body) for body in bodies]
        rows.append(
            await server.row(f"a user of {257} characters", "POST", "/turns", {"user": "x" * 257, "input": "x"})
        )
        of_ann = {"user": "ann", "input": "x", "entry": 1}
        rows.append(await server.row(f"{shown(of_ann)} to `/turns?user=bob`", "POST", "/turns?user=bob", of_ann))
    async with serving(max_body=1000) as server:
        rows.append(await server.row("1001 bytes, where `max_body` is 1000", "POST", "/turns", bytes(1001)))
    return rows


async def other_routes() -> list[Row]:
    async with serving() as server:
        return [
            await server.row("`GET /nowhere`", "GET", "/nowhere"),
            await server.row("`GET /turns`", "GET", "/turns"),
            await server.row("`GET /ws?user=ann`, which is no WebSocket handshake", "GET", "/ws?user=ann"),
            await server.row("`POST /interrupt` `{}`", "POST", "/interrupt", {}),
            await server.row("`GET /schema?of=everything`", "GET", "/schema?of=everything"),
            await server.row("`GET /history`", "GET", "/history"),
            await server.row("`GET /interrupt_talk`", "GET", "/interrupt_talk"),
            await server.row("`POST /awake?user=`", "POST", "/awake?user="),
            await server.row("`GET /heartbeat?user=` and 257 characters", "GET", f"/heartbeat?user={'x' * 257}"),
            ("a head that is not HTTP", await said(server, b"HELLO\r\n\r\n"), ""),
            ("a head of more than 16 KiB", await said(server, b"GET / HTTP/1.1\r\nA: " + b"a" * 17_000), ""),
        ]


async def ezpipe() -> list[Row]:
    bodies: list[Any] = [
        {"Input": "x"},
        {"user": 5, "Input": "x"},
        {"user": "ann"},
        {"user": "ann", "Input": "xyz"},
        {"user": "ann", "Input": "000000"},
        {"user": "ann", "Input": WAV_HEAD},
        {"user": "ann", "Input": "ENDASR"},
        {"user": "ann", "Input": 5},
        {"user": "ann", "Input": 5, "Entry": 1},
        {"user": "ann", "Input": "x", "Entry": 7},
        {"user": "ann", "Input": "x", "Entry": "1"},
        {"user": "ann", "Input": "x", "Entry": 1, "LLM": {"temperature": "hot"}},
        {"user": "ann", "Input": "x", "Entry": 1, "LLM": 5},
        {"user": "ann", "Input": "x", "Entry": 1, "temperature": "hot"},
        [],
        b'{"user"',
    ]
    async with serving() as server:
        return [await server.row(shown(body), "POST", "/input", body) for body in bodies]


async def frames() -> list[Row]:
    sent: list[Any] = [
        '{"type"',
        5,
        {},
        {"type": "stop"},
        {"type": "start", "entri": 1},
        {"type": "start", "entry": 7},
        {"type": "start", "options": {"LLM": {"temperature": "hot"}}},
        {"type": "start", "format": {"rate_hz": 0}},
        {"type": "input"},
        {"type": "input", "data": "AAAA"},
        {"type": "input", "data": "AAA=", "entry": 7},
        {"type": "played", "turn": 1, "seq": 1},
        b"",
        b"\0",
    ]
    rows: list[Row] = []

    async def ask(ws: Any, frame: Any) -> Row:
        await ws.send_message(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        return shown(frame), "error event", await ws.get_message()

    async with serving() as server, server.socket() as ws:
        await ws.get_message()
        rows.append(await ask(ws, {"type": "input", "data": "x"}))
        rows[0] = (f"{rows[0][0]}, before any `start`", *rows[0][1:])
        await ws.send_message('{"type":"start"}')
        assert "turn.started" in await ws.get_message()
        rows += [await ask(ws, frame) for frame in sent]
        await ws.send_message('{"type":"ping"}')
        assert await ws.get_message() == '{"type":"pong"}'
    async with serving(rate_per_s=0.01, rate_burst=1) as server, server.socket() as ws:
        await ws.get_message()
        _, answer, event = await ask(ws, {"type": "start"})
        rows.append(("a `start` beyond the user's rate", answer, event))
    async with serving(Stubborn(release := trio.Event()), cleanup_s=0.0) as server, server.socket() as ws:
        await ws.get_message()
        for message in ('{"type":"start"}', '{"type":"input","data":"x"}'):
            await ws.send_message(message)
        while "working" not in await ws.get_message():
            continue
        await ws.send_message('{"type":"start"}')
        while "StageStuck" not in (event := await ws.get_message()):
            continue
        rows.append(("a second `start` while a stage does not leave", "error event", event))
        release.set()
    return rows


async def closings() -> list[Row]:
    rows: list[Row] = []

    async def closed(server: Server, sent: str, query: str, message: str | bytes | None = None, **more: Any) -> None:
        async with server.socket(query, **more) as ws:
            if message is not None:
                assert "ready" in await ws.get_message()
                if isinstance(message, str):
                    await ws._stream.send_all(bytes.fromhex(message))  # a frame as it is on the wire
                else:
                    await ws.send_message(message)
            try:
                while True:
                    await ws.get_message()
            except ConnectionClosed as error:
                rows.append((sent, f"closed {error.reason.code}", error.reason.reason or ""))

    async with serving(max_message=1000) as server:
        await closed(server, "`/ws`, without a user", "")
        await closed(server, "a message of 1001 bytes, where `max_message` is 1000", "?user=ann", bytes(1001))
        await closed(server, "a text frame that is not UTF-8", "?user=ann", "818200000000fffe")
        await closed(server, "a frame of a reserved kind", "?user=ann", "838000000000")
        await closed(server, "a frame that is not masked", "?user=ann", "810178")
    async with serving(tokens=[f"{TOKEN} ann"]) as server:
        await closed(server, "no token, where one is needed", "?user=ann")
        await closed(server, "a token of another user", "?user=bob", subprotocols=["ezflow.v1", f"token.{TOKEN}"])
    async with serving(max_sessions=1) as server, server.socket() as ws:
        await ws.get_message()
        await closed(server, "a user more, where `max_sessions` is 1", "?user=bob")
    async with serving(max_holders=1) as server, server.socket() as ws:
        await ws.get_message()
        await closed(server, "a second socket of a user, where `max_holders` is 1", "?user=ann")
    async with serving(rate_per_s=0.01, rate_burst=1) as server:
        async with server.socket() as ws:
            await ws.get_message()
        await closed(server, "a socket beyond the user's rate", "?user=ann")
    async with trio.open_nursery() as nursery, serving() as server:
        nursery.start_soon(closed, server, "nothing; the server shuts down", "?user=ann", b"\0")
        await server.ask("GET", "/health/live")
    return rows


async def strangers() -> list[Row]:
    body = {"user": "ann", "input": "x", "entry": 1}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with serving() as server:
        post = partial(server.row, method="POST", path="/turns", body=body)
        rows = [
            await post("`Host: evil.example`", Host="evil.example"),
            await post("`Origin: https://evil.example`", Origin="https://evil.example"),
            await server.row(
                "`GET /interrupt_talk?user=ann` by an image on another site's page (`Sec-Fetch-Site: cross-site`)",
                "GET",
                "/interrupt_talk?user=ann",
                **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            ),
        ]
    async with serving(tokens=[f"{TOKEN} ann team-*"]) as server:
        post = partial(server.row, method="POST", path="/turns")
        rows += [
            await post("no token, where one is needed", body=body),
            await post("a wrong one", body=body, Authorization="Bearer wrong"),
            await server.row("`GET /heartbeat?user=ann` without one", "GET", "/heartbeat?user=ann"),
            await post('`{"user": "bob", …}` with a token of `ann team-*`', body=body | {"user": "bob"}, **bearer),
        ]
    return rows


async def crowds() -> list[Row]:
    body = {"user": "ann", "input": "x"}
    rows: list[Row] = []
    async with serving(Waits(), rate_per_s=0.01, rate_burst=1) as server:
        await server.ask("POST", "/interrupt", b'{"user": "ann"}')
        rows.append(await server.row("a request beyond the user's rate", "POST", "/turns", body))

    async def meanwhile(
        sent: str, more: Any, path: str = "/turns", release: trio.Event | None = None, **settings: Any
    ) -> None:
        flow = Waits() if release is None else Stubborn(release)
        async with serving(flow, **settings) as server:
            async with server.stream("POST", "/turns", json.dumps(body).encode()) as running:
                await running.until(b"working")
                if sent.startswith("a turn while"):
                    server.stop.set()
                rows.append(await server.row(sent, "POST", path, more))
                if release is not None:
                    release.set()

    await meanwhile("a second request of a user, where `max_holders` is 1", body, max_holders=1)
    await meanwhile("a second user, where `max_sessions` is 1", body | {"user": "bob"}, max_sessions=1)
    await meanwhile("the same at `POST /input`", {"user": "bob", "Input": "x"}, "/input", max_sessions=1)
    await meanwhile("a turn while the server shuts down", body | {"user": "bob"})
    await meanwhile("a turn after one whose stage does not leave", body, release=trio.Event(), cleanup_s=0.0)
    return rows


async def said(server: Server, head: bytes) -> str:
    """The status line that a raw request gets."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(head)
        return bytes(await stream.receive_some()).split(b"\r\n")[0].decode().split(" ")[1]


SECTIONS: dict[str, tuple[str, Callable[[], Awaitable[list[Row]]]]] = {
    "POST /turns": ("The body, as JSON.", turns),
    "POST /input, for EZPipe's clients": ("The body, as JSON. Refusals are told as EZPipe tells them.", ezpipe),
    "Other routes": ("", other_routes),
    "Frames of WS /ws": ("The socket stays open, and a live turn goes on.", frames),
    "What closes a WebSocket": ("The code, and the reason that goes with it.", closings),
    "Who may not": ("Sent with an otherwise good request to `POST /turns`, if nothing else is said.", strangers),
    "When there is too much": ("", crowds),
}


def shown(sent: Any) -> str:
    if sent == b"":
        return "an empty binary frame"
    if isinstance(sent, bytes):
        return f"`{sent.decode()}`" if sent.startswith(b"{") else f"the bytes `{sent.hex(' ')}`"
    return f"`{sent if isinstance(sent, str) else json.dumps(sent, ensure_ascii=False)}`"


def table(title: str, about: str, rows: list[Row]) -> str:
    lines = [f"## {title}", ""] + ([about, ""] if about else []) + ["| sent | answer | body |", "|---|---|---|"]
    for sent, answer, body in rows:
        told = f"`{body}`" if body.startswith(("{", "[")) else body or "none"
        lines.append(f"| {escaped(sent)} | {answer} | {escaped(told)} |")
    return "\n".join(lines) + "\n"


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


async def produced(title: str) -> str:
    """A section of the page, from the answers of a server that runs now."""
    about, ask = SECTIONS[title]
    with trio.fail_after(WITHIN_S):
        return table(title, about, await ask())


async def main() -> None:
    PAGE.write_text("\n".join([HEAD, *[await produced(title) for title in SECTIONS]]), encoding="utf-8")


if __name__ == "__main__":
    trio.run(main)
