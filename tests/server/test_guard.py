"""Each defect of hypercorn 0.18, shown on plain hypercorn, and its cure, shown on the guarded server.

A test marked `both` runs one client against hypercorn as it comes ("plain") and against `guard.serve`
("guarded"). A release of hypercorn that mends a defect fails the plain half: the guard can lose that part.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import hypercorn.trio
import pytest
import trio
import trio.testing
import trustme
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.run import worker_serve
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from quart import Response, request, websocket
from quart_trio import QuartTrio
from trio_websocket import connect_websocket_url
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection as Frames
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Request as Upgrade
from wsproto.extensions import PerMessageDeflate

from ezflow.channels import FAIRNESS
from ezflow.server import guard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from wsproto.extensions import Extension

both = pytest.mark.parametrize("guarded", [pytest.param(False, id="plain"), pytest.param(True, id="guarded")])

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_ENDLESS = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
)
UPGRADE_H2C = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
)
NOT_WITHIN_S = 0.4  # how long a test watches a thing not happen
FAR_S = 60.0  # a timeout that must not be what ends a connection
ENDLESS_BYTES = 32 * 2**20
SENT_TEXT = "a text that is sent again and again"


class Seen:
    """What a test's application has seen of its client."""

    def __init__(self) -> None:
        self.began, self.left, self.go = trio.Event(), trio.Event(), trio.Event()
        self.sent_bytes = 0


def an_app(seen: Seen) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.route("/", methods=["GET", "POST"])
    async def hello() -> str:
        return "hello"

    @app.route("/upload", methods=["POST"])
    async def upload() -> str:
        seen.began.set()
        try:
            return str(len(await request.get_data()))
        finally:
            seen.left.set()

    @app.route("/endless")
    async def endless() -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            seen.began.set()
            try:
                while seen.sent_bytes < ENDLESS_BYTES:
                    yield bytes(2**16)
                    seen.sent_bytes += 2**16
                await trio.sleep_forever()
            finally:
                seen.left.set()

        response = Response(chunks())
        response.timeout = None
        return response

    @app.route("/one-chunk-then-silence")
    async def one_chunk_then_silence() -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one chunk"
                await trio.sleep_forever()
            finally:
                seen.left.set()

        return Response(chunks())

    @app.websocket("/echo")
    async def echo() -> None:
        try:
            while True:
                message: str | bytes | None = await websocket.receive()
                await websocket.send(b"" if message is None else message)  # Quart's word for empty bytes is None
        finally:
            seen.left.set()

    @app.websocket("/reads-nothing")
    async def reads_nothing() -> None:
        await websocket.accept()
        try:
            await seen.go.wait()
        finally:
            seen.left.set()

    @app.websocket("/closes")
    async def closes() -> None:
        await websocket.accept()
        await websocket.close(4000, "enough")

    @app.websocket("/cancels-a-send")
    async def cancels_a_send() -> None:
        await websocket.accept()
        with trio.CancelScope() as scope:
            scope.cancel()
            await websocket.send(f"{SENT_TEXT} 1")
        await websocket.send(f"{SENT_TEXT} 2")

    @app.websocket("/cancels-a-long-send")
    async def cancels_a_long_send() -> None:
        await websocket.accept()
        with trio.move_on_after(0.1):
            await websocket.send(bytes(ENDLESS_BYTES))
        seen.left.set()
        await websocket.send("after it")

    return app


class Running:
    """A server in this process: where it listens, and what became of it."""

    def __init__(self) -> None:
        self.stop, self.ended = trio.Event(), trio.Event()
        self.port = 0
        self.clients: list[trio.SocketStream] = []
        self.fault: BaseException | None = None

    async def connect(self, receive_buffer: int | None = None) -> trio.SocketStream:
        client = trio.socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await client.connect(("127.0.0.1", self.port))
        self.clients.append(trio.SocketStream(client))
        return self.clients[-1]

    async def websocket(self, path: bytes) -> trio.SocketStream:
        client = await self.connect()
        await client.send_all(UPGRADE % (path, b""))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # what follows may come with it, and is the test's
            head += await client.receive_some(1)
        return client

    async def answers(self) -> bool:
        """Whether a new client gets its answer."""
        if self.ended.is_set():
            return False
        async with await self.connect() as client:
            await client.send_all(GET)
            return b"hello" in await read_until(client, b"hello")


@asynccontextmanager
async def serving(app: Any, *, guarded: bool = True, **settings: Any) -> AsyncGenerator[Running, None]:
    """Serve the application for the time of the block, which has ten seconds."""
    config = guard.GuardedConfig() if guarded else Config()
    config.bind = ["127.0.0.1:0"]
    if not guarded:
        config.errorlog = None
    for name, value in settings.items():
        setattr(config, name, value)
    run: Any = guard.serve if guarded else hypercorn.trio.serve
    server = Running()

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        try:
            await run(app, config, shutdown_trigger=server.stop.wait, task_status=task_status)
        except (Exception, BaseExceptionGroup) as fault:
            server.fault = fault
            if not isinstance(fault, Exception):
                raise  # it holds the Cancelled of this test's own end
        finally:
            server.ended.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            url = (await nursery.start(serve))[0]
            server.port = int(url.rpartition(":")[2])
            try:
                yield server
            finally:
                for client in server.clients:
                    await trio.aclose_forcefully(client)
            nursery.cancel_scope.cancel()


async def read_until(client: trio.abc.ReceiveStream, ending: bytes) -> bytes:
    """What the server sends up to `ending`, or to the end of the connection."""
    data = b""
    try:
        while ending not in data and (more := await client.receive_some()):
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def read_to_end(client: trio.abc.ReceiveStream) -> bytes:
    return await read_until(client, b"\0never\0")


async def happens(event: trio.Event, within_s: float = NOT_WITHIN_S) -> bool:
    with trio.move_on_after(within_s):
        await event.wait()
    return event.is_set()


def test_the_configuration_bounds_every_wait_for_a_client() -> None:
    config = guard.GuardedConfig("127.0.0.1:0", "[::1]:0")
    assert config.bind == ["127.0.0.1:0", "[::1]:0"]
    assert config.alpn_protocols == ["http/1.1"]
    assert config.read_timeout is None
    assert config.websocket_ping_interval
    assert config.response_headers("h11")[0][0] == b"date"
    assert len(config.response_headers("h11")) == 1


@both
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(UPGRADE % (b"/echo", b"") + b"x", id="a byte after the upgrade"),
        pytest.param(UPGRADE % (b"/echo", b"Sec-WebSocket-Protocol: \xff\r\n"), id="a subprotocol in no ASCII"),
    ],
)
async def test_a_bad_websocket_upgrade_ends_its_own_connection_only(
    guarded: bool, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        bystander = await server.websocket(b"/echo")
        attacker = await server.connect()
        await attacker.send_all(request_bytes)
        answer = await read_to_end(attacker)
        if not guarded:
            await server.ended.wait()
            assert isinstance(server.fault, ExceptionGroup)
            return
        assert await server.answers()
        frames = Frames(ConnectionType.CLIENT)
        await bystander.send_all(frames.send(TextMessage("still here")))
        assert b"still here" in await read_until(bystander, b"still here")
        if request_bytes.endswith(b"x"):
            assert answer.startswith(b"HTTP/1.1 400")
            assert not [record for record in caplog.records if record.name == "ezflow.server"]
            return
        (record,) = [record for record in caplog.records if record.name == "ezflow.server"]
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[2] is not None


async def test_the_application_of_a_websocket_that_is_refused_is_ended() -> None:
    seen = Seen()
    async with serving(an_app(seen), websocket_ping_interval=None) as server:
        client = await server.connect()
        await client.send_all(UPGRADE % (b"/reads-nothing", b"") + b"x")
        assert (await read_to_end(client)).startswith(b"HTTP/1.1 400")
        assert await happens(seen.left, 2)


@both
async def test_cleartext_http2_is_not_spoken(guarded: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        client = await server.connect()
        await client.send_all(UPGRADE_H2C)
        answer = await read_until(client, b"hello" if guarded else b"101")
        assert answer.startswith(b"HTTP/1.1 200" if guarded else b"HTTP/1.1 101")
        assert await server.answers()


@both
async def test_http2_data_after_an_early_response_does_not_end_the_server(guarded: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        client = await server.connect()
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http2.initiate_connection()
        http2.send_headers(1, [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "x")])
        await client.send_all(http2.data_to_send())
        if guarded:
            assert (await read_to_end(client)).startswith(b"HTTP/1.1 4")
            assert await server.answers()
            return
        events: list[h2.events.Event] = []
        while not any(isinstance(event, h2.events.StreamEnded) for event in events):
            events += http2.receive_data(await client.receive_some())
        http2.send_data(1, b"late")
        await client.send_all(http2.data_to_send())
        await server.ended.wait()
        assert isinstance(server.fault, ExceptionGroup)


@both
async def test_a_client_that_reads_nothing_is_not_buffered_for(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, write_timeout_s=0.2) as server:
        if guarded:
            client = await server.connect(receive_buffer=2**14)
            await client.send_all(GET_ENDLESS)
            await seen.left.wait()
            assert seen.sent_bytes < ENDLESS_BYTES / 2
            return
        client = await server.connect()
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http2.initiate_connection()
        headers = [(":method", "GET"), (":path", "/endless"), (":scheme", "http"), (":authority", "x")]
        http2.send_headers(1, headers, end_stream=True)
        await client.send_all(http2.data_to_send())
        while seen.sent_bytes < ENDLESS_BYTES:
            await trio.lowlevel.checkpoint()


@both
async def test_a_client_that_stops_reading_is_cut_off(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, write_timeout_s=0.1) as server:
        client = await server.connect(receive_buffer=2**14)
        await client.send_all(GET_ENDLESS)
        await seen.began.wait()
        assert await happens(seen.left, 2 if guarded else NOT_WITHIN_S) is guarded
        assert await server.answers()
        await client.aclose()


@both
async def test_a_client_that_stops_reading_does_not_hold_up_the_shutdown(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, graceful_timeout=0.1, write_timeout_s=FAR_S) as server:
        client = await server.connect(receive_buffer=2**14)
        await client.send_all(GET_ENDLESS)
        await seen.began.wait()
        server.stop.set()
        assert await happens(server.ended, 2 if guarded else NOT_WITHIN_S) is guarded
        await client.aclose()
        await server.ended.wait()
        assert server.fault is None


@both
async def test_shutdown_closes_idle_connections_at_once(guarded: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded, graceful_timeout=FAR_S) as server:
        client = await server.connect()
        await client.send_all(GET)
        await read_until(client, b"hello")
        server.stop.set()
        assert await happens(server.ended, 2 if guarded else NOT_WITHIN_S) is guarded


async def test_a_connection_that_was_accepted_before_a_shutdown_has_time_for_its_request() -> None:
    async with serving(an_app(Seen()), graceful_timeout=FAR_S) as server:
        asks, silent = await server.connect(), await server.connect()
        await trio.testing.wait_all_tasks_blocked(0.05)  # they are accepted
        server.stop.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await asks.send_all(GET)
        assert b"hello" in await read_to_end(asks)
        assert await read_to_end(silent) == b""
        await server.ended.wait()


@both
@pytest.mark.parametrize("unread", [11, 20, 21, 50])
async def test_a_client_that_vanishes_behind_unread_messages_is_noticed(
    guarded: bool, unread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 11 on, of which Quart's queue holds 10, plain hypercorn's disconnect is never read."""
    monkeypatch.setattr(guard, "DISCONNECT_PATIENCE_S", 0.1)
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, websocket_ping_interval=0.1 if guarded else None) as server:
        client = await server.websocket(b"/reads-nothing")
        frames = Frames(ConnectionType.CLIENT)
        for number in range(unread):
            await client.send_all(frames.send(TextMessage(str(number))))
        await client.aclose()
        assert await happens(seen.left, 3 if guarded else NOT_WITHIN_S) is guarded


@both
async def test_a_websocket_that_ends_with_unread_messages_is_closed(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded) as server:
        client = await server.websocket(b"/reads-nothing")
        frames = Frames(ConnectionType.CLIENT)
        for number in range(30):
            await client.send_all(frames.send(TextMessage(str(number))))
        seen.go.set()
        with trio.move_on_after(3 if guarded else NOT_WITHIN_S) as limit:
            await read_to_end(client)
        assert limit.cancelled_caught is not guarded


@both
async def test_a_cancelled_send_spoils_no_later_message(guarded: bool) -> None:
    """permessage-deflate remembers the text that was never sent; only plain hypercorn accepts it."""
    async with serving(an_app(Seen()), guarded=guarded) as server:
        socket_stream = await server.connect()
        client = WSConnection(ConnectionType.CLIENT)
        offer = Upgrade(host="x", target="/cancels-a-send", extensions=[PerMessageDeflate()])
        await socket_stream.send_all(client.send(offer))
        texts: list[str] = []
        extensions: list[Extension] = []
        while more := await socket_stream.receive_some():
            client.receive_data(more)
            for event in client.events():
                if isinstance(event, AcceptConnection):
                    extensions = event.extensions
                elif isinstance(event, TextMessage):
                    texts.append(event.data)
        assert bool(extensions) is not guarded
        assert (texts == [f"{SENT_TEXT} 2"]) is guarded


async def test_a_send_that_is_cancelled_halfway_is_sent_whole() -> None:
    seen = Seen()
    async with serving(an_app(seen)) as server:
        client = await server.websocket(b"/cancels-a-long-send")
        assert not await happens(seen.left)
        frames = Frames(ConnectionType.CLIENT)
        received_bytes = 0
        texts: list[str] = []
        while not texts:
            frames.receive_data(await client.receive_some())
            for event in frames.events():
                if isinstance(event, BytesMessage):
                    received_bytes += len(event.data)
                elif isinstance(event, TextMessage):
                    texts.append(event.data)
        assert received_bytes == ENDLESS_BYTES
        assert texts == ["after it"]


async def test_a_common_websocket_client_talks_to_the_guarded_server() -> None:
    async with (
        serving(an_app(Seen()), websocket_ping_interval=0.5) as server,
        trio.open_nursery() as nursery,
    ):
        client = await connect_websocket_url(nursery, f"ws://127.0.0.1:{server.port}/echo")
        await client.send_message("text")
        assert await client.get_message() == "text"
        await client.send_message(b"bytes" * 100_000)
        assert await client.get_message() == b"bytes" * 100_000
        await client.aclose()
        assert client.closed is not None
        assert client.closed.code == 1000


@both
async def test_a_websocket_client_that_answers_no_ping_is_cut_off(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, websocket_ping_interval=0.05) as server:
        client = await server.websocket(b"/echo")
        assert await happens(seen.left, 2 if guarded else NOT_WITHIN_S) is guarded
        await client.aclose()


async def test_a_websocket_client_that_only_answers_pings_stays() -> None:
    seen = Seen()
    async with serving(an_app(seen), websocket_ping_interval=0.2) as server:
        client = await server.websocket(b"/reads-nothing")
        frames = Frames(ConnectionType.CLIENT)
        pings = 0
        while pings < 6:
            frames.receive_data(await client.receive_some())
            for event in frames.events():
                assert isinstance(event, Ping)
                pings += 1
                await client.send_all(frames.send(event.response()))
        assert not seen.left.is_set()


@both
async def test_a_websocket_message_over_the_limit_ends_the_connection(guarded: bool) -> None:
    """Plain hypercorn answers 1009, then stores what the client goes on to send."""
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, websocket_max_message_size=1000) as server:
        client = await server.websocket(b"/echo")
        frames = Frames(ConnectionType.CLIENT)
        await client.send_all(frames.send(TextMessage("x" * 1001, message_finished=False)))
        answers: list[object] = []
        while CloseConnection(code=1009, reason="") not in answers:
            frames.receive_data(await client.receive_some())
            answers += [event for event in frames.events() if not isinstance(event, Ping)]
        assert await happens(seen.left, 2 if guarded else NOT_WITHIN_S) is guarded


TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
FIRST_TEXT, FIRST_BINARY, MIDDLE, LAST = 0x01, 0x02, 0x00, 0x80
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
MASK = b"\x0f\xf0\x5a\xa5"


def frame(first: int, payload: bytes = b"", *, length: bytes = b"", mask: bytes = MASK) -> bytes:
    """A frame on its way to the server; `first` is its first byte, `length` another length than the payload's."""
    size = len(payload)
    if not length and size < 126:
        length = bytes([size])
    elif not length:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 2**16 else b"\x7f" + size.to_bytes(8, "big")
    if not mask:
        return bytes([first]) + length + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([first, 0x80 | length[0]]) + length[1:] + mask + masked


def closing(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


async def frames_from(client: trio.abc.ReceiveStream, count: int | None = None) -> list[tuple[int, bytes]]:
    """The first bytes and payloads of so many frames, or of all up to the end; a reset raises BrokenResourceError."""
    data, frames = b"", list[tuple[int, bytes]]()
    while len(frames) != count and (more := await client.receive_some()):
        data += more
        while len(data) >= 2:
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            if len(data) < start + size:
                break
            frames.append((data[0], data[start : start + size]))
            data = data[start + size :]
    return frames


@both
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(TEXT, b"a\xffb"), 1007, id="text that is no UTF-8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="half of a surrogate pair"),
        pytest.param(frame(TEXT, b"\xc0\xaf"), 1007, id="a character in more bytes than it needs"),
        pytest.param(frame(TEXT, b"\xf4\x90\x80\x80"), 1007, id="a character beyond Unicode"),
        pytest.param(frame(TEXT, b"\xe4\xbd"), 1007, id="text that ends within a character"),
        pytest.param(frame(FIRST_TEXT, b"\xe4\xbd") + frame(LAST), 1007, id="fragments that end within a character"),
        pytest.param(frame(FIRST_TEXT, b"a") + frame(MIDDLE, b"\xff"), 1007, id="no UTF-8, in a message not yet ended"),
        pytest.param(frame(TEXT, b"\xff", length=b"\x64"), 1007, id="no UTF-8, in a frame not yet ended"),
        pytest.param(frame(CLOSE, closing(1000, b"\xff")), 1007, id="a reason for closing that is no UTF-8"),
        pytest.param(frame(TEXT | RSV1, b"x"), 1002, id="reserved bit 1"),
        pytest.param(frame(BINARY | RSV2, b"x"), 1002, id="reserved bit 2"),
        pytest.param(frame(PING | RSV3, b"x"), 1002, id="reserved bit 3"),
        pytest.param(frame(0x83, b"x"), 1002, id="a reserved data opcode"),
        pytest.param(frame(0x8B, b"x"), 1002, id="a reserved control opcode"),
        pytest.param(frame(TEXT, b"x", mask=b""), 1002, id="an unmasked frame"),
        pytest.param(frame(PING & ~LAST, b"x"), 1002, id="a fragment of a ping"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a ping of 126 bytes"),
        pytest.param(frame(CLOSE, closing(1000, b"x" * 124)), 1002, id="a close frame of 126 bytes"),
        pytest.param(frame(MIDDLE, b"x"), 1002, id="a fragment of no message"),
        pytest.param(frame(LAST, b"x"), 1002, id="the last fragment of no message"),
        pytest.param(frame(FIRST_TEXT, b"x") + frame(TEXT, b"y"), 1002, id="a message within a message"),
        pytest.param(frame(BINARY, length=b"\x7f" + b"\xff" * 8), 1002, id="a length of more than 63 bits"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="half a close code"),
        *(
            pytest.param(frame(CLOSE, closing(code)), 1002, id=f"close code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
    ],
)
async def test_a_breach_of_the_websocket_protocol_is_answered_with_its_close_code(
    guarded: bool, sent: bytes, code: int
) -> None:
    """Plain hypercorn drops the connection without a close frame, which the client sees as 1006."""
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, websocket_ping_interval=None) as server:
        client = await server.websocket(b"/echo")
        await client.send_all(sent)
        frames = await frames_from(client)
        assert [(first, payload[:2]) for first, payload in frames] == ([(CLOSE, closing(code))] if guarded else [])
        await seen.left.wait()


@both
@pytest.mark.parametrize(
    ("path", "sent", "code"),
    [
        pytest.param(b"/echo", frame(0x83), 1002, id="a breach of the protocol"),
        pytest.param(b"/echo", frame(BINARY, bytes(2000)), 1009, id="a message that is too big"),
        pytest.param(b"/closes", b"", 4000, id="the application"),
    ],
)
async def test_a_close_frame_reaches_a_client_that_is_still_sending(
    guarded: bool, path: bytes, sent: bytes, code: int
) -> None:
    """Plain hypercorn leaves bytes unread when it closes, for which TCP resets the connection, or does not close."""
    settings = {"websocket_ping_interval": None, "websocket_max_message_size": 1000}
    async with serving(an_app(Seen()), guarded=guarded, **settings) as server:
        client = await server.websocket(path)
        ended = False
        with trio.move_on_after(5 if guarded else NOT_WITHIN_S), suppress(trio.BrokenResourceError):
            await client.send_all(sent + frame(BINARY, bytes(900)) * 8000)
            frames = await frames_from(client)
            ended = [(first, payload[:2]) for first, payload in frames] == [(CLOSE, closing(code))]
        assert ended is guarded


async def test_a_client_that_goes_on_after_the_close_frame_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LINGER_S", 0.1)
    async with serving(an_app(Seen()), websocket_ping_interval=None) as server:
        client = await server.websocket(b"/echo")
        await client.send_all(frame(0x83))
        ((first, _),) = await frames_from(client)
        assert first == CLOSE
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await client.send_all(bytes(1000))


@pytest.mark.parametrize("piece", [1, 10**6], ids=["byte by byte", "at once"])
@pytest.mark.parametrize(
    ("sent", "first", "message"),
    [
        *(
            pytest.param([frame(opcode, b"x" * size)], opcode, b"x" * size, id=f"{name} of {size} bytes")
            for opcode, name in ((TEXT, "text"), (BINARY, "sound"))
            for size in (0, 1, 125, 126, 127, 128, 2**16 - 1, 2**16)
        ),
        pytest.param(
            [frame(FIRST_TEXT, b"a\xe4"), frame(MIDDLE, b"\xbd"), frame(LAST, b"\xa0b")],
            TEXT,
            "a你b".encode(),
            id="a character in three fragments",
        ),
        pytest.param(
            [frame(FIRST_TEXT), frame(MIDDLE), frame(MIDDLE, b"x"), frame(LAST)], TEXT, b"x", id="empty fragments"
        ),
        pytest.param([frame(FIRST_BINARY, b"\xff"), frame(LAST, b"\0")], BINARY, b"\xff\0", id="fragments of sound"),
        pytest.param(
            [frame(TEXT, "\U0010ffff\ufffe\0".encode())], TEXT, "\U0010ffff\ufffe\0".encode(), id="last of Unicode"
        ),
        pytest.param([frame(PONG, b"unasked"), frame(TEXT, b"x")], TEXT, b"x", id="after an unasked pong"),
    ],
)
async def test_a_message_arrives_whole_however_it_is_framed(
    sent: list[bytes], first: int, message: bytes, piece: int
) -> None:
    data = b"".join(sent)
    if piece == 1:  # of a long one the ends, which are all that has a meaning
        piece = max(1, len(data) // 200)
    async with serving(an_app(Seen()), websocket_ping_interval=None) as server:
        client = await server.websocket(b"/echo")
        for start in range(0, len(data), piece):
            await client.send_all(data[start : start + piece])
        assert await frames_from(client, 1) == [(first, message)]


async def test_pings_are_answered_in_their_order_and_between_the_fragments_of_a_message() -> None:
    async with serving(an_app(Seen()), websocket_ping_interval=None) as server:
        client = await server.websocket(b"/echo")
        await client.send_all(frame(PING) + frame(FIRST_TEXT, b"a\xc3") + frame(PING, b"\xff" * 125))
        assert await frames_from(client, 2) == [(PONG, b""), (PONG, b"\xff" * 125)]
        await client.send_all(frame(PING, b"2") + frame(LAST, b"\xbc") + frame(PONG, b"3"))
        assert await frames_from(client, 2) == [(PONG, b"2"), (TEXT, "aü".encode())]


@both
async def test_thousands_of_frames_that_come_at_once_leave_the_others_their_turn(guarded: bool) -> None:
    """To take them apart takes long: 9000 fragments of nothing, which are read as one piece, some 0.2 s."""
    rounds = 0

    async def another() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async with serving(an_app(Seen()), guarded=guarded) as server, trio.open_nursery() as nursery:
        client = await server.websocket(b"/echo")
        nursery.start_soon(another)
        await client.send_all(frame(FIRST_TEXT, b"a") + frame(MIDDLE) * 9000 + frame(LAST, b"b"))
        assert await frames_from(client, 1) == [(TEXT, b"ab")]
        nursery.cancel_scope.cancel()
    assert (rounds > 9000 / FAIRNESS) is guarded


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        *(closing(code) for code in (1000, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999)),
        closing(1000, b"x" * 123),
        closing(1000, "你".encode()),
    ],
)
async def test_a_close_frame_is_given_back_and_nothing_after_it_is_heard(payload: bytes) -> None:
    async with serving(an_app(Seen()), websocket_ping_interval=None) as server:
        client = await server.websocket(b"/echo")
        await client.send_all(frame(CLOSE, payload) + frame(PING) + frame(0x83) + frame(TEXT, b"x"))
        assert await frames_from(client) == [(CLOSE, payload)]


async def test_a_cancelled_nursery_leaks_out_of_hypercorns_task_group_and_not_out_of_the_guard() -> None:
    with trio.CancelScope() as beyond:
        beyond.cancel()  # absorbs what leaks
        with pytest.raises(trio.Cancelled):
            async with TaskGroup() as group:
                assert group._nursery is not None
                group._nursery.cancel_scope.cancel()
                await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        guard.Applications(nursery).spawn(trio.sleep_forever)
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()


async def test_a_plain_server_beside_a_guarded_one_still_speaks_http2() -> None:
    app = an_app(Seen())
    async with serving(app) as guarded_server, serving(app, guarded=False) as plain_server:
        for server, answer in ((guarded_server, b"HTTP/1.1 200"), (plain_server, b"HTTP/1.1 101")):
            client = await server.connect()
            await client.send_all(UPGRADE_H2C)
            assert (await read_until(client, b"\r\n\r\n")).startswith(answer)
    assert worker_serve.__globals__["TCPServer"] is TCPServer
    assert H11Protocol._create_stream.__globals__["WSStream"] is WSStream


async def test_a_disconnect_cancels_the_response_while_it_waits() -> None:
    seen = Seen()
    async with serving(an_app(seen)) as server:
        client = await server.connect()
        await client.send_all(b"GET /one-chunk-then-silence HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_until(client, b"one chunk")
        await client.aclose()
        await seen.left.wait()


WAITS = b"GET /one-chunk-then-silence HTTP/1.1\r\nHost: x\r\n"


@both
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(WAITS + b"\r\n\r\n", id="an empty line"),
        pytest.param(WAITS + b"\r\n" + GET, id="another request"),
        pytest.param(WAITS + b"Upgrade: unspoken\r\n\r\n", id="only the wish for another protocol"),
    ],
)
async def test_a_client_that_leaves_is_noticed_whatever_it_sent_after_its_request(
    guarded: bool, request_bytes: bytes
) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded) as server:
        client = await server.connect()
        await client.send_all(request_bytes)
        await read_until(client, b"one chunk")
        await client.aclose()
        assert await happens(seen.left, 2 if guarded else NOT_WITHIN_S) is guarded


async def test_a_client_that_sends_too_far_ahead_of_a_response_is_cut_off() -> None:
    seen = Seen()
    async with serving(an_app(seen)) as server:
        client = await server.connect()
        await client.send_all(WAITS + b"\r\n")
        await read_until(client, b"one chunk")
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                await client.send_all(bytes(guard.AHEAD_BYTES))
        await seen.left.wait()
        assert await server.answers()


@both
async def test_bytes_after_the_last_request_do_not_make_it_a_bad_one(guarded: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        client = await server.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\r\n")
        answer = await read_to_end(client)
        assert answer.startswith(b"HTTP/1.1 200" if guarded else b"HTTP/1.1 400")
        assert (b"HTTP/1.1 4" in answer) is not guarded


@both
@pytest.mark.parametrize("apart", [False, True])
async def test_an_empty_line_between_two_requests_is_ignored(guarded: bool, apart: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        client = await server.connect()
        await client.send_all(GET if apart else GET + b"\r\n" + GET)
        assert b"HTTP/1.1 200" in await read_until(client, b"hello")
        if apart:
            await client.send_all(b"\r\n" + GET)
        assert (b"HTTP/1.1 200" in await read_until(client, b"hello")) is guarded


async def test_a_request_head_that_comes_byte_by_byte_for_ever_is_cut_off() -> None:
    async with serving(an_app(Seen()), head_timeout_s=0.2, keep_alive_timeout=FAR_S) as server:
        client = await server.connect()
        await client.send_all(GET[:-1])
        ended = trio.Event()

        async def dribble() -> None:
            while not await happens(ended, 0.02):
                try:
                    await client.send_all(b"x: x\r\n")
                except trio.BrokenResourceError:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            assert await read_to_end(client) == b""
            ended.set()
        assert await server.answers()


@both
async def test_an_idle_connection_is_closed_after_its_answer(guarded: bool) -> None:
    settings = {"keep_alive_timeout": 0.2, "head_timeout_s": FAR_S}
    async with serving(an_app(Seen()), guarded=guarded, **settings) as server:
        client = await server.connect()
        await client.send_all(GET)
        await read_until(client, b"hello")
        with trio.move_on_after(2 if guarded else NOT_WITHIN_S) as limit:
            assert await read_to_end(client) == b""
        assert limit.cancelled_caught is not guarded


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with serving(an_app(Seen()), keep_alive_timeout=0.1, head_timeout_s=FAR_S) as server:
        assert await read_to_end(await server.connect()) == b""


async def test_a_connection_is_kept_for_further_requests() -> None:
    async with serving(an_app(Seen()), head_timeout_s=FAR_S) as server:
        client = await server.connect()
        for half in (b"", GET[:9], GET[:9], GET + GET[:9]):
            if half:
                await client.send_all(half)
            await client.send_all(GET[9:] if half else GET)
            for _ in range(half.count(GET) + 1):
                assert b"HTTP/1.1 200" in await read_until(client, b"hello")


@both
async def test_a_connection_is_closed_when_the_client_asks_for_it(guarded: bool) -> None:
    async with serving(an_app(Seen()), guarded=guarded) as server:
        client = await server.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with trio.move_on_after(2 if guarded else NOT_WITHIN_S) as limit:
            assert b"hello" in await read_to_end(client)
        assert limit.cancelled_caught is not guarded


@both
async def test_an_upload_that_stalls_is_cut_off(guarded: bool) -> None:
    seen = Seen()
    async with serving(an_app(seen), guarded=guarded, body_timeout_s=0.1) as server:
        client = await server.connect()
        await client.send_all(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234")
        await seen.began.wait()
        assert await happens(seen.left, 2 if guarded else NOT_WITHIN_S) is guarded
        await client.aclose()


class SlowClient:
    """A connection whose client sends and takes a piece each `pace_s`, on the virtual clock."""

    def __init__(self, *sends: bytes, pace_s: float) -> None:
        self.sends = list(sends)
        self.pace_s = pace_s
        self.taken = bytearray()
        self.closed = trio.Event()
        self.socket = self
        self.family = socket.AF_UNIX

    def getpeername(self) -> str:
        return ""

    getsockname = getpeername

    async def receive_some(self, max_bytes: int) -> bytes:
        with trio.move_on_after(self.pace_s if self.sends else math.inf):
            await self.closed.wait()
            raise trio.ClosedResourceError
        return self.sends.pop(0)

    async def send_all(self, data: bytes) -> None:
        await trio.sleep(self.pace_s)
        self.taken += data

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed.set()
        await trio.lowlevel.checkpoint()


async def serve_one(client: SlowClient, app: Any, *, guarded: bool = True, **settings: object) -> bytes:
    """What the client has taken when its connection has ended."""
    config: Config = guard.GuardedConfig() if guarded else Config()
    for name, value in settings.items():
        setattr(config, name, value)
    server = guard.GuardedServer if guarded else TCPServer
    context = guard.GuardedContext(config) if guarded else WorkerContext(None)
    await server(ASGIWrapper(app), config, context, {}, client)  # type: ignore[arg-type]
    return bytes(client.taken)


async def slow_answer(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, then says how long it was, three times at intervals of 100 s."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(3):
        with trio.move_on_after(100):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.body", "body": b"<%d>" % length, "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


@both
async def test_silence_while_a_response_streams_has_no_deadline(guarded: bool, autojump_clock: object) -> None:
    """hypercorn's `read_timeout` cuts it, which is why the guard has a timeout for bodies instead."""
    timeout = {"body_timeout_s": 30} if guarded else {"read_timeout": 30}
    answer = await serve_one(SlowClient(GET, pace_s=1), slow_answer, guarded=guarded, **timeout)
    assert answer.startswith(b"HTTP/1.1 200")
    assert (answer.count(b"<0>") == 3) is guarded
    assert (b"end" in answer) is guarded


async def test_a_slow_upload_that_goes_on_has_no_deadline(autojump_clock: object) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"
    client = SlowClient(head, *[b"x"] * 20, pace_s=29)
    assert b"<20>" in await serve_one(client, slow_answer, body_timeout_s=30, write_timeout_s=FAR_S)


@pytest.mark.parametrize(("pace_s", "arrives"), [(9, True), (11, False)])
async def test_a_slow_reader_has_a_deadline_for_each_piece_not_for_the_whole(
    pace_s: float, arrives: bool, autojump_clock: object
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
        await send({"type": "http.response.body", "body": bytes(1_000_000)})

    answer = await serve_one(SlowClient(GET, pace_s=pace_s), app, write_timeout_s=10)
    assert (len(answer) > 1_000_000) is arrives


async def test_a_cut_off_application_cannot_write_any_more(autojump_clock: object) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await send({"type": "http.response.body", "body": b"last words"})

    began = trio.current_time()
    await serve_one(SlowClient(GET, pace_s=11), app, write_timeout_s=10)
    assert trio.current_time() - began < 11 + 10 + 1


async def empty_answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(("second_head", "cut_after_s"), [((), 60), ((GET[:9],), 8)])
async def test_the_time_of_a_request_head_is_not_that_of_idleness(
    second_head: tuple[bytes, ...], cut_after_s: float, autojump_clock: object
) -> None:
    began = trio.current_time()
    client = SlowClient(GET[:9], GET[9:], *second_head, pace_s=5)
    await serve_one(client, empty_answer, head_timeout_s=8, keep_alive_timeout=60)
    assert client.taken.count(b"204") == 1
    assert trio.current_time() - began == pytest.approx(3 * 5 + cut_after_s, abs=0.1)


async def test_a_connection_ends_when_its_idle_client_leaves(autojump_clock: object) -> None:
    began = trio.current_time()
    await serve_one(SlowClient(b"", pace_s=1), empty_answer, keep_alive_timeout=FAR_S)
    assert trio.current_time() - began < 2


async def test_a_client_that_left_before_it_was_accepted_is_no_fault(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Left(SlowClient):
        def getpeername(self) -> str:
            raise OSError(errno.ENOTCONN, "not connected")

    assert await serve_one(Left(pace_s=1), slow_answer) == b""
    assert not caplog.records


@pytest.fixture
def tls(tmp_path: Path) -> tuple[dict[str, Any], ssl.SSLContext]:
    """The server's settings and the client's context, of an authority made for the occasion."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return {"certfile": str(chain), "keyfile": str(key)}, context


async def test_tls_serves_http1_to_a_client_that_prefers_http2(
    tls: tuple[dict[str, Any], ssl.SSLContext],
) -> None:
    settings, context = tls
    async with serving(an_app(Seen()), keep_alive_timeout=0.5, ssl_handshake_timeout=0.5, **settings) as server:
        no_handshake = await server.connect()
        assert await read_to_end(no_handshake) == b""
        no_tls = await server.connect()
        await no_tls.send_all(GET)
        await read_to_end(no_tls)
        transport = await server.connect()
        client = trio.SSLStream(transport, context, server_hostname="localhost", https_compatible=True)
        await client.send_all(GET)
        assert (await read_until(client, b"hello")).startswith(b"HTTP/1.1 200")
        assert client.selected_alpn_protocol() == "http/1.1"
        assert await read_to_end(client) == b""
        assert server.fault is None


async def test_a_tls_client_that_stops_reading_is_cut_off(
    tls: tuple[dict[str, Any], ssl.SSLContext],
) -> None:
    settings, context = tls
    seen = Seen()
    async with serving(an_app(seen), write_timeout_s=0.1, **settings) as server:
        transport = await server.connect(receive_buffer=2**14)
        client = trio.SSLStream(transport, context, server_hostname="localhost", https_compatible=True)
        await client.send_all(GET_ENDLESS)
        await seen.left.wait()
        assert seen.sent_bytes < ENDLESS_BYTES / 2


async def test_a_closed_websocket_under_tls_ends_at_once(
    tls: tuple[dict[str, Any], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LINGER_S", FAR_S)
    settings, context = tls
    async with serving(an_app(Seen()), websocket_ping_interval=None, **settings) as server:
        for sent, answer in ((frame(0x83), closing(1002)), (frame(CLOSE, closing(3000)), closing(3000))):
            transport = await server.connect()
            client = trio.SSLStream(transport, context, server_hostname="localhost", https_compatible=True)
            await client.send_all(UPGRADE % (b"/echo", b""))
            await read_until(client, b"\r\n\r\n")
            await client.send_all(sent)
            assert [(first, payload[:2]) for first, payload in await frames_from(client)] == [(CLOSE, answer)]
