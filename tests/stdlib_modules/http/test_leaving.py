"""Leaving a request at any moment: its connection is closed at once and its place in the pool is free again."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
from http_standin import Peer, Trust, chunk, head, listening, standing, whole
from trio.testing import wait_all_tasks_blocked

from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.decoding import lines

Moment = Callable[[HTTPClient], Awaitable[None]]
LARGE = bytes(20_000_000)  # more than the kernel takes in


async def endless(peer: Peer) -> None:
    """Streams a line, and another for as long as there is a client."""
    await peer.send(head(), chunk(b"one\n"))
    await peer.gone()


async def read(http: HTTPClient, begun: trio.Event | None = None, user: str = "") -> None:
    async with http.stream("POST", "/", user=user) as reply:
        async for _ in lines(reply):
            if begun is not None:
                begun.set()


async def left(http: HTTPClient, until: Callable[[], Awaitable[object]], asked: Callable[[], Awaitable[None]]) -> None:
    """Have a request under way, and cancel it when `until` is over."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked)
        await until()
        nursery.cancel_scope.cancel()
    assert http.slots.free == http.slots.limit
    assert not http.slots.waiting


async def test_two_hundred_answers_left_while_they_are_read() -> None:
    async with standing(endless) as server, HTTPClient(server.url, max_connections=2) as http:
        for _ in range(200):
            begun = trio.Event()
            await left(http, begun.wait, partial(read, http, begun))
        await server.all_closed()
    assert server.connections == 200


async def test_the_server_sees_it_at_once() -> None:
    seen: list[float] = []

    async def answer(peer: Peer) -> None:
        await endless(peer)
        seen.append(trio.current_time())

    async with standing(answer) as server, HTTPClient(server.url) as http:
        late: list[float] = []
        for _ in range(20):
            begun = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, http, begun)
                await begun.wait()
                now = trio.current_time()
                nursery.cancel_scope.cancel()
            await server.all_closed()
            late.append(seen[-1] - now)
    assert max(late) < 1


async def test_two_hundred_requests_left_in_a_pool_that_is_full() -> None:
    """Some are being read, some wait for a connection, and the places change hands all the while."""
    async with standing(endless) as server, HTTPClient(server.url, max_connections=3) as http:
        scopes: list[trio.CancelScope] = []

        async def one(user: str) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await read(http, user=user)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, "abc"[number % 3])
            await wait_all_tasks_blocked(0.01)
            assert (http.slots.free, http.slots.waiting) == (0, 197)
            for number, scope in enumerate(scopes):
                scope.cancel()
                if number % 7 == 0:
                    await trio.lowlevel.checkpoint()
        assert (http.slots.free, http.slots.waiting) == (3, 0)
        await server.all_closed()


async def test_a_request_left_while_it_waits_for_its_answer() -> None:
    async with standing(Peer.gone) as server, HTTPClient(server.url) as http:

        async def asked() -> None:
            while not server.asked:
                await trio.lowlevel.checkpoint()

        for _ in range(20):
            server.asked.clear()
            await left(http, asked, partial(read, http))
        await server.all_closed()


async def test_a_request_left_while_its_body_is_being_sent() -> None:
    connected, connection = trio.open_memory_channel[None](1)

    async def never(stream: trio.SocketStream) -> None:
        await connected.send(None)
        await trio.sleep_forever()

    async def sending() -> None:
        await connection.receive()
        await wait_all_tasks_blocked(0.01)

    async def send(http: HTTPClient) -> None:
        async with http.stream("POST", "/", content=LARGE):
            raise AssertionError

    async with trio.open_nursery() as nursery, listening(nursery, never) as port:
        async with HTTPClient(f"http://127.0.0.1:{port}") as http:
            for _ in range(3):
                await left(http, sending, partial(send, http))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["direct", "proxy that is silent", "tunnel"])
async def test_a_request_left_in_the_tls_handshake(way: str) -> None:
    """A server never answers the first message of TLS, behind a tunnel too; or a proxy never opens one."""
    heard = trio.Event()
    gone = trio.Event()

    async def deaf(stream: trio.SocketStream) -> None:
        if way == "tunnel":
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        await stream.receive_some()
        heard.set()
        assert await stream.receive_some() == b""
        gone.set()

    async with trio.open_nursery() as nursery, listening(nursery, deaf) as port:
        proxy = None if way == "direct" else f"http://127.0.0.1:{port}"
        async with HTTPClient(f"https://127.0.0.1:{port}", tls=Trust().client, proxy=proxy, max_connections=1) as http:
            for _ in range(20):
                heard, gone = trio.Event(), trio.Event()
                await left(http, heard.wait, partial(read, http))
                await gone.wait()
        nursery.cancel_scope.cancel()


async def test_a_request_left_while_it_connects() -> None:
    """A listener whose backlog is full lets nobody in."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        async with trio.open_nursery() as nursery:
            crowd = [trio.socket.socket() for _ in range(4)]
            for each in crowd:
                nursery.start_soon(each.connect, address)
            await wait_all_tasks_blocked(0.01)
            async with HTTPClient(f"http://127.0.0.1:{address[1]}", max_connections=1) as http:
                for _ in range(20):
                    await left(http, partial(wait_all_tasks_blocked, 0.001), partial(read, http))
            nursery.cancel_scope.cancel()
        for each in crowd:
            each.close()


async def generated(http: HTTPClient) -> AsyncIterator[str]:
    async with http.stream("POST", "/") as reply:
        async for line in lines(reply):
            yield line


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
async def test_a_break_closes_the_connection_and_leaves_nothing_for_the_collector() -> None:
    async with standing(endless) as server, HTTPClient(server.url, max_connections=1) as http:
        for _ in range(3):
            async with http.stream("POST", "/") as reply:
                async for _line in lines(reply):
                    break
            await server.all_closed()
            found = generated(http)
            assert await anext(found) == "one"
            await found.aclose()  # type: ignore[attr-defined]
            await server.all_closed()
        del found, reply
        gc.collect()
        assert http.slots.free == 1


async def test_a_cancellation_closes_the_connection_before_those_who_read_have_cleaned_up() -> None:
    async with standing(endless) as server, HTTPClient(server.url) as http:
        with trio.CancelScope() as scope:
            async with http.stream("POST", "/") as reply:
                try:
                    async for _ in reply:
                        scope.cancel()
                finally:
                    with trio.CancelScope(shield=True):
                        await server.all_closed()


async def test_an_error_among_the_lines_closes_the_connection() -> None:
    async with standing(endless) as server, HTTPClient(server.url) as http:
        with pytest.raises(KeyError):
            async with http.stream("POST", "/") as reply:
                async for line in lines(reply):
                    raise KeyError(line)
        await server.all_closed()
        assert http.slots.free == 100


async def test_closing_the_client_closes_all_that_is_open() -> None:
    async def answer(peer: Peer) -> None:
        await (endless(peer) if peer.line.startswith("POST") else peer.send(whole(b"ok")))

    async with standing(answer) as server:
        async with HTTPClient(server.url) as http:
            async with http.stream("GET", "/") as reply:
                await reply.read()
            stack = http.stream("POST", "/")
            reply = await stack.__aenter__()
            assert await anext(reply) == b"one\n"
        await server.all_closed()
        await stack.__aexit__(None, None, None)
        assert http.slots.free == 100


async def test_the_watch_ends_with_its_client() -> None:
    async with standing(endless) as server:
        before = tasks()
        async with HTTPClient(server.url):
            await wait_all_tasks_blocked()
            assert tasks() == before + 1
        await wait_all_tasks_blocked()
        assert tasks() == before


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_a_request_left_between_two_attempts() -> None:
    refused = trio.Event()

    async def busy(peer: Peer) -> None:
        await peer.send(whole(b"busy", 503, "Retry-After: 5"))
        refused.set()

    async def pause() -> None:
        await refused.wait()
        await wait_all_tasks_blocked(0.01)

    async with standing(busy) as server, HTTPClient(server.url, retries=5) as http:
        await left(http, pause, partial(read, http))
        assert len(server.asked) == 1
