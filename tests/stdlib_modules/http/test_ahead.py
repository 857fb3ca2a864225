"""An answer that is read on while nobody asks for it."""

from __future__ import annotations

import pytest
import trio
from http_standin import DONE, Peer, chunk, head, standing
from trio.testing import MockClock, wait_all_tasks_blocked

from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendBroken

LATE_S = 0.06


async def two(peer: Peer) -> None:
    await peer.send(head(), chunk(b"one"))
    await wait_all_tasks_blocked(0.01)
    await peer.send(chunk(b"two"), DONE)


async def test_who_falls_behind_keeps_no_connection_busy(mock_clock: MockClock) -> None:
    async with standing(two) as server, HTTPClient(server.url, max_connections=1) as http:
        async with trio.open_nursery() as nursery, http.stream("POST", "/") as reply:
            reply.read_ahead(nursery)
            assert await anext(reply) == b"one"
            await wait_all_tasks_blocked(0.02)
            assert http.slots.free == 0
            mock_clock.jump(LATE_S)
            await wait_all_tasks_blocked(0.02)
            assert http.slots.free == 1
            assert [piece async for piece in reply] == [b"two"]
        assert http.slots.free == 1


async def test_who_takes_each_piece_as_it_comes_is_served_without_a_task(mock_clock: MockClock) -> None:
    async with standing(two) as server, HTTPClient(server.url) as http:
        async with trio.open_nursery() as nursery, http.stream("POST", "/") as reply:
            reply.read_ahead(nursery)
            assert [piece async for piece in reply] == [b"one", b"two"]
            mock_clock.jump(LATE_S)
            await wait_all_tasks_blocked(0.02)
            assert not nursery.child_tasks
            async with http.stream("POST", "/") as next_reply:  # on the same connection
                assert await next_reply.read() == b"onetwo"
        assert server.connections == 1


async def test_what_breaks_while_it_is_read_ahead_is_told_behind_what_came(mock_clock: MockClock) -> None:
    async def breaks(peer: Peer) -> None:
        await peer.send(head(), chunk(b"one"))
        await wait_all_tasks_blocked(0.01)
        await peer.send(chunk(b"two"))
        await peer.stream.aclose()

    async with standing(breaks) as server, HTTPClient(server.url) as http, trio.open_nursery() as nursery:
        async with http.stream("POST", "/") as reply:
            reply.read_ahead(nursery)
            assert await anext(reply) == b"one"
            mock_clock.jump(LATE_S)
            await wait_all_tasks_blocked(0.02)
            assert await anext(reply) == b"two"
            with pytest.raises(BackendBroken, match="broke off in the middle of its answer"):
                await anext(reply)


async def test_an_answer_that_is_left_is_not_read_on(mock_clock: MockClock) -> None:
    async with standing(lambda peer: peer.send(head(), chunk(b"one"))) as server, HTTPClient(server.url) as http:
        async with trio.open_nursery() as nursery:
            async with http.stream("POST", "/") as reply:
                reply.read_ahead(nursery)
                assert await anext(reply) == b"one"
            mock_clock.jump(LATE_S)
            await wait_all_tasks_blocked(0.02)
            assert not nursery.child_tasks
        await server.all_closed()
