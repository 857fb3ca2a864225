"""One-shots over HTTP with the client on trio: the same events as in the process, and what ends a turn."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from peers import answering
from stages import Floods, Hears, Seen, Talks

from ezflow import Audio, EzflowError, MissingDependency, Module, Progress, SettingsError, Turn, module
from ezflow.client import Client, Closed, ConnectFailed, ProtocolError, Refused
from ezflow.events import event
from ezflow.testing import Failing, FakeLLM, FakeTTS

TOKEN = "a-token-of-more-than-16"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
STARTED = b'{"type":"turn.started","turn":1,"seq":0,"t":0.0}\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@event
class Mood:
    word: str


@attrs.frozen
class Order:
    what: str
    cups: int = 1


@module
class Serves(Module[Order, Order]):
    async def process(self, order: Order, turn: Turn) -> AsyncIterator[Order]:
        await turn.reply(Progress("boiling water"))
        await turn.reply(Mood("glad"))
        yield attrs.evolve(order, cups=2 * order.cups)


@attrs.frozen
class Options:
    mark: str = "!"


@module(options=Options, key="Mark")
class Marks(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text + turn.options[Options].mark


async def stays(_: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def types(turn: Any) -> list[str]:
    return [event.type async for event in turn]


async def test_a_turns_events_are_those_of_a_session_in_the_process(serving):
    flow = FakeLLM().shown() >> FakeTTS()
    async with flow.open() as service, service.session("ann") as session:
        here = [event async for event in session.turn("hello")]
    async with serving(flow) as server, Client(server.url, user="ann") as client:
        there = [event async for event in client.turn("hello")]
    assert sorted(e.seq for e in there) == [e.seq for e in there] == list(range(len(there)))

    def said(events: list[Any]) -> list[Any]:
        # When text and sound come about at once, either may be first; a sound's words stay on the server.
        return sorted(
            (
                e.type,
                str(e.stage),
                str(attrs.evolve(e.item, text="") if isinstance(e.item, Audio) else e.item),
                e.reason,
            )
            for e in events
        )

    assert said(there) == said(here)
    assert all(type(there_event) is type(here[0]) for there_event in there)


async def test_sound_is_sent_and_comes_as_audio(serving):
    async with serving(Hears() >> FakeTTS(rate_hz=8000)) as server, Client(server.url) as client:
        for data, heard in (
            (Audio(bytes(800), 48_000, 2), "200 at 48000 Hz in 2"),
            (Audio(bytes(800), 48_000, 2).to_wav(), "200 at 48000 Hz in 2"),
            (bytes(800), "400 at 16000 Hz in 1"),
        ):
            events = [event async for event in client.turn(data)]
            assert [e.item.text for e in events if e.type == "transcript"] == ["a", "a question"]
            sound = next(e.item for e in events if e.type == "audio")
            assert (sound.rate_hz, sound.duration_s) == (8000, pytest.approx(0.05 * len(heard), abs=0.01))


async def test_values_and_declared_events_come_as_json_or_as_their_classes(serving):
    async with serving(Serves()) as server:
        async with Client(server.url) as client:
            items = {event.type: event.item async for event in client.turn(Order("tea", 2))}
        assert items["json"] == {"what": "tea", "cups": 4}
        assert items["progress"] == Progress("boiling water")
        assert items["mood"] == {"word": "glad"}
        async with Client(server.url, events=[Mood]) as client:
            items = {event.type: event.item async for event in client.turn({"what": "tea"})}
        assert items["mood"] == Mood("glad")


@attrs.frozen
class Memo:
    sound: Audio
    name: str = ""


@module
class Files(Module[Memo, str]):
    async def process(self, memo: Memo, turn: Turn) -> str:
        return f"{memo.name}: {memo.sound.samples} at {memo.sound.rate_hz} Hz"


async def test_sound_within_a_value_is_sound_for_the_server(serving):
    memo = Memo(Audio(bytes(80), 8000), "a")
    async with serving(Files()) as server, Client(server.url) as client:
        for data in (memo, {"sound": memo.sound, "name": "a"}):
            assert [e.item async for e in client.turn(data) if e.type == "text"] == ["a: 40 at 8000 Hz"]
            async with client.live() as live:
                await live.send(data)
                await live.end()
                assert [e.item async for e in live if e.type == "text"] == ["a: 40 at 8000 Hz"]


async def test_what_has_no_json_form_is_refused_where_it_is_given_and_no_other_turn_is_harmed(serving):
    bad = {"LLM": {"temperature": object()}}
    async with serving(Talks(Seen())) as server, Client(server.url) as client, client.turn("hello") as other:
        with pytest.raises(TypeError):
            client.turn("x", options=bad)
        with pytest.raises(TypeError):
            client.live(options=bad)
        with pytest.raises(UnicodeEncodeError):
            client.turn("\udc80")
        assert [(await anext(other)).type for _ in range(2)] == ["turn.started", "text"]


async def test_entry_options_and_timeline_reach_the_server(serving):
    async with serving(FakeLLM() >> Marks()) as server, Client(server.url) as client:
        turn = client.turn("hm", entry="marks", options={"Mark": {"mark": "?"}}, timeline=True)
        events = [event async for event in turn]
        assert [event.item for event in events if event.type == "text"] == ["hm?"]
        assert {(e.stage, e.item) for e in events if e.type == "stage"} >= {("marks", "working"), ("marks", "done")}
        assert turn.id == 1


async def test_what_fails_in_a_turn_is_an_event(serving):
    async with serving(FakeLLM() >> Failing("no more")) as server, Client(server.url) as client:
        events = [event async for event in client.turn("hello")]
        assert next((e.stage, e.error.name, e.error.message) for e in events if e.error is not None) == (
            "failing",
            "RuntimeError",
            "no more",
        )
        assert events[-1].reason == "error"


async def test_a_loop_that_is_left_ends_the_turn_on_the_server(serving):
    seen = Seen()
    async with serving(Talks(seen).shown()) as server, Client(server.url) as client:
        async for event in client.turn("hello"):
            if event.type == "text":
                break
        with trio.fail_after(5):
            await seen.left.wait()
        assert await client.interrupt() is None


async def test_a_block_that_is_left_ends_the_turn_on_the_server(serving):
    seen = Seen()
    async with serving(Talks(seen)) as server, Client(server.url) as client:
        with pytest.raises(KeyError, match="mine"):
            async with client.turn("hello") as events:
                await anext(events)
                raise KeyError("mine")
        with trio.fail_after(5):
            await seen.left.wait()
        assert [event async for event in events] == []


async def test_a_turn_that_is_cancelled_ends_on_the_server_at_once(serving):
    seen = Seen()
    async with serving(Talks(seen)) as server, Client(server.url) as client:
        with trio.CancelScope() as scope:
            async with client.turn("hello") as events:
                async for event in events:
                    if event.type == "text":
                        scope.cancel()
        assert scope.cancelled_caught
        with trio.fail_after(5):
            await seen.left.wait()


async def test_to_be_cancelled_while_waiting_for_an_event_loses_none(serving):
    async with serving(FakeLLM(reply="one two three four", each_s=0.02)) as server, Client(server.url) as client:
        events: list[Any] = []
        async with client.turn("hello") as turn:
            while not events or events[-1].type != "turn.ended":
                with trio.move_on_after(0.003):
                    events.append(await anext(turn))
        assert [event.seq for event in events] == list(range(len(events)))
        assert "".join(event.item for event in events if event.type == "text") == "one two three four"


async def test_events_that_nobody_takes_hold_up_the_server(serving):
    seen = Seen()
    async with serving(Floods(seen)) as server, Client(server.url) as client:
        async with client.turn("go") as events:
            await anext(events)
            before = -1
            while seen.count > before:  # the system's own buffers fill first
                before = seen.count
                await trio.testing.wait_all_tasks_blocked(0.05)
            assert seen.count < 500
            assert len([event async for event in events if event.type == "text"]) == 2000
        assert seen.count == 2000


async def test_an_event_larger_than_the_limit_is_an_error_and_ends_the_turn(serving):
    seen = Seen()
    async with serving(Floods(seen, 10_000)) as server, Client(server.url, max_message=20_000) as client:
        with pytest.raises(ProtocolError, match=r"more than 20000 bytes \(max_message\)"):
            await types(client.turn("go"))
        with trio.fail_after(5):
            while await client.interrupt() is not None:
                pass
        assert seen.count < 10_000


async def test_many_events_that_come_at_once_may_together_be_larger_than_the_limit():
    texts = b"".join(b'{"type":"text","turn":1,"seq":%d,"t":0.0,"stage":"x","text":"hi"}\n' % n for n in range(1, 101))
    ended = b'{"type":"turn.ended","turn":1,"seq":101,"t":0.1,"reason":"done"}\n'
    async with (
        answering(HEAD + chunk(STARTED + texts + ended), then=stays) as url,
        Client(url, max_message=100) as client,
    ):
        assert len(await types(client.turn("hello"))) == 102


@pytest.mark.parametrize("pieces", [[b"x" * 60, b"x" * 60], [b"x" * 101 + b"\n"]])
async def test_a_line_is_given_up_at_the_limit_whether_it_ends_or_not(pieces):
    chunks = [chunk(piece) for piece in pieces]
    async with answering(HEAD, *chunks, then=stays) as url, Client(url, max_message=100) as client:
        with trio.fail_after(5):
            with pytest.raises(ProtocolError, match="more than 100 bytes"):
                await types(client.turn("hello"))


@pytest.mark.parametrize("begin", [lambda client: client.turn("x").begun(), lambda client: client.live().begun()])
async def test_a_turn_that_is_cancelled_before_it_runs_leaves_no_task(serving, begin):
    async with serving(Talks(Seen())) as server, Client(server.url) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await begin(client)
        assert scope.cancelled_caught
        gc.collect()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert client._link.nursery is not None
        assert client._link.nursery.child_tasks == set()
        assert await client.interrupt() is None


async def test_to_end_a_turn_from_another_task_ends_its_loop(serving):
    seen = Seen()
    async with serving(Talks(seen)) as server, Client(server.url) as client:
        async with client.turn("hello") as turn, trio.open_nursery() as nursery:
            async for event in turn:
                if event.type == "text":
                    nursery.start_soon(turn.aclose)
        with trio.fail_after(5):
            await seen.left.wait()
        unbegun = client.turn("hello")
        await unbegun.aclose()
        await unbegun.begun()
        assert await types(unbegun) == []


async def test_a_server_that_accepts_and_says_nothing_is_given_up():
    async with answering(then=stays) as url, Client(url, answer_s=0.1) as client:
        with trio.fail_after(5):
            with pytest.raises(Closed, match=r"has not begun the turn within 0\.1 s"):
                await types(client.turn("hello"))
            with pytest.raises(Closed, match=r"/flow was not answered within 0\.1 s"):
                await client.flow()


async def test_a_turn_that_has_begun_takes_as_long_as_it_likes(serving):
    async with serving(FakeLLM(reply="a b c", each_s=0.5)) as server, Client(server.url, answer_s=1.0) as client:
        assert (await types(client.turn("hello"))).count("text") == 3


async def test_an_ipv6_address_is_as_good_as_any(serving):
    async with serving(FakeLLM(), host="::1") as server, Client(server.url) as client:
        assert "[::1]" in client.url
        assert "text" in await types(client.turn("hello"))
        async with client.live() as live:
            await live.end()
            assert await types(live) == ["turn.started", "turn.ended"]


async def test_one_connection_serves_one_turn_after_the_other():
    ended = b'{"type":"turn.ended","turn":1,"seq":1,"t":0.1,"reason":"done"}\n'
    connections, said = 0, trio.Event()

    async def answers(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while asked := await stream.receive_some():
            if not asked.endswith(b"}"):  # the body is yet to come
                continue
            await stream.send_all(HEAD + chunk(STARTED + ended))
            await said.wait()  # the end of the answer comes by itself
            await stream.send_all(b"0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answers, 0)
        port = listeners[0].socket.getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            for _ in range(3):
                async for event in client.turn("hello"):
                    if event.type == "turn.ended":
                        said.set()
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert connections == 1
        nursery.cancel_scope.cancel()


async def test_interrupt_ends_the_users_turn_wherever_it_runs(serving):
    seen = Seen()
    async with serving({"voice": FakeLLM(), "other": Talks(seen)}) as server:
        async with Client(server.url, user="ann") as client, Client(server.url, user="ann") as another:
            async with client.of("other").turn("hello") as events:
                assert [(await anext(events)).type for _ in range(2)] == ["turn.started", "text"]
                assert await another.interrupt() == events.id == 1
                assert seen.left.is_set()
                assert [event.reason async for event in events] == ["interrupted"]
            assert await another.interrupt() is None


async def test_a_users_new_turn_ends_the_one_before(serving):
    seen = Seen()
    async with serving({"talks": Talks(seen), "llm": FakeLLM()}) as server, Client(server.url) as client:
        async with client.turn("hello") as first:
            assert (await anext(first)).type == "turn.started"
            assert "text" in await types(client.of("llm").turn("hello"))
            assert [event.reason async for event in first][-1] == "interrupted"


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        ({"entry": "nowhere"}, (422, "EntryError", "entry", None)),
        ({"options": {"Mark": {"mark": 5}}}, (422, "InputError", "options.Mark.mark", None)),
        ({"data": 5}, (422, "InputError", "input", None)),
    ],
)
async def test_what_does_not_fit_is_refused_and_says_where(serving, asked, facts):
    async with serving(Marks()) as server, Client(server.url) as client:
        with pytest.raises(Refused) as refused:
            await types(client.turn(asked.pop("data", "hello"), **asked))
        error = refused.value
        assert (error.status, error.error, error.path, error.retry_after_s) == facts
        assert error.message in str(error)
        assert isinstance(error, EzflowError)


async def test_refusals_keep_their_status(serving):
    async with serving(FakeLLM(), rate_per_s=0.01, rate_burst=1, max_sessions=1) as server:
        async with Client(server.url, user="ann") as client:
            await types(client.turn("hello"))
            with pytest.raises(Refused, match="asks too often") as refused:
                await types(client.turn("hello"))
            assert (refused.value.status, refused.value.retry_after_s) == (429, pytest.approx(100, abs=5))
            with pytest.raises(Refused, match="no route") as refused:
                await client.of("nowhere").flow()
            assert (refused.value.status, refused.value.error) == (404, "NotFound")


async def test_a_body_too_large_is_refused(serving):
    async with serving(FakeLLM(), max_body=1000) as server, Client(server.url) as client:
        with pytest.raises(Refused, match="at most 1000 are taken") as refused:
            await types(client.turn("x" * 2000))
        assert refused.value.status == 413


async def test_a_token_opens_the_server_to_its_users_and_is_told_nowhere(serving, caplog):
    caplog.set_level(logging.DEBUG)
    async with serving(FakeLLM(), tokens=(f"{TOKEN} ann",)) as server:
        async with Client(server.url, user="ann", token=TOKEN) as client:
            assert "text" in await types(client.turn("hello"))
            async with client.live() as live:
                await live.end()
                assert await types(live) == ["turn.started", "turn.ended"]
            shown = [repr(thing) for thing in (client, live, live._socket, client._link, client._link.http)]
            assert TOKEN not in "".join(shown)
        for user, token, status in (("bob", TOKEN, 403), ("ann", None, 401), ("ann", "wrong-" + TOKEN, 401)):
            async with Client(server.url, user=user, token=token) as client:
                with pytest.raises(Refused) as refused:
                    await types(client.turn("hello"))
                assert refused.value.status == status
                assert TOKEN not in str(refused.value) + repr(refused.value)


async def test_the_server_says_what_it_has(serving):
    async with serving({"voice": Marks(), "other": FakeLLM()}) as server, Client(server.url) as client:
        for of in ("a b", "x&of=turns", "ü"):
            with pytest.raises(Refused, match="was given, but"):
                await client.schema(of)
        assert (await client.flow())["name"] == "voice"
        assert (await client.of("other").flow())["name"] == "other"
        assert "Mark" in (await client.schema("turns"))["properties"]["options"]["properties"]
        assert (await client.schema("events"))["title"] == "Event"
        assert (await client.ready())["status"] == "ready"


async def test_ready_says_what_fails(serving):
    @module
    class Down(Module[str, str]):
        async def probe(self) -> None:
            raise OSError("nobody answers")

        async def process(self, text: str, turn: Turn) -> str:
            return text

    async with serving(Down()) as server, Client(server.url) as client:
        said = await client.ready()
        assert said["status"] == "unready"
        assert "nobody answers" in said["failing"]["down"]


async def test_where_nobody_listens_no_connection_is_made():
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectFailed, match=rf"http://127\.0\.0\.1:{port}: .*refused") as failed:
            await types(client.turn("hello"))
        assert failed.value.url.endswith(str(port))
        with pytest.raises(ConnectFailed):
            await client.ready()


async def test_a_server_that_shuts_down_in_mid_turn_says_so(serving):
    async with serving(Talks(Seen()), grace_s=0.2) as server, Client(server.url) as client:
        async with client.turn("hello") as events:
            assert (await anext(events)).type == "turn.started"
            server.stop.set()
            assert [event.reason async for event in events][-1] == "interrupted"


async def test_a_connection_that_breaks_in_mid_turn_is_closed():
    async def breaks(stream: trio.SocketStream) -> None:
        await trio.aclose_forcefully(stream)

    async def ends_well(stream: trio.SocketStream) -> None:
        await stream.send_all(b"0\r\n\r\n")

    for then in (breaks, ends_well):
        async with answering(HEAD + chunk(STARTED), then=then) as url, Client(url) as client:
            async with client.turn("hello") as events:
                assert (await anext(events)).type == "turn.started"
                for _ in range(2):
                    with pytest.raises(Closed) as closed:
                        await anext(events)
                assert closed.value.code is None


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + chunk(b"<html>\n"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    ],
)
async def test_a_server_that_is_another_is_known(answer):
    async with answering(answer, then=stays) as url, Client(url) as client:
        with pytest.raises(ProtocolError):
            await types(client.turn("hello"))


@pytest.mark.parametrize("body", [b"[]", b"5", b"{", b"[" * 100_000])
async def test_an_answer_that_is_no_object_is_an_error(body):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with answering(answer, then=stays) as url:
        for call in (Client.flow, Client.interrupt):
            async with Client(url) as client:
                with pytest.raises(ProtocolError, match="is this an ezflow server"):
                    await call(client)


async def test_an_error_does_not_tell_what_its_caller_was_handling():
    async def breaks(stream: trio.SocketStream) -> None:
        await trio.aclose_forcefully(stream)

    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"):
        async with answering(answer, then=breaks) as url, Client(url) as client:
            try:
                raise KeyError("something private")
            except KeyError:
                with pytest.raises(Closed) as closed:
                    await client.ready()
            assert "private" not in str(closed.value)


async def test_a_refusal_of_another_server_is_one_too():
    answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\n<h1>no server</h1>"
    async with answering(answer, then=stays) as url, Client(url) as client:
        with pytest.raises(Refused, match="502") as refused:
            await types(client.turn("hello"))
        assert (refused.value.status, refused.value.message) == (502, "<h1>no server</h1")


async def test_lines_that_come_in_pieces_are_whole_events():
    ended = b'{"type":"turn.ended","turn":1,"seq":2,"t":0.1,"reason":"done"}\n'
    text = '{"type":"text","turn":1,"seq":1,"t":0.1,"stage":"x","text":"日本"}\n'.encode()
    data = STARTED + text + ended
    pieces = [chunk(data[place : place + 7]) for place in range(0, len(data), 7)]

    async def ends(stream: trio.SocketStream) -> None:
        await stream.send_all(b"0\r\n\r\n")

    async with answering(HEAD, *pieces, then=ends) as url, Client(url) as client:
        assert [event.item async for event in client.turn("hello")] == [None, "日本", None]


async def test_a_server_that_never_closes_after_the_last_event_holds_nobody_up():
    ended = b'{"type":"turn.ended","turn":1,"seq":1,"t":0.1,"reason":"done"}\n'
    async with answering(HEAD + chunk(STARTED + ended), then=stays) as url:
        with trio.fail_after(5):
            async with Client(url) as client:
                assert await types(client.turn("hello")) == ["turn.started", "turn.ended"]


async def test_leaving_the_client_ends_its_turns(serving):
    seen = Seen()
    async with serving(Talks(seen)) as server:
        async with Client(server.url) as client:
            turn = client.turn("hello")
            assert (await anext(turn)).type == "turn.started"
        with trio.fail_after(5):
            await seen.left.wait()
        with pytest.raises(Closed, match="the client was left"):
            await types(turn)


async def test_an_error_in_the_block_comes_out_as_it_is(serving):
    async with serving(FakeLLM()) as server:
        for error in (ZeroDivisionError, SystemExit, KeyboardInterrupt):
            with pytest.raises(error):
                async with Client(server.url) as client, client.turn("hello"), client.live():
                    raise error
        with trio.CancelScope() as scope:
            async with Client(server.url):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught


@pytest.mark.parametrize("begin", [lambda client: client.turn("x"), lambda client: client.live()])
async def test_a_handshake_that_is_cancelled_closes_its_connection(begin):
    reached, closed = trio.Event(), trio.Event()

    async def stalls(stream: trio.SocketStream) -> None:
        reached.set()
        while await stream.receive_some():
            pass
        closed.set()

    async with answering(then=stalls) as url, Client(url.replace("http", "https")) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin(client).begun)
            await reached.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await closed.wait()


async def test_many_turns_leave_no_connection_behind(serving):
    seen = Seen()
    async with serving(Floods(seen)) as server, Client(server.url) as client:
        for _ in range(20):
            async with client.turn("go") as events:
                await anext(events)
        assert client._link.http is not None
        assert len(client._link.http._pool.connections) <= 1


async def test_a_client_is_open_once_and_only_then_of_use():
    client = Client("http://127.0.0.1:1")
    for use in (client.flow, client.ready, client.interrupt, client.turn("hello").begun, client.live().begun):
        with pytest.raises(RuntimeError, match="is not open"):
            await use()
    async with client:
        with pytest.raises(RuntimeError, match="was opened before"):
            await client.__aenter__()
    with pytest.raises(RuntimeError, match="is not open"):
        await client.flow()
    with pytest.raises(RuntimeError, match="was opened before"):
        await client.__aenter__()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:3421",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x:0",
        "http://a..b",
        "http://a:secret@x",
        "http://x/?user=a",
    ],
)
def test_a_url_that_cannot_be_is_refused_without_telling_it(url):
    with pytest.raises(SettingsError) as refused:
        Client(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://x:1/", "http://x:1"),
        ("wss://x/live/", "https://x/live"),
        ("https://[::1]:8/a", "https://[::1]:8/a"),
        ("http://x/ä b%20", "http://x/%C3%A4%20b%20"),
    ],
)
def test_a_url_may_be_that_of_the_socket_and_hold_a_path(given, url):
    assert Client(given).url == url
    assert Client(given).of("a b").url == f"{url}/a%20b"


def test_users_and_tokens_that_cannot_be_are_refused():
    for arguments in ({"user": ""}, {"user": "x" * 257}, {"user": "\udc80"}, {"token": "a\nb"}):
        with pytest.raises(SettingsError):
            Client(**arguments)
    assert Client().user != Client().user


def test_without_its_libraries_a_client_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpcore2", None)
    with pytest.raises(MissingDependency, match=r"ezflow-trio\[client\]"):
        Client()
