"""What is said, and done, where a server does not answer as it should."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from http_standin import DONE, Peer, StandIn, chunk, head, listening, standing, whole
from trio.testing import MockClock, wait_all_tasks_blocked

from ezflow import EzflowError
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused, BackendTimeout, BackendUnreachable


async def ok(peer: Peer) -> None:
    await peer.send(whole(b"ok"))


async def asked(http: HTTPClient, method: str = "POST", path: str = "/api", **more: Any) -> bytes:
    async with http.stream(method, path, **more) as reply:
        return await reply.read()


REFUSALS = [
    (404, b'{"error": "model \\"x\\" not found"}', 'answered 404: model "x" not found: pull it first (ollama pull x)'),
    (400, b'{"error": {"message": "too\\n long"}}', "answered 400: too long"),
    (400, b'{"message": "no voice"}', "answered 400: no voice"),
    (500, b"<html>\n<b>Oh</b>", "answered 500: <html> <b>Oh</b>"),
    (500, b"", "answered 500"),
    (500, b"[" * 15_000, "answered 500: " + "[" * 199 + "…"),
    (301, b"", "answered 301: it sends requests on to http://there/: give that url"),
]


@pytest.mark.parametrize(("status", "body", "said"), REFUSALS)
async def test_a_refusal_says_who_where_what_and_what_to_try(status: int, body: bytes, said: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(whole(body, status, "Location: http://there/?key=1"))

    advice: dict[int | str, str] = {404: "pull it first (ollama pull x)"}
    async with standing(answer) as server, HTTPClient(server.url, server="Ollama", advice=advice) as http:
        with pytest.raises(BackendRefused) as caught:
            await asked(http, path="/api/chat?secret=1")
        assert str(caught.value) == f"Ollama at {server.url}/api/chat {said}"
        assert (caught.value.status, caught.value.server) == (status, "Ollama")
        async with http.stream("POST", "/", check=False) as reply:
            assert (reply.status, await reply.read()) == (status, body)
        assert (server.connections, http.slots.free) == (1, 100)
    assert isinstance(caught.value, BackendError | EzflowError)


async def test_a_document_in_place_of_a_stream_is_a_refusal() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(whole(b'{"error": "no such model"}', 200, "Content-Type: application/json; charset=utf-8"))

    async with standing(answer) as server, HTTPClient(server.url) as http:
        with pytest.raises(BackendRefused, match="answered 200: no such model"):
            await asked(http, expect="text/event-stream")
        assert server.asked[0].headers["accept"] == "text/event-stream"
        assert await asked(http, expect="application/json")
        async with http.stream("POST", "/") as reply:
            assert await reply.json() == {"error": "no such model"}


async def test_a_server_that_is_not_there() -> None:
    async with standing(ok) as server:
        pass
    async with HTTPClient(server.url, server="Ollama", advice={"unreachable": "run: ollama serve"}) as http:
        with pytest.raises(BackendUnreachable) as caught:
            await asked(http)
    assert str(caught.value) == f"Ollama at {server.url}/api cannot be reached: Connection refused: run: ollama serve"
    assert caught.value.transient
    async with HTTPClient("http://nowhere.invalid") as http:
        with pytest.raises(BackendUnreachable, match="cannot be reached") as caught:
            await asked(http)
    assert http.slots.free == 100


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"garbage\r\n\r\n", "does not speak HTTP/1.1"),
        (b"\x15\x03\x01\0\2\2\x16", "does not speak HTTP/1.1"),
        (head() + b"zz\r\n", "does not speak HTTP/1.1"),
        (head(), "broke off in the middle"),
        (head() + chunk(b"one") + b"5\r\nab", "broke off in the middle"),
        (head(200, "Content-Length: 5", chunked=False) + b"ab", "broke off in the middle"),
        (head(200, "X: " + "y" * 300_000), "does not speak HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "does not speak HTTP/1.1"),
        (whole(b"x", 200, "Content-Encoding: gzip"), "answered in gzip, which was not asked for"),
    ],
)
async def test_an_answer_that_is_none_is_told_as_such(sent: bytes, said: str) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(sent)
        await peer.stream.aclose()

    async with standing(answer) as server, HTTPClient(server.url) as http:
        with pytest.raises(BackendBroken, match=said):
            await asked(http)
        assert http.slots.free == 100


async def test_the_answer_of_a_server_that_takes_no_more_of_a_request_is_heard() -> None:
    async def stops(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(100)
            await stream.send_all(whole(b"too big", 413))

    async with trio.open_nursery() as nursery, listening(nursery, stops) as port:
        async with HTTPClient(f"http://127.0.0.1:{port}") as http:
            for _ in range(2):
                with pytest.raises(BackendRefused, match="answered 413: too big"):
                    await asked(http, content=bytes(20_000_000))
        nursery.cancel_scope.cancel()


async def test_more_than_was_to_be_read_is_an_error() -> None:
    async with standing(ok) as server, HTTPClient(server.url) as http:
        with pytest.raises(BackendBroken, match="sent more than 1 bytes"):
            async with http.stream("POST", "/") as reply:
                await reply.read(1)
        with pytest.raises(BackendBroken, match="sent what is not JSON") as caught:
            async with http.stream("POST", "/") as reply:
                await reply.json()
        assert caught.value.body == "ok"


@attrs.define
class Silence:
    """A server that sends `first` and then nothing more."""

    first: bytes = b""
    silent: trio.Event = attrs.field(factory=trio.Event)
    left: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, peer: Peer) -> None:
        if self.first:
            await peer.send(self.first)
        self.silent.set()
        await peer.gone()
        self.left.set()


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200", head(), head() + chunk(b"one")])
@pytest.mark.parametrize(("total_s", "said"), [(None, "was silent for 60 s"), (5.0, "took longer than it may")])
async def test_a_server_that_falls_silent_is_left(
    first: bytes, total_s: float | None, said: str, mock_clock: MockClock
) -> None:
    silence = Silence(first)
    async with standing(silence) as server, HTTPClient(server.url, total_s=total_s) as http:
        async with trio.open_nursery() as nursery:

            async def patience() -> None:
                await silence.silent.wait()
                await wait_all_tasks_blocked(0.01)
                mock_clock.jump(4.9 if total_s else 59.9)
                await wait_all_tasks_blocked(0.01)
                assert not silence.left.is_set()
                mock_clock.jump(0.2)

            nursery.start_soon(patience)
            with pytest.raises(BackendTimeout, match=said) as caught:
                await asked(http)
        await silence.left.wait()
        assert http.slots.free == 100
    assert isinstance(caught.value, TimeoutError)


async def test_pieces_that_keep_coming_are_waited_for(mock_clock: MockClock) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(head())
        for _ in range(5):
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(40)
            await peer.send(chunk(b"x"))
        await peer.send(DONE)

    async with standing(answer) as server, HTTPClient(server.url) as http:
        assert await asked(http) == b"xxxxx"


async def test_time_in_which_the_answer_is_not_read_is_no_silence(mock_clock: MockClock) -> None:
    slow = trio.Event()

    async def answer(peer: Peer) -> None:
        await peer.send(head(), chunk(b"one"))
        await slow.wait()
        await peer.send(chunk(b"two"), DONE)

    async with standing(answer) as server, HTTPClient(server.url) as http, http.stream("POST", "/") as reply:
        assert await anext(reply) == b"one"
        mock_clock.jump(1000)
        await wait_all_tasks_blocked(0.01)
        slow.set()
        assert await reply.read() == b"two"


async def test_each_request_has_its_own_deadline(mock_clock: MockClock) -> None:
    late: list[float] = []

    async def silent(http: HTTPClient) -> None:
        with pytest.raises(BackendTimeout):
            await asked(http)
        late.append(trio.current_time())

    async with standing(Peer.gone) as server, HTTPClient(server.url) as http, trio.open_nursery() as nursery:
        begun = trio.current_time()
        for _ in range(3):
            nursery.start_soon(silent, http)
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(20)
        for _ in range(3):
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(20)
        await wait_all_tasks_blocked(0.01)
        assert [round(each - begun) for each in late] == [60, 80, 100]


async def busy(server: StandIn, peer: Peer, times: int, *headers: str) -> None:
    await (peer.send(whole(b"busy", 503, *headers)) if len(server.asked) <= times else ok(peer))


async def test_a_request_is_made_again_while_the_server_is_not_ready() -> None:
    async def answer(peer: Peer) -> None:
        await busy(server, peer, 2)

    async with standing(answer) as server:
        async with HTTPClient(server.url, retries=2) as http:
            assert await asked(http, content=b"all") == b"ok"
            assert [peer.body for peer in server.asked] == [b"all"] * 3
        server.asked.clear()
        async with HTTPClient(server.url, retries=1) as http:
            with pytest.raises(BackendRefused, match="503: busy"):
                await asked(http)
            assert (len(server.asked), http.slots.free) == (2, 100)


async def test_what_another_attempt_does_not_mend_is_not_tried_again() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(whole(b"no", 400) if peer.line.startswith("POST") else head())
        await peer.stream.aclose()

    async with standing(answer) as server, HTTPClient(server.url, retries=3) as http:
        with pytest.raises(BackendRefused):
            await asked(http)
        with pytest.raises(BackendBroken):
            await asked(http, "GET")
    assert len(server.asked) == 2


async def test_each_attempt_that_failed_is_logged_with_who_why_and_when_the_next_is(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(peer: Peer) -> None:
        await busy(server, peer, 1, "Retry-After: 2")

    async def clock() -> None:
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)

    async with standing(answer) as server, HTTPClient(server.url, server="Ollama", retries=3) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock)
            assert await asked(http) == b"ok"
        (record,) = caplog.records
        told = f"attempt 1 of 4 failed, the next is in 2.0 s: Ollama at {server.url}/api answered 503: busy"
        assert (record.name, record.levelname, record.getMessage()) == ("ezflow", "WARNING", told)
        assert vars(record)["url"] == f"{server.url}/api"


async def test_no_pause_is_begun_that_ends_too_late(mock_clock: MockClock) -> None:
    async def answer(peer: Peer) -> None:
        await busy(server, peer, 1, "Retry-After: 4")

    async with standing(answer) as server, HTTPClient(server.url, retries=3, total_s=3.0) as http:
        with pytest.raises(BackendRefused, match="503"):
            await asked(http)
    assert trio.current_time() < 3


async def test_a_request_is_made_again_when_the_server_says(mock_clock: MockClock) -> None:
    after = "4"

    async def answer(peer: Peer) -> None:
        await busy(server, peer, 1, f"Retry-After: {after}")

    async def clock() -> None:
        for seconds in [3.9, 0.2]:
            await wait_all_tasks_blocked(0.01)
            assert len(server.asked) == 1
            mock_clock.jump(seconds)

    async with standing(answer) as server, HTTPClient(server.url, retries=3) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock)
            assert await asked(http) == b"ok"
        server.asked.clear()
        after = "3600"
        with pytest.raises(BackendRefused) as caught:
            await asked(http)
        assert (caught.value.retry_after_s, len(server.asked)) == (3600, 1)


async def test_a_pause_that_the_caller_has_no_time_for_is_not_begun(mock_clock: MockClock) -> None:
    async def answer(peer: Peer) -> None:
        await busy(server, peer, 1, "Retry-After: 4")

    async with standing(answer) as server, HTTPClient(server.url, retries=3) as http:
        with trio.fail_after(3), pytest.raises(BackendRefused, match="answered 503"):
            await asked(http)
    assert (len(server.asked), trio.current_time()) == (1, 0)
