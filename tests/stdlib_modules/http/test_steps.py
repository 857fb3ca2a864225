"""A request over TLS, cancelled at its first step, its second, and so on until it gets to its end."""

from __future__ import annotations

import trio
from http_standin import DONE, Peer, Trust, chunk, head, standing

from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.decoding import lines


async def read(http: HTTPClient) -> None:
    async with http.stream("POST", "/") as reply:
        async for _ in lines(reply):
            pass


async def test_a_request_left_at_every_single_checkpoint() -> None:
    trust = Trust()

    async def answer(peer: Peer) -> None:
        await peer.send(head(), chunk(b"one\n"))
        await peer.send(chunk(b"two\n"), DONE)

    async with (
        standing(answer, trust.server()) as server,
        HTTPClient(server.url, tls=trust.client, max_connections=1) as http,
    ):
        steps = 0
        while True:
            steps += 1
            with trio.CancelScope() as scope:
                counter = Counter(steps, scope, trio.lowlevel.current_task())
                trio.lowlevel.add_instrument(counter)
                try:
                    await read(http)
                finally:
                    trio.lowlevel.remove_instrument(counter)
            assert (http.slots.free, http.slots.waiting) == (1, 0)
            if not scope.cancelled_caught:
                break
        assert steps > 5
        await read(http)


class Counter(trio.abc.Instrument):
    """Cancels a scope when a task is about to be run for the nth time."""

    def __init__(self, steps: int, scope: trio.CancelScope, task: trio.lowlevel.Task) -> None:
        self.steps = steps
        self.scope = scope
        self.task = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps -= 1

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task and self.steps <= 0:
            self.scope.cancel()
