"""Requests as they arrive at a server, answers as they come back, connections as they are used again."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import trio
from http_standin import DONE, Peer, chunk, head, standing, whole
from trio.testing import MockClock, wait_all_tasks_blocked

from ezflow import MissingDependency
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.decoding import events, lines
from stdlib_modules.http.errors import BackendBroken


async def ok(peer: Peer) -> None:
    await peer.send(whole(b"ok"))


async def asked(http: HTTPClient, method: str = "POST", path: str = "/api", **more: Any) -> bytes:
    async with http.stream(method, path, **more) as reply:
        return await reply.read()


async def test_pieces_come_as_the_server_sends_them() -> None:
    heard = trio.Event()

    async def answer(peer: Peer) -> None:
        await peer.send(head(200, "Content-Type: text/plain", "X-Twice: 1", "x-twice: 2"), chunk(b"one"))
        await heard.wait()
        await peer.send(chunk(b"two"), DONE)

    async with standing(answer) as server, HTTPClient(server.url) as http, http.stream("POST", "/") as reply:
        assert (reply.status, reply.headers["content-type"], reply.headers["x-twice"]) == (200, "text/plain", "1, 2")
        assert await anext(reply) == b"one"
        heard.set()
        assert [piece async for piece in reply] == [b"two"]


async def test_lines_and_events_of_an_answer() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(head(), chunk(b'data: {"a"'), chunk(b": 1}\n\ndata: 2\n\n"), DONE)

    async with standing(answer) as server, HTTPClient(server.url) as http:
        async with http.stream("POST", "/") as reply:
            assert [event.data async for event in events(reply)] == ['{"a": 1}', "2"]
        async with http.stream("POST", "/") as reply:
            assert [line async for line in lines(reply)] == ['data: {"a": 1}', "data: 2"]
        with pytest.raises(BackendBroken, match=r"The server at http.* sent a line of more than 5 bytes"):
            async with http.stream("POST", "/") as reply:
                assert [line async for line in lines(reply, 5)] == []
        assert http.slots.free == 100


async def test_one_connection_serves_requests_that_follow_each_other() -> None:
    async def answer(peer: Peer) -> None:
        await (peer.send(whole(b"", 204)) if peer.line.startswith("HEAD") else peer.send(head(), chunk(b"ok"), DONE))

    async with standing(answer) as server, HTTPClient(server.url) as http:
        for method in ["POST", "HEAD", "GET"]:
            await asked(http, method)
        assert server.connections == 1
    assert [peer.connection for peer in server.asked] == [1, 1, 1]


async def test_idle_connections_are_bounded_in_number_and_in_time(mock_clock: MockClock) -> None:
    both = trio.Event()

    async def answer(peer: Peer) -> None:
        if len(server.asked) == 2:
            both.set()
        await both.wait()
        await ok(peer)

    async with standing(answer) as server, HTTPClient(server.url, max_idle=1, idle_s=60) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, http)
            nursery.start_soon(asked, http)
        while server.open > 1:
            await server.closed.wait()
        mock_clock.jump(59)
        await asked(http)
        assert server.connections == 2
        mock_clock.jump(61)
        await asked(http)
        assert server.connections == 3


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_unnoticed() -> None:
    async def answer(peer: Peer) -> None:
        await ok(peer)
        await peer.stream.aclose()

    async with standing(answer) as server, HTTPClient(server.url) as http:
        for _ in range(3):
            assert await asked(http) == b"ok"
            await server.all_closed()
    assert server.connections == 3


@pytest.mark.parametrize("more", [whole(b"late", 408), b"x"])
async def test_what_a_server_sends_unasked_is_not_taken_for_the_next_answer(more: bytes) -> None:
    async def answer(peer: Peer) -> None:
        if len(server.asked) == 1:
            await peer.send(whole(b"ok"), more)
        else:
            await peer.send(whole(b"ok"))
            await wait_all_tasks_blocked(0.01)
            await peer.send(more)
            later.set()

    later = trio.Event()
    async with standing(answer) as server, HTTPClient(server.url) as http:
        for _ in range(2):
            assert await asked(http) == b"ok"
        await later.wait()
        assert await asked(http) == b"ok"
    assert server.connections == 3


async def test_a_connection_that_closes_without_a_word_is_replaced_once_and_a_new_one_is_not() -> None:
    async def answer(peer: Peer) -> None:
        await (ok(peer) if len(server.asked) in (1, 3) else peer.stream.aclose())

    async with standing(answer) as server, HTTPClient(server.url, server="Ollama") as http:
        assert [await asked(http), await asked(http)] == [b"ok", b"ok"]
        assert [peer.connection for peer in server.asked] == [1, 1, 2]
        with pytest.raises(BackendBroken, match=r"Ollama at .*/api closed the connection without an answer"):
            await asked(http)
        assert [peer.connection for peer in server.asked] == [1, 1, 2, 2, 3]


async def test_a_request_is_not_repeated_once_something_of_its_answer_has_come() -> None:
    async def answer(peer: Peer) -> None:
        if len(server.asked) == 1:
            await ok(peer)
        else:
            await peer.send(b"HTTP/1.1 200 O")
            await peer.stream.aclose()

    async with standing(answer) as server, HTTPClient(server.url) as http:
        await asked(http)
        with pytest.raises(BackendBroken, match="broke off in the middle of its answer"):
            await asked(http)
    assert len(server.asked) == 2


async def test_no_more_connections_than_may_be_and_users_in_turn() -> None:
    go = {str(n): trio.Event() for n in range(6)}

    async def answer(peer: Peer) -> None:
        await go[peer.line.split()[1].strip("/")].wait()
        await ok(peer)

    async with standing(answer) as server, HTTPClient(server.url, max_connections=2) as http:
        async with trio.open_nursery() as nursery:
            for number, user in enumerate(["ann", "ann", "ann", "ann", "bob", "cid"]):
                nursery.start_soon(lambda n, u: asked(http, path=f"/{n}", user=u), number, user)
                await wait_all_tasks_blocked()
            for number in range(6):
                for event in list(go.values())[: number + 1]:
                    event.set()
                await wait_all_tasks_blocked(0.01)
            for event in go.values():
                event.set()
    order = [peer.line.split()[1] for peer in server.asked]
    assert sorted(order[:2]) == ["/0", "/1"]
    assert order[2:] == ["/2", "/4", "/5", "/3"]
    assert server.connections == 2


async def test_an_answer_read_to_its_last_byte_frees_its_connection_before_it_is_left() -> None:
    async with standing(ok) as server, HTTPClient(server.url, max_connections=1) as http:
        async with http.stream("POST", "/") as reply:
            assert await reply.read() == b"ok"
            assert await asked(http) == b"ok"
    assert server.connections == 1


async def test_an_answer_that_has_all_arrived_keeps_its_connection_though_it_was_not_read() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(head(), chunk(b"one"), chunk(b"two"), DONE)

    async with standing(answer) as server, HTTPClient(server.url) as http:
        for _ in range(2):
            async with http.stream("POST", "/") as reply:
                pass
        assert await asked(http) == b"onetwo"
        with pytest.raises(trio.ClosedResourceError):
            await anext(reply)
    assert server.connections == 1


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n", head(200, chunked=False), b"all of it")
        await peer.stream.aclose()

    async with standing(answer) as server, HTTPClient(server.url) as http:
        assert await asked(http) == b"all of it"


async def test_what_the_client_stands_on_is_needed_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("stdlib_modules.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)
    fresh = importlib.import_module("stdlib_modules.http.client").HTTPClient("http://127.0.0.1")
    with pytest.raises(MissingDependency, match="HTTPClient needs httptools"):
        async with fresh:
            pass
