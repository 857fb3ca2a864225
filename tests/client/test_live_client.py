"""Live turns over a WebSocket with the client on trio: feeding, interrupting, and what ends a connection."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from peers import Peer, answering, playing
from stages import Floods, Hears, Seen, Speech, Talks
from trio_websocket import ConnectionClosed, serve_websocket

from ezflow import Audio, Latest, Module, Turn, TurnClosedError, module
from ezflow.client import Client, Closed, ConnectFailed, Format, ProtocolError, Refused
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD

TOKEN = "a-token-of-more-than-16"
SPEECH, SILENCE = b"\1\0" * 512, bytes(1024)
ENDED = {"type": "turn.ended", "turn": 1, "seq": 9, "t": 1.0, "reason": "done"}


def text(run: int, word: str, seq: int = 1) -> dict[str, Any]:
    return {"type": "text", "turn": 1, "seq": seq, "t": 0.1, "stage": "llm", "run": run, "text": word}


@module
class Upper(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text.upper()


@module
class Pieces(Module[Audio, str]):
    """Says how much sound each piece is."""

    async def process(self, sound: Audio, turn: Turn) -> AsyncIterator[str]:
        yield f"{sound.samples} at {sound.rate_hz} in {sound.channels}"


async def resets(stream: trio.SocketStream) -> None:
    """Be gone as a process is that ends with something unread."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def texts(live: Any) -> list[str]:
    return [event.item async for event in live if event.type == "text"]


async def test_speech_is_answered_and_spoken_over(serving):
    flow = Speech() >> FakeVAD() >> Latest(FakeASR() >> FakeLLM(reply="one two three", each_s=0.3).shown() >> FakeTTS())
    async with serving(flow) as server, Client(server.url) as client, client.live() as live:
        assert live.flow["live"] is True
        await live.send(SPEECH)
        await live.send(SILENCE)
        heard: list[Any] = []
        async for event in live:
            heard.append(event)
            if event.type == "audio" and sum(e.type == "audio" for e in heard) == 1:
                await live.send(SPEECH)
                await live.end()
        kinds = [(event.type, event.run) for event in heard]
        assert ("interrupted", 1) in kinds
        assert "".join(event.item for event in heard if event.type == "text" and event.run == 2) == "one two three"
        assert all(run != 1 for _, run in kinds[kinds.index(("interrupted", 1)) + 1 :])
        assert heard[-1].reason == "done"
        assert live.id == 1


async def test_bytes_are_in_the_turns_format_and_other_sound_brings_its_own(serving):
    async with serving(Pieces()) as server, Client(server.url) as client:
        async with client.live(format=Format(48_000, 2)) as live:
            await live.send(bytes(400))
            await live.send(memoryview(bytes(800)))
            await live.send(Audio(bytes(400), 48_000, 2))
            await live.send(Audio(bytes(400), 8_000))
            await live.send(Audio(bytes(40), 11_025).to_wav())
            await live.end()
            said = [
                "100 at 48000 in 2",
                "200 at 48000 in 2",
                "100 at 48000 in 2",
                "200 at 8000 in 1",
                "20 at 11025 in 1",
            ]
            assert await texts(live) == said
        async with client.live(format=Audio(b"", 22_050)) as live:
            with pytest.raises(ValueError, match="whole frames"):
                await live.send(b"\0")
            await live.send(bytes(2))
            await live.end()
            assert await texts(live) == ["1 at 22050 in 1"]


async def test_an_entry_of_its_own_is_fed_in_the_same_turn(serving):
    async with serving(Hears() >> Upper()) as server, Client(server.url) as client, client.live() as live:
        await live.send("by the way", entry="upper")
        assert [(await anext(live)).type, (await anext(live)).item] == ["turn.started", "BY THE WAY"]
        await live.send(bytes(20))
        await live.end()
        assert await texts(live) == ["10 AT 16000 HZ IN 1"]


async def test_what_does_not_fit_is_answered_and_the_turn_goes_on(serving):
    async with serving(Upper()) as server, Client(server.url) as client, client.live() as live:
        await live.send(5)
        await live.send("x", entry="nowhere")
        await live.send("fine")
        await live.end()
        events = [event async for event in live]
        faults = [(event.turn, event.error.name) for event in events if event.error is not None]
        assert faults == [(0, "InputError"), (0, "EntryError")]
        assert [event.item for event in events if event.type == "text"] == ["FINE"]


async def test_a_start_that_does_not_fit_is_refused_where_the_block_begins(serving):
    async with serving(Upper()) as server, Client(server.url) as client:
        with pytest.raises(Refused, match="Entry 7 does not exist") as refused:
            async with client.live(entry=7):
                pytest.fail("it began")
        assert (refused.value.status, refused.value.error, refused.value.path) == (None, "EntryError", "entry")
        with pytest.raises(Refused, match=r"options\.LLM"):
            await client.live(options={"LLM": {}}).begun()


async def test_interrupt_stops_the_reply_and_the_turn_goes_on(serving):
    async with serving(Latest(FakeLLM(reply="{} again", each_s=0.2))) as server, Client(server.url) as client:
        async with client.live() as live:
            await live.send("one")
            events: list[Any] = []
            async for event in live:
                events.append((event.type, event.run, event.item))
                if events[-1] == ("text", 1, "one"):
                    await live.interrupt()
                if event.type == "interrupted":
                    await live.send("two")
                    await live.end()
            said = [("text", 1, "one"), ("interrupted", 1, None), ("text", 2, "two"), ("text", 2, " again")]
            assert events[1:-1] == said


async def test_an_interrupt_of_nothing_is_answered_too(serving):
    async with serving(Upper()) as server, Client(server.url) as client, client.live() as live:
        await live.interrupt()
        assert [(await anext(live)).type for _ in range(2)] == ["turn.started", "interrupted"]


async def test_what_was_played_is_what_the_history_holds(serving):
    flow = Latest(FakeLLM(reply="One. Two. Three.", each_s=0.0) >> FakeTTS(char_s=0.1))
    async with serving({"live": flow, "counts": FakeLLM(reply="{n}")}) as server, Client(server.url) as client:
        async with client.live() as live:
            await live.send("count")
            async for event in live:
                if event.type == "audio":
                    await live.played(event, 1000 * event.item.duration_s)
                    await live.end()
            await live.played(event, 1.0)
            await live.interrupt()
        assert [e.item async for e in client.of("counts").turn("x") if e.type == "text"] == ["2"]


@module
class Recalls(Module[str, str]):
    """Says what the assistant has said before."""

    async def process(self, text: str, turn: Turn) -> str:
        return "|".join(message.content for message in turn.history.messages if message.role == "assistant")


async def test_of_an_interrupted_answer_the_history_holds_what_was_played(serving):
    flow = Latest(FakeLLM(reply="One. Two. Three.", each_s=0.0) >> FakeTTS(char_s=0.1))
    async with serving({"live": flow, "recalls": Recalls()}) as server, Client(server.url) as client:
        async with client.live() as live:
            await live.send("count")
            while (first := await anext(live)).type != "audio":
                pass
            await live.played(first, 1000 * first.item.duration_s)
            await live.interrupt()
            while (await anext(live)).type != "interrupted":
                pass
        assert [e.item async for e in client.of("recalls").turn("x") if e.type == "text"] == ["One."]


async def test_input_after_the_end_or_after_the_turn_is_refused(serving):
    async with serving(Upper()) as server, Client(server.url, user="ann") as client:
        async with client.live() as live:
            await live.end()
            await live.end()
            with pytest.raises(TurnClosedError, match="has ended"):
                await live.send("late")
            assert [event.type async for event in live] == ["turn.started", "turn.ended"]
        async with client.live() as live:
            assert await client.interrupt() == 2
            assert [event.type async for event in live] == ["turn.started", "turn.ended"]
            with pytest.raises(TurnClosedError, match="turn 2 is over"):
                await live.send("late")


async def test_a_block_that_is_left_ends_the_turn_on_the_server_at_once(serving):
    for how in ("break", "raise", "cancel"):
        seen = Seen()
        async with serving(Talks(seen)) as server, Client(server.url) as client:
            with trio.CancelScope() as scope:
                try:
                    async with client.live() as live:
                        await live.send("hello")
                        async for event in live:
                            if event.type == "text" and how == "break":
                                break
                            if event.type == "text" and how == "raise":
                                raise KeyError("mine")
                            if event.type == "text":
                                scope.cancel()
                except KeyError:
                    assert how == "raise"
            with trio.fail_after(5):
                await seen.left.wait()


async def test_events_that_nobody_takes_hold_up_the_server_and_senders(serving):
    seen = Seen()
    async with serving(Floods(seen, 1000)) as server, Client(server.url) as client, client.live() as live:
        await live.send("go")
        before = -1
        while seen.count > before:
            before = seen.count
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert seen.count < 500
        with trio.move_on_after(0.2) as waiting:
            while True:
                await live.send("x" * 500_000)
        assert waiting.cancelled_caught
        count = 0
        async for event in live:
            count += event.type == "text"
            if count == 1000:
                break
        assert count == 1000


async def test_a_send_that_is_cancelled_leaves_the_connection_whole():
    received: list[bytes] = []
    blocked, stopped = trio.Event(), trio.Event()

    async def reads_late(peer: Peer) -> None:
        await peer.begins()
        await blocked.wait()
        while (frame := await peer.hears()) != {"type": "end"}:
            received.append(frame)
        await peer.says(ENDED)
        stopped.set()

    async with playing(reads_late) as url, Client(url) as client, client.live() as live:
        sent = 0
        with trio.move_on_after(0.3):
            while True:
                await live.send(bytes([sent % 256, 0]) * 500_000)
                sent += 1
        with trio.move_on_after(0.05) as waiting:
            await live.end()
        assert waiting.cancelled_caught
        blocked.set()
        await live.end()
        assert [event.type async for event in live] == ["turn.started", "turn.ended"]
        assert [(frame[0], len(frame)) for frame in received] == [(number % 256, 1_000_000) for number in range(sent)]


async def test_to_be_cancelled_while_waiting_for_an_event_loses_none():
    pcm = bytes(2000)
    audio = {"type": "audio", "turn": 1, "seq": 1, "t": 0.1, "stage": "tts", "rate_hz": 8000, "bytes": len(pcm)}
    between = trio.Event()

    async def pauses(peer: Peer) -> None:
        await peer.begins()
        await peer.says(audio)
        await between.wait()
        await peer.says(pcm, ENDED)

    async with playing(pauses) as url, Client(url) as client, client.live() as live:
        assert (await anext(live)).type == "turn.started"
        with trio.move_on_after(0.05) as waiting:
            await anext(live)
        assert waiting.cancelled_caught
        between.set()
        assert (await anext(live)).item == Audio(pcm, 8000)


async def test_nothing_of_a_run_comes_after_its_interruption():
    async def goes_on(peer: Peer) -> None:
        await peer.begins()
        await peer.says(text(1, "a"), {"type": "interrupted", "turn": 1, "run": 1, "seq": 2, "t": 0.2})
        await peer.says(text(1, "late"), {"type": "audio", **text(1, ""), "rate_hz": 8000, "bytes": 2}, b"\0\0")
        await peer.says(text(2, "b"), {"type": "pong"}, ENDED)

    async with playing(goes_on) as url, Client(url) as client, client.live() as live:
        assert await texts(live) == ["a", "b"]


async def test_frames_are_those_of_the_protocol():
    peers: list[Peer] = []

    async def listens(peer: Peer) -> None:
        peers.append(peer)
        await peer.begins()
        while await peer.hears() != {"type": "end"}:
            pass
        await peer.says(ENDED)

    async with playing(listens) as url, Client(url, user="ann bo") as client:
        async with client.live(entry=2, options={"LLM": {"a": 1}}, format=Format(8000), timeline=True) as live:
            started = await anext(live)
            for data, entry in ((b"\1\2", None), ("hi", None), ({"a": 1}, "x"), (b"\1\2", 1)):
                await live.send(data, entry)
            await live.interrupt()
            await live.played(started, 12.5)
            await live.end()
            assert [event.type async for event in live] == ["turn.ended"]
    wav = base64.b64encode(Audio(b"\1\2", 8000).to_wav()).decode()
    form = {"rate_hz": 8000, "channels": 1}
    assert peers[0].frames == [
        {"type": "start", "entry": 2, "options": {"LLM": {"a": 1}}, "format": form, "timeline": True},
        b"\1\2",
        {"type": "input", "data": "hi"},
        {"type": "input", "data": {"a": 1}, "entry": "x"},
        {"type": "input", "data": wav, "entry": 1},
        {"type": "interrupt"},
        {"type": "played", "turn": 1, "seq": 0, "ms": 12.5},
        {"type": "end"},
    ]
    assert peers[0].socket.path == "/ws?user=ann%20bo"


async def test_a_closing_code_says_why(serving):
    async with serving(Upper(), tokens=(f"{TOKEN} ann",)) as server:
        for user, token, reason in (("bob", TOKEN, "'bob'"), ("ann", None, "a token is needed")):
            async with Client(server.url, user=user, token=token) as client:
                with pytest.raises(Closed, match=reason) as closed:
                    await client.live().begun()
                assert closed.value.code == 1008
                assert TOKEN not in str(closed.value)
        async with Client(server.url, user="ann", token=TOKEN) as client, client.live() as live:
            assert (await anext(live)).type == "turn.started"


async def test_a_server_that_is_full_says_so(serving):
    async with serving(Upper(), max_sessions=1) as server:
        async with Client(server.url, user="ann") as ann, ann.live(), Client(server.url, user="bob") as bob:
            with pytest.raises(Closed, match="max_sessions=1") as closed:
                await bob.live().begun()
            assert closed.value.code == 1013


async def test_a_server_that_shuts_down_ends_the_turn(serving):
    async with serving(Talks(Seen()), grace_s=0.2) as server, Client(server.url) as client, client.live() as live:
        assert (await anext(live)).type == "turn.started"
        server.stop.set()
        assert [event.reason async for event in live] == ["interrupted"]


@pytest.mark.parametrize(("code", "reason"), [(1001, "the server is shutting down"), (1011, "its log says how")])
async def test_a_connection_that_is_closed_in_mid_turn_is_an_error_for_loop_and_sender(code, reason):
    async def closes(peer: Peer) -> None:
        await peer.begins()
        await peer.socket.aclose(code)

    async with playing(closes) as url, Client(url) as client, client.live() as live:
        assert (await anext(live)).type == "turn.started"
        with pytest.raises(Closed, match=reason) as closed:
            await anext(live)
        assert closed.value.code == code
        for call in (partial(live.send, "x"), live.interrupt, live.end):
            with pytest.raises(Closed):
                await call()


async def test_a_connection_that_breaks_in_mid_turn_is_closed_with_1006():
    async def breaks(peer: Peer) -> None:
        await peer.begins()
        await trio.aclose_forcefully(peer.socket._stream)

    async with playing(breaks) as url, Client(url) as client, client.live() as live:
        with pytest.raises(Closed, match="broke off") as closed:
            await texts(live)
        assert closed.value.code == 1006


async def test_a_message_larger_than_the_limit_closes_the_connection(serving):
    async with serving(Upper(), max_message=1000) as server, Client(server.url) as client, client.live() as live:
        await live.send("x" * 2000)
        with pytest.raises(Closed, match="too big") as closed:
            await texts(live)
        assert closed.value.code == 1009

    async def says_much(peer: Peer) -> None:
        await peer.begins()
        await peer.says(text(1, "x" * 2000))
        await trio.sleep_forever()

    async with playing(says_much) as url, Client(url, max_message=1000) as client, client.live() as live:
        with pytest.raises(ProtocolError, match=r"more than 1000 bytes \(max_message\)"):
            await texts(live)


@pytest.mark.parametrize(
    "records",
    [
        [b"\0\0"],
        [{"type": "audio", "turn": 1, "rate_hz": 8000, "bytes": 4}, b"\0\0"],
        [{"type": "audio", "turn": 1, "rate_hz": 8000, "bytes": 4}, {"type": "pong"}],
        [{"type": "text", "turn": 1}],
    ],
)
async def test_a_server_that_breaks_the_protocol_is_left(records):
    async def breaks(peer: Peer) -> None:
        await peer.begins()
        await peer.says(*records)
        await trio.sleep_forever()

    async with playing(breaks) as url, Client(url) as client, client.live() as live:
        with pytest.raises(ProtocolError, match=r"server sent|followed by"):
            await texts(live)


async def test_a_socket_that_does_not_begin_as_ours_is_known():
    async def other(peer: Peer) -> None:
        await peer.says({"type": "hello"})

    async with playing(other) as url, Client(url) as client:
        with pytest.raises(ProtocolError, match="is this an ezflow server"):
            await client.live().begun()


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x16\x03\1\0"])
async def test_a_server_that_does_not_speak_http_harms_no_other_turn(answer):
    async def ends(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with answering(answer, then=ends) as url, Client(url) as client:
        for _ in range(2):
            with pytest.raises((ProtocolError, Closed)):
                await client.live().begun()


@pytest.mark.parametrize("said", [(), (b"HTTP/1.1 101 Switching Proto",)])
@pytest.mark.parametrize("end", [trio.SocketStream.aclose, resets])
async def test_a_server_that_leaves_amid_the_handshake_is_known_at_once(said, end):
    """trio-websocket does not see it, and waits on."""
    async with answering(*said, then=end) as url, Client(url, connect_s=3600.0) as client:
        with trio.fail_after(10), pytest.raises(ConnectFailed, match="broke off before it was a WebSocket"):
            await client.live().begun()


async def test_a_block_that_is_left_says_so_to_the_server():
    closed: list[int] = []

    async def listens(peer: Peer) -> None:
        await peer.begins()
        with pytest.raises(ConnectionClosed) as left:
            await peer.hears()
        closed.append(left.value.reason.code)

    async with playing(listens) as url, Client(url) as client:
        async with client.live() as live:
            assert (await anext(live)).type == "turn.started"
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert closed == [1000]


async def test_a_token_is_never_sent_in_clear_to_a_secure_address():
    received = bytearray()
    reached = trio.Event()

    async def reads(stream: trio.SocketStream) -> None:
        received.extend(await stream.receive_some())
        reached.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, reads, 0, host="127.0.0.1"))
        client = Client(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}", token=TOKEN)
        live = client.live()  # made before the client is open
        async with client:
            with pytest.raises(ConnectFailed):
                await live.begun()
            await reached.wait()
        nursery.cancel_scope.cancel()
    assert received[0] == 0x16  # a TLS handshake
    assert TOKEN.encode() not in received


async def test_a_server_without_that_socket_refuses(serving):
    async with serving(Upper()) as server, Client(server.url) as client:
        with pytest.raises(Refused) as refused:
            await client.of("nowhere").live().begun()
        assert refused.value.status == 404


async def test_a_server_that_does_not_answer_is_given_up():
    async def stays(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with answering(then=stays) as url, Client(url, connect_s=0.1) as client:
        with pytest.raises(ConnectFailed, match=r"no WebSocket within 0\.1 s"):
            await client.live().begun()

    async def says_nothing(peer: Peer) -> None:
        await trio.sleep_forever()

    async def begins_nothing(peer: Peer) -> None:
        await peer.says({"type": "ready", "flow": {}})
        await trio.sleep_forever()

    async with playing(says_nothing) as url, Client(url, connect_s=0.1) as client:
        with trio.fail_after(5), pytest.raises(ConnectFailed, match=r"no WebSocket within 0\.1 s"):
            await client.live().begun()
    async with playing(begins_nothing) as url, Client(url, answer_s=0.1) as client:
        with trio.fail_after(5), pytest.raises(Closed, match=r"has not begun the turn within 0\.1 s"):
            await client.live().begun()
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Client(f"ws://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectFailed, match="refused"):
            await client.live().begun()


async def test_a_server_that_never_hangs_up_holds_nobody_up():
    async def stays(peer: Peer) -> None:
        await peer.begins()
        await peer.says(ENDED)
        stream: Any = peer.socket._stream
        stream.aclose = trio.sleep_forever
        try:
            await trio.sleep_forever()
        finally:
            del stream.aclose

    with trio.fail_after(5):
        async with playing(stays) as url, Client(url) as client, client.live() as live:
            assert [event.type async for event in live] == ["turn.started", "turn.ended"]


async def test_wss_and_https_trust_whom_they_are_told_to():
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def ends(request: Any) -> None:
        peer = Peer(await request.accept())
        await peer.begins()
        await peer.says(ENDED)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, ends, "127.0.0.1", 0, ssl_context=context))
        async with Client(f"wss://localhost:{server.port}", tls=trusting) as client, client.live() as live:
            assert [event.type async for event in live] == ["turn.started", "turn.ended"]
        async with Client(f"wss://localhost:{server.port}") as client:
            with pytest.raises(ConnectFailed, match="certificate"):
                await client.live().begun()
            with pytest.raises(ConnectFailed, match="certificate"):
                await client.flow()
        nursery.cancel_scope.cancel()


async def test_leaving_the_client_ends_its_live_turns(serving):
    seen = Seen()
    async with serving(Talks(seen)) as server:
        async with Client(server.url) as client:
            live = client.live()
            await live.send("hello")
            assert [(await anext(live)).type for _ in range(2)] == ["turn.started", "text"]
        with trio.fail_after(5):
            await seen.left.wait()
        with pytest.raises(Closed, match="the client was left"):
            await anext(live)


def test_a_format_is_plain():
    assert attrs.asdict(Format()) == {"rate_hz": 16_000, "channels": 1}
