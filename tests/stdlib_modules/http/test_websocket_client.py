"""WebSocketClient: connections over real sockets, and every way in which one may end."""

from __future__ import annotations

import re

import pytest
import trio
from http_standin import Answer, Peer, Trust, head, proxying, standing, whole
from trio.testing import MockClock, wait_all_tasks_blocked
from websocket_standin import BINARY, CLOSE, CONTINUATION, PING, PONG, accept, closing, frame, head_of, unmasked

from stdlib_modules.http.errors import (
    BackendBroken,
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
)
from stdlib_modules.http.websocket_client import WebSocketClient

VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ws(url: str) -> str:
    return url.replace("http", "ws", 1)


async def all_of(sockets: WebSocketClient) -> list[str | bytes]:
    async with sockets.connect() as socket:
        return [message async for message in socket]


def says(*data: bytes) -> Answer:
    """A server that accepts and sends this, and then waits for the client to go."""

    async def answer(peer: Peer) -> None:
        await accept(peer, *data)
        await peer.gone()

    return answer


def answers(*data: bytes) -> Answer:
    """A server that answers the handshake with this, and closes."""

    async def answer(peer: Peer) -> None:
        await peer.send(*data)
        await peer.stream.aclose()

    return answer


# ------------------------------------------------------------------ messages


async def test_texts_and_bytes_come_in_order_until_the_server_closes() -> None:
    sent = [frame("héllo"), frame(b"\x00\x01", BINARY), frame(""), closing()]
    async with standing(says(*sent)) as server, WebSocketClient(ws(server.url)) as sockets:
        assert await all_of(sockets) == ["héllo", b"\x00\x01", ""]
        await server.all_closed()
        assert sockets.slots.free == 100


async def test_a_close_without_a_code_is_one_in_good_order() -> None:
    async with standing(says(frame("a"), frame(b"", CLOSE))) as server, WebSocketClient(ws(server.url)) as sockets:
        assert await all_of(sockets) == ["a"]


async def test_a_message_in_fragments_that_cut_a_character_is_whole() -> None:
    data = "你好".encode()
    pieces = [frame(data[:2], last=False), frame(b"", PING), frame(data[2:], CONTINUATION), closing()]
    async with standing(says(*pieces)) as server, WebSocketClient(ws(server.url)) as sockets:
        assert await all_of(sockets) == ["你好"]


async def test_what_comes_in_one_piece_with_the_handshake_is_not_lost() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(head_of(peer) + frame("at once") + closing())
        await peer.gone()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        assert await all_of(sockets) == ["at once"]


async def test_pings_are_answered_while_it_is_read() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame(b"there?", PING))
        assert await unmasked(peer) == (PONG, b"there?")
        await peer.send(frame("good"), closing())
        await peer.gone()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        assert await all_of(sockets) == ["good"]


async def test_a_ping_is_answered_after_the_message_that_is_on_its_way() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame(b"there?", PING))
        await read.wait()  # the ping, while the client's message stops here
        opcode, data = await unmasked(peer)
        assert (opcode, len(data)) == (BINARY, 8_000_000)
        assert await unmasked(peer) == (PONG, b"there?")
        await peer.send(closing())
        await peer.gone()

    read = trio.Event()
    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets, sockets.connect() as socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send, bytes(8_000_000))
            await wait_all_tasks_blocked(0.05)
            nursery.start_soon(anext, socket, None)
            await wait_all_tasks_blocked(0.05)
            read.set()


async def test_a_message_may_be_as_long_as_it_says_and_no_longer() -> None:
    async with standing(says(frame("x" * 1000), closing())) as server:
        async with WebSocketClient(ws(server.url), max_message=1000) as sockets:
            assert await all_of(sockets) == ["x" * 1000]
        async with WebSocketClient(ws(server.url), max_message=999) as sockets:
            with pytest.raises(BackendBroken, match="sent a message of more than 999 bytes"):
                await all_of(sockets)
            assert sockets.slots.free == 100


async def test_a_message_in_endless_fragments_is_not_gathered_for_ever() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame(bytes(1000), BINARY, last=False))
        while True:
            await peer.send(frame(bytes(1000), CONTINUATION, last=False))

    async with standing(answer) as server, WebSocketClient(ws(server.url), max_message=100_000) as sockets:
        with pytest.raises(BackendBroken, match="more than 100000 bytes"):
            await all_of(sockets)


# ------------------------------------------------------------------ the handshake


async def test_the_handshake_has_path_query_subprotocols_headers_and_the_urls_password() -> None:
    async with standing(says(closing())) as server:
        url = f"ws://ann:secret@127.0.0.1:{server.port}/a/b?model=x"
        client = WebSocketClient(url, subprotocols=("one", "two"), headers={"X-Key": "k1"})
        async with client as sockets, sockets.connect() as socket:
            assert socket.subprotocol is None
        peer = server.asked[0]
    assert peer.line == "GET /a/b?model=x HTTP/1.1"
    assert peer.headers["host"] == f"127.0.0.1:{server.port}"
    assert peer.headers["sec-websocket-protocol"] == "one, two"
    assert peer.headers["x-key"] == "k1"
    assert peer.headers["authorization"].startswith("Basic ")
    assert client.url == f"ws://127.0.0.1:{server.port}/a/b"
    assert "secret" not in repr(client)
    assert "sec-websocket-extensions" not in peer.headers


async def test_the_subprotocol_that_the_server_chose_is_known() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, headers=("Sec-WebSocket-Protocol: two", "Server: Test"))
        await peer.gone()

    async with standing(answer) as server, WebSocketClient(ws(server.url), subprotocols=("one", "two")) as sockets:
        async with sockets.connect() as socket:
            assert (socket.subprotocol, socket.headers["server"]) == ("two", "Test")


BAD_ACCEPT = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n"
NO_UPGRADE = b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: no\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ((), BackendBroken, r"closed the connection without an answer"),
        ((b"HTTP/1.1 101 Swi",), BackendBroken, r"broke off in the middle of its answer"),
        ((b"\x00\xff garbage\r\n\r\n",), BackendBroken, r"does not speak WebSocket: "),
        ((BAD_ACCEPT,), BackendBroken, r"does not speak WebSocket: Bad accept token"),
        ((NO_UPGRADE,), BackendBroken, r"does not speak WebSocket: Missing header"),
        ((whole(b"<h1>Hello</h1>"),), BackendRefused, r"answered 200: <h1>Hello</h1>: there is no WebSocket at this"),
        ((whole(b'{"error": "no such path"}', 404),), BackendRefused, r"answered 404: no such path: there is no WebS"),
        ((whole(b"", 426),), BackendRefused, r"answered 426: it wants another version"),
        ((head(500), b"2\r\nhe\r\n0\r\n\r\n"), BackendRefused, r"answered 500: he$"),
        ((head(500), b"5\r\nhe"), BackendRefused, r"answered 500: he$"),
        ((head(500, "Content-Length: 5", chunked=False),), BackendRefused, r"answered 500$"),
        (
            (head(301, "Location: wss://other.test/x?key=1"),),
            BackendRefused,
            r"sends requests on to wss://other.test/x",
        ),
        ((whole(b"key k1-secret is not known", 401),), BackendRefused, r"answered 401: key \*\*\* is not known"),
    ],
)
async def test_a_handshake_that_fails_says_how_at_once(
    said: tuple[bytes, ...], error: type[BackendError], message: str
) -> None:
    async with standing(answers(*said)) as server:
        headers = {"Authorization": "Bearer k1-secret"}
        async with WebSocketClient(ws(server.url), server="Test", headers=headers) as sockets:
            with pytest.raises(error, match=rf"^Test at {re.escape(ws(server.url))} .*{message}") as caught:
                await all_of(sockets)
            assert sockets.slots.free == 100
        await server.all_closed()
    assert "k1-secret" not in str(caught.value) + caught.value.body
    assert not caught.value.transient


async def test_a_subprotocol_that_was_not_offered_is_refused() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, headers=("Sec-WebSocket-Protocol: three",))

    async with standing(answer) as server, WebSocketClient(ws(server.url), subprotocols=("one",)) as sockets:
        with pytest.raises(BackendBroken, match="unrecognized subprotocol three"):
            await all_of(sockets)


async def test_a_long_refusal_is_read_in_part() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(head(500))
        while True:
            await peer.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        with pytest.raises(BackendRefused, match=r"answered 500: x{199}…"):
            await all_of(sockets)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "ws://", "ws://host:0", "ws://host:x", "ws://höst", "ws://h/a b"])
def test_what_is_no_websockets_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be a WebSocket's URL"):
        WebSocketClient(url)


def test_a_fault_in_the_url_does_not_show_its_secrets() -> None:
    with pytest.raises(ValueError) as caught:
        WebSocketClient("ws://ann:secret@host:0/a?token=secret")
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------ how it ends


@pytest.mark.parametrize(
    ("said", "error", "message", "status"),
    [
        (closing(1011, "out of memory"), BackendBroken, "closed the connection with 1011: out of memory", None),
        (closing(1001), BackendBroken, "closed the connection with 1001", None),
        (closing(1008, "no k1-secret"), BackendRefused, r"closed the connection with 1008: no \*\*\*", 1008),
        (closing(1013), BackendRefused, "closed the connection with 1013", 1013),
        (closing(4001, "pay first"), BackendRefused, "closed the connection with 4001: pay first", 4001),
        (frame(b"\xff\xfe"), BackendBroken, "does not keep to the WebSocket protocol", None),
        (frame(b"", 5), BackendBroken, "does not keep to the WebSocket protocol", None),
        (b"\x81\x82\x00\x00\x00\x00ab", BackendBroken, "does not keep to the WebSocket protocol", None),
        (frame(b"", CONTINUATION), BackendBroken, "does not keep to the WebSocket protocol", None),
        (frame(b"\x00", CLOSE), BackendBroken, "does not keep to the WebSocket protocol", None),
    ],
)
async def test_an_end_that_is_not_in_good_order_says_why(
    said: bytes, error: type[BackendError], message: str, status: int | None
) -> None:
    async with standing(says(frame("first"), said)) as server:
        async with WebSocketClient(ws(server.url), headers={"X-Key": "k1-secret"}) as sockets:
            async with sockets.connect() as socket:
                assert await anext(socket) == "first"
                with pytest.raises(error, match=message) as caught:
                    await anext(socket)
            assert sockets.slots.free == 100
        await server.all_closed()
    assert caught.value.status == status


async def test_a_connection_that_breaks_within_a_frame_is_broken() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame("all of this")[:5])
        await peer.stream.aclose()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        with pytest.raises(BackendBroken, match="broke off in the middle of its answer"):
            await all_of(sockets)


async def test_a_server_that_accepts_and_goes_without_a_word_has_broken_off() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer)
        await peer.stream.aclose()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        with pytest.raises(BackendBroken, match="broke off in the middle of its answer"):
            await all_of(sockets)


async def test_what_is_sent_to_a_server_that_has_gone_is_no_error_but_what_is_read_is() -> None:
    async with standing(says(closing(1011))) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket:
            with pytest.raises(BackendBroken):
                await anext(socket)
            assert not await socket.send("more")


async def test_a_goodbye_is_said_and_not_waited_for() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame("first"))
        heard.append(await unmasked(peer))
        await peer.gone()

    heard: list[tuple[int, bytes]] = []
    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        began = trio.current_time()
        async with sockets.connect() as socket:
            assert await anext(socket) == "first"
            await socket.leave()
        assert trio.current_time() - began < 0.5
        await server.all_closed()
    assert heard == [(CLOSE, b"\x03\xe8")]


async def test_leaving_closes_the_connection_at_once_also_when_cancelled() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame("first"))
        await peer.gone()
        left.append(trio.current_time())

    left: list[float] = []
    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        with trio.CancelScope() as scope:
            async with sockets.connect() as socket:
                assert await anext(socket) == "first"
                scope.cancel()
                ended = trio.current_time()
                await anext(socket)
        await server.all_closed()
        assert sockets.slots.free == 100
    assert left[0] - ended < 1


async def test_a_send_that_is_cut_off_in_a_frame_is_the_last() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer)
        await trio.sleep_forever()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket:
            with trio.move_on_after(0.1):
                await socket.send(bytes(20_000_000))
            assert not await socket.send("more")
            await socket.leave()
        await trio.lowlevel.checkpoint()
        assert sockets.slots.free == 100


# ------------------------------------------------------------------ time


async def later(clock: MockClock, *seconds: float) -> None:
    """Let so much time go by, each time when nothing else moves."""
    for each in seconds:
        await wait_all_tasks_blocked(0.01)
        clock.jump(each)


async def test_a_server_that_never_answers_the_handshake_is_silent(mock_clock: MockClock) -> None:
    async with standing(Peer.gone) as server, WebSocketClient(ws(server.url)) as sockets:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, mock_clock, 59.9, 0.2)
            with pytest.raises(BackendTimeout, match=r"was silent for 60 s"):
                await all_of(sockets)
        await server.all_closed()


async def test_a_server_may_be_silent_while_it_is_talked_to_but_not_then(mock_clock: MockClock) -> None:
    async with standing(says()) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket, trio.open_nursery() as nursery:

            async def talk() -> None:
                for _ in range(3):
                    await later(mock_clock, 1000)
                    await socket.send("more")
                socket.said_all()
                ended.append(trio.current_time())
                await later(mock_clock, 59, 2)

            ended: list[float] = []
            nursery.start_soon(talk)
            with pytest.raises(BackendTimeout, match=r"was silent for 60 s"):
                await anext(socket)
            assert trio.current_time() - ended[0] >= 60


async def test_a_server_that_takes_nothing_is_silent_too(mock_clock: MockClock) -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer)
        await trio.sleep_forever()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket, trio.open_nursery() as nursery:
            nursery.start_soon(socket.send, bytes(20_000_000))
            nursery.start_soon(later, mock_clock, 59, 2)
            with pytest.raises(BackendTimeout, match=r"was silent for 60 s"):
                await anext(socket)


async def test_time_in_which_nothing_is_read_is_no_silence(mock_clock: MockClock) -> None:
    async with standing(says(frame("one"), closing())) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket:
            socket.said_all()
            await later(mock_clock, 1000)
            assert [message async for message in socket] == ["one"]


async def test_all_of_it_may_take_so_long(mock_clock: MockClock) -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer)
        for _ in range(20):
            await peer.send(frame("more"))
            await later(mock_clock, 1)

    async with standing(answer) as server, WebSocketClient(ws(server.url), total_s=10) as sockets:
        with pytest.raises(BackendTimeout, match="took longer than it may in all"):
            await all_of(sockets)


async def test_who_gets_no_connection_in_the_time_there_is_is_told(mock_clock: MockClock) -> None:
    async with standing(says()) as server:
        async with WebSocketClient(ws(server.url), total_s=5, max_connections=1) as sockets, sockets.connect():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(later, mock_clock, 4, 2)
                with pytest.raises(BackendTimeout, match="no connection became free"):
                    await all_of(sockets)


async def test_the_last_message_of_a_server_that_does_not_say_so_is_found_by_a_ping() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer, frame("one"), frame("two"))
        opcode, data = await unmasked(peer)
        assert opcode == PING
        await peer.send(frame(data, PONG))
        await peer.gone()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets, sockets.connect() as socket:
        socket.said_all()
        assert [await socket.soon(0.05) for _ in range(3)] == ["one", "two", None]


async def test_a_message_that_comes_in_place_of_the_pong_is_not_lost() -> None:
    async def answer(peer: Peer) -> None:
        await accept(peer)
        await unmasked(peer)
        await peer.send(frame("late"))
        await peer.gone()

    async with standing(answer) as server, WebSocketClient(ws(server.url)) as sockets, sockets.connect() as socket:
        socket.said_all()
        assert await socket.soon(0.05) == "late"


async def test_a_server_that_answers_no_ping_has_fallen_silent(mock_clock: MockClock) -> None:
    async with standing(says(frame("one"))) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket, trio.open_nursery() as nursery:
            socket.said_all()
            assert await socket.soon(2) == "one"
            nursery.start_soon(later, mock_clock, 3, 59, 2)
            with pytest.raises(BackendTimeout, match=r"was silent for 60 s"):
                await socket.soon(2)


async def test_a_close_where_a_message_may_come_is_broken() -> None:
    async with standing(says(closing())) as server, WebSocketClient(ws(server.url)) as sockets:
        async with sockets.connect() as socket:
            with pytest.raises(BackendBroken, match="closed the connection before its answer was complete"):
                await socket.soon(0.05)


# ------------------------------------------------------------------ the way there


async def test_a_server_that_is_not_there_is_told_with_what_to_try() -> None:
    async with standing(says()) as server:
        url = ws(server.url)
    async with WebSocketClient(url, server="Test", advice={"unreachable": "start it"}) as sockets:
        with pytest.raises(BackendUnreachable, match=r"^Test at ws://127.0.0.1:\d+ cannot be reached: .*: start it$"):
            await all_of(sockets)
        with pytest.raises(BackendUnreachable):
            await sockets.reach()
        assert sockets.slots.free == 100


async def test_reaching_it_makes_no_handshake() -> None:
    async with standing(says()) as server, WebSocketClient(ws(server.url)) as sockets:
        await sockets.reach()
        await server.closed.wait()
    assert not server.asked


@pytest.mark.parametrize("busy", [whole(b"", 503), whole(b"", 429, "Retry-After: 0"), whole(b"", 502)])
async def test_a_busy_server_is_asked_again(busy: bytes) -> None:
    async def answer(peer: Peer) -> None:
        if len(server.asked) < 3:
            await answers(busy)(peer)
        else:
            await says(frame("good"), closing())(peer)

    async with standing(answer) as server, WebSocketClient(ws(server.url), retries=2) as sockets:
        assert await all_of(sockets) == ["good"]
    assert len(server.asked) == 3


@pytest.mark.parametrize("bad", [(whole(b"", 500),), (b"garbage\r\n\r\n",), ()])
async def test_what_would_not_help_is_not_tried_again(bad: tuple[bytes, ...]) -> None:
    async with standing(answers(*bad)) as server, WebSocketClient(ws(server.url), retries=3) as sockets:
        with pytest.raises(BackendError):
            await all_of(sockets)
    assert len(server.asked) == 1


async def test_a_connection_that_was_made_is_never_tried_again() -> None:
    async with standing(says(closing(1013))) as server, WebSocketClient(ws(server.url), retries=3) as sockets:
        with pytest.raises(BackendRefused):
            await all_of(sockets)
    assert len(server.asked) == 1


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


async def test_tls_is_spoken(trust: Trust) -> None:
    async with standing(says(frame("good"), closing()), trust.server()) as server:
        async with WebSocketClient(ws(server.url), tls=trust.client) as sockets:
            assert sockets.url.startswith("wss://")
            assert await all_of(sockets) == ["good"]
        await server.all_closed()


async def test_a_certificate_is_looked_at_unless_told_otherwise(trust: Trust) -> None:
    async with standing(says(frame("good"), closing()), trust.server("other.test")) as server:
        async with WebSocketClient(ws(server.url)) as sockets:
            with pytest.raises(BackendUnreachable, match="is not trusted"):
                await all_of(sockets)
        async with WebSocketClient(ws(server.url), verify=False) as sockets:
            assert await all_of(sockets) == ["good"]


async def test_a_tls_connection_is_closed_at_once_too(trust: Trust) -> None:
    async with standing(says(frame("first")), trust.server()) as server:
        async with WebSocketClient(ws(server.url), tls=trust.client) as sockets:
            with trio.CancelScope() as scope:
                async with sockets.connect() as socket:
                    assert await anext(socket) == "first"
                    scope.cancel()
                    await anext(socket)
            await server.all_closed()


async def test_wss_goes_through_a_proxys_tunnel_and_ws_does_not(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = says(frame("good"), closing())
    async with proxying() as proxy, standing(answer, trust.server("there.test")) as server:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with WebSocketClient(f"wss://there.test:{server.port}", tls=trust.client) as sockets:
            assert await all_of(sockets) == ["good"]
        assert proxy.lines == [f"CONNECT there.test:{server.port} HTTP/1.1"]
    async with proxying() as proxy, standing(answer) as server:
        async with WebSocketClient(ws(server.url), proxy=proxy.url) as sockets:
            assert await all_of(sockets) == ["good"]
        assert not proxy.lines


async def test_a_connection_left_at_every_single_checkpoint(trust: Trust) -> None:
    async with standing(says(frame("one"), closing()), trust.server()) as server:
        async with WebSocketClient(ws(server.url), tls=trust.client, max_connections=1) as sockets:
            steps, left = 0, True
            while left:
                steps += 1
                with trio.CancelScope() as scope:
                    counter = Counter(steps, scope, trio.lowlevel.current_task())
                    trio.lowlevel.add_instrument(counter)
                    try:
                        await all_of(sockets)
                    finally:
                        trio.lowlevel.remove_instrument(counter)
                left = scope.cancelled_caught
                assert (sockets.slots.free, sockets.slots.waiting) == (1, 0)
            await server.all_closed()
    assert steps > 5


class Counter(trio.abc.Instrument):
    """Cancels a scope when a task has been run n times."""

    def __init__(self, steps: int, scope: trio.CancelScope, task: trio.lowlevel.Task) -> None:
        self.steps = steps
        self.scope = scope
        self.task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps -= 1
            if not self.steps:
                self.scope.cancel()
