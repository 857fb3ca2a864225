"""A server that is sent anything over real sockets: each answer is one that is documented, and its log has no error."""

from __future__ import annotations

import base64
import logging
from typing import Any

import h11
import pytest
import trio
from anything import MESSAGES, SOUNDS
from hypothesis import given
from hypothesis import strategies as st
from reachable import Server, serving
from trio_websocket import ConnectionClosed, connect_websocket_url
from worlds import World

from ezflow.testing import FakeASR, FakeLLM, FakeTTS

WITHIN_S = 5.0
LONGEST_ERROR = 16 * 1024
FLOW = FakeASR() >> FakeLLM().shown() >> FakeTTS()


async def post(server: Server, path: str, body: bytes) -> tuple[int, bytes]:
    """The status and the body of an answer, on a connection of its own."""
    http = h11.Connection(h11.CLIENT)
    head = h11.Request(method="POST", target=path, headers=[("Host", "localhost"), ("Content-Length", str(len(body)))])
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        sent = [http.send(head), http.send(h11.Data(body)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(filter(None, sent)))
        status, answer = 0, b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
    return status, answer


class Running:
    """A server in a thread of its own, for what is no coroutine."""

    def __init__(self) -> None:
        self.world = World()
        self.server: Server
        self._done = trio.Event()

    def __enter__(self) -> Running:
        self.world.start()
        self.world.run(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self.world.call(self._done.set)
        self.world.stop()

    async def _begin(self) -> None:
        async def serve(task_status: Any) -> None:
            async with serving({"talk": FLOW}, turn_s=5.0) as server:
                task_status.started(server)
                await self._done.wait()

        self.server = await self.world.nursery.start(serve)


@pytest.fixture
def running():
    with Running() as running:
        yield running


SOUND_BODIES = st.tuples(st.sampled_from([b"input", b"Input"]), SOUNDS.map(base64.b64encode)).map(
    lambda name_and_sound: b'{"user":"ann","%b":"%b"}' % name_and_sound
)
RAW = st.binary(max_size=300) | MESSAGES.map(lambda text: text.encode(errors="surrogatepass")) | SOUND_BODIES


@pytest.mark.parametrize("path", ["/turns", "/interrupt", "/input"])
def test_a_body_over_a_socket_is_answered_and_never_by_a_fault(running, effort, caplog, path):
    def check(body: bytes) -> None:
        with caplog.at_level(logging.ERROR):
            status, answer = running.world.run(post, running.server, path, body)
        assert status in (200, 400, 422), (status, answer[:300])
        assert len(answer) < LONGEST_ERROR + 2 * len(body)
        assert not caplog.records

    effort(short=60, long=3000)(given(RAW)(check))()


def test_messages_over_a_websocket_are_answered_and_the_next_is_heard(running, effort, caplog):
    async def spoken(messages: list[str | bytes]) -> None:
        url = f"ws://127.0.0.1:{running.server.port}/ws?user=ann"
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                socket = await connect_websocket_url(nursery, url, message_queue_size=1000)
                for message in messages:
                    await socket.send_message(message)
                await socket.send_message('{"type":"ping"}')
                while await socket.get_message() != '{"type":"pong"}':
                    pass
                with trio.move_on_after(1):
                    await socket.aclose()
                nursery.cancel_scope.cancel()

    def check(messages: list[str | bytes]) -> None:
        with caplog.at_level(logging.ERROR):
            try:
                running.world.run(spoken, [m for m in messages if m != '{"type":"ping"}'])
            except* ConnectionClosed as closed:
                raise AssertionError(f"the socket was closed: {closed.exceptions}") from closed
        assert not caplog.records

    effort(short=60, long=3000)(given(st.lists(MESSAGES | st.binary(max_size=50), max_size=6))(check))()
