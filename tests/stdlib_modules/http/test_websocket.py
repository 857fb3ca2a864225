"""WebSocketStream: a module of a few lines, on its stand-in and on servers that do as a test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import attrs
import pytest
import trio
from http_standin import Peer, standing
from trio.testing import MockClock, wait_all_tasks_blocked
from websocket_standin import accept, closing, frame, unmasked

from ezflow import Audio, Inbox, Module, Outbox, Service, Turn, Utterance, module
from ezflow.testing import check_module, collect
from ezflow.testing.backends import Fault
from ezflow.testing.backends.websocket import Peer as Client
from ezflow.testing.backends.websocket import WebSocketStandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused, BackendTimeout
from stdlib_modules.http.websocket import Last, WebSocketStream


@module
class Shouter(WebSocketStream[str, str]):
    """Gives a text back in capitals, word by word."""

    def frames(self, text: str, turn: Turn) -> Iterable[str]:
        if text:
            yield json.dumps({"say": text})

    def on_message(self, message: str | bytes, turn: Turn) -> str | Last[str] | None:
        said = json.loads(message)
        if "error" in said:
            raise self.failure(said["error"])
        if said.get("done"):
            return Last(said.get("word"))
        word: str | None = said.get("word")
        return word


@attrs.frozen
class Say:
    say: str


class ShouterStandIn(WebSocketStandIn):
    name = "Shouter"

    async def talk(self, peer: Client) -> None:
        text = self.expect(Say, json.loads(await peer.receive())).say
        if self.fault is Fault.ERROR_BODY:
            await peer.send({"error": "hoarse"})
            return
        for word in text.upper().split():
            await peer.send({"word": word})
        await peer.send({"done": True}, end_mark=True)
        await peer.end()


@module
class Live(WebSocketStream[Utterance | str, str]):
    """Passes frames on as they come, between an opening and a closing; ends when the server closes."""

    opening_words: tuple[str, ...] = ("hello",)

    def opening(self, turn: Turn) -> Iterable[str]:
        return self.opening_words

    async def frames(self, item: Utterance | str, turn: Turn) -> AsyncIterator[str | bytes]:
        if isinstance(item, str):
            yield item
            return
        async for audio in item:
            yield audio.pcm

    def closing(self, turn: Turn) -> Iterable[str]:
        yield "bye"

    def on_message(self, message: str | bytes, turn: Turn) -> str:
        return str(message)


@module
class LivePerTurn(Live):
    per = "turn"


@module
class Slow(Module[str, str]):
    """Takes an item when it is let."""

    let: trio.Event

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        await self.let.wait()
        async for item in inbox:
            await outbox.send(item)


def ws(url: str) -> str:
    return url.replace("http", "ws", 1)


async def echo(peer: Peer) -> None:
    """Accept, repeat every frame, and close after "bye"."""
    await accept(peer)
    while True:
        opcode, data = await unmasked(peer)
        if opcode == 8:
            return
        await peer.send(frame(data))
        if data == b"bye":
            await peer.send(closing())
            await peer.gone()
            return


# ------------------------------------------------------------------ what it gives


async def test_items_are_answered_in_order_on_a_connection_each() -> None:
    async with ShouterStandIn().serving() as server:
        assert await collect(Shouter(url=server.url), ["a b", "c"]) == ["A", "B", "C"]
        await server.until(lambda: not server.connections)
    assert len(server.requests) == 2
    assert not server.left


async def test_an_item_without_a_frame_makes_no_connection() -> None:
    async with ShouterStandIn().serving() as server:
        assert await collect(Shouter(url=server.url), ["", "a", ""]) == ["A"]
    assert len(server.requests) == 1


async def test_the_opening_comes_first_and_the_closing_last_on_each_connection() -> None:
    async with standing(echo) as server:
        flow = Live(url=ws(server.url), opening_words=("one", "two"))
        assert await collect(flow, ["x", "y"]) == ["one", "two", "x", "bye", "one", "two", "y", "bye"]
    assert server.connections == 2


async def test_one_connection_may_serve_a_whole_turn() -> None:
    async with standing(echo) as server:
        assert await collect(LivePerTurn(url=ws(server.url)), ["x", "y"]) == ["hello", "x", "y", "bye"]
        assert await collect(LivePerTurn(url=ws(server.url)), []) == []
    assert server.connections == 1


async def test_what_an_item_says_is_sent_while_it_is_spoken_and_answered_meanwhile(mock_clock: MockClock) -> None:
    utterance = Utterance()
    async with standing(echo) as server, Live(url=ws(server.url)).open() as service:
        async with service.session("ann") as session, session.turn(utterance) as events:
            utterance.feed(Audio(b"aa", 16_000))
            assert [(await first_text(events)).item for _ in range(2)] == ["hello", "aa"]
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(100)  # longer than the server may be silent when all is said
            utterance.feed(Audio(b"bb", 16_000))
            assert (await first_text(events)).item == "bb"
            utterance.end()
            assert [event.item async for event in events if event.type == "text"] == ["bye"]


async def test_the_key_goes_with_the_handshake_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOUTER_KEY", "k1-secret")
    async with ShouterStandIn().serving() as server:
        flow = Shouter(url=server.url, api_key_env="SHOUTER_KEY")
        assert await collect(flow, ["a"]) == ["A"]
        assert server.requests[0].headers["authorization"] == "Bearer k1-secret"
        server.fault = Fault.REFUSES
        with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match=r"Shouter at ws://\S+ answered 500: the model")):
            await collect(flow, ["a"])
    assert "k1-secret" not in repr(flow)


async def test_a_fault_in_what_is_written_for_a_frame_comes_out_as_it_is() -> None:
    @module
    class Faulty(Live):
        async def frames(self, item: Utterance | str, turn: Turn) -> AsyncIterator[str | bytes]:
            yield "one"
            raise KeyError("a bug")

    async with standing(echo) as server:
        with pytest.RaisesGroup(KeyError):
            await collect(Faulty(url=ws(server.url)), ["x"])
        await server.all_closed()


async def test_a_failure_is_the_servers_word() -> None:
    async with ShouterStandIn(fault=Fault.ERROR_BODY).serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match=r"^Shouter at ws://\S+ answered: hoarse")):
            await collect(Shouter(url=server.url), ["a"])


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize("fault", [Fault.TOGETHER, Fault.SPLIT])
async def test_however_messages_are_cut_they_are_the_same(fault: Fault) -> None:
    async with ShouterStandIn(fault=fault).serving() as server:
        assert await collect(Shouter(url=server.url), ["héllo 你好"]) == ["HÉLLO", "你好"]


@pytest.mark.parametrize(
    ("fault", "after", "error"),
    [
        (Fault.CUT, False, BackendBroken),
        (Fault.REFUSES, False, BackendRefused),
        (Fault.SILENT, False, BackendTimeout),
        (Fault.SILENT, True, BackendTimeout),
        (Fault.NO_END, False, BackendTimeout),
        (Fault.GARBAGE, False, BackendBroken),
    ],
)
async def test_each_fault_is_told_once_and_leaves_no_connection(
    fault: Fault, after: bool, error: type[BackendError]
) -> None:
    async with ShouterStandIn(fault=fault, after_handshake=after).serving() as server:
        async with Shouter(url=server.url, read_s=0.1, retries=0).open() as service:
            async with service.session("ann") as session:
                events = [event async for event in session.turn("a b")]
            await server.until(lambda: not server.connections)
            assert [event.error.name for event in events if event.error] == [error.__name__]
            server.fault = Fault.NONE
            async with service.session("ann") as session:
                events = [event async for event in session.turn("a b")]
            assert [event.item for event in events if event.type == "text"] == ["A", "B"]


# ------------------------------------------------------------------ cancellation, backpressure, sharing


async def test_an_interruption_closes_the_connection_at_once() -> None:
    async with ShouterStandIn(each_s=3600.0).serving() as server, Shouter(url=server.url).open() as service:
        async with service.session("ann") as session:
            for number in range(1, 21):
                async with session.turn("a b") as events:
                    await first_text(events)
                    began = trio.current_time()
                    await session.interrupt()
                await server.until(lambda number=number: len(server.left) == number)
                assert server.left[-1] - began < 1  # not after the hour that a piece takes


async def test_an_interruption_while_a_frame_is_stuck_closes_the_connection_at_once() -> None:
    async def deaf(peer: Peer) -> None:
        await accept(peer, frame("hello"))
        await stop.wait()

    stop = trio.Event()
    async with standing(deaf) as server:
        flow = Live(url=ws(server.url), max_connections=1)
        async with flow.open() as service, service.session("ann") as session:
            async with session.turn("x" * 20_000_000) as events:
                await first_text(events)
                with trio.fail_after(1):
                    await session.interrupt()
            stop.set()
            await server.all_closed()


async def test_while_nothing_is_taken_nothing_is_read() -> None:
    async def floods(peer: Peer) -> None:
        nonlocal sent
        await accept(peer)
        while True:
            await peer.send(frame("x" * 10_000))
            sent += 1

    sent = 0
    let = trio.Event()
    async with standing(floods) as server:
        flow = Live(url=ws(server.url)) >> Slow(let)
        async with flow.open() as service, service.session("ann") as session, session.turn("go") as events:
            while not sent:
                await wait_all_tasks_blocked(0.05)
            before = sent
            await wait_all_tasks_blocked(0.05)
            assert before == sent < 2000  # what two sockets' buffers and the joins hold
            let.set()
            assert len((await first_text(events)).item) == 10_000
        await server.all_closed()


async def test_who_does_not_listen_is_not_the_servers_fault(mock_clock: MockClock) -> None:
    """The server takes nothing while nobody takes what it gives: that is no silence of its own."""

    async def fills(peer: Peer) -> None:
        await accept(peer)
        for _ in range(600):
            await peer.send(frame("x" * 20_000))
        while (await unmasked(peer))[1] != b"bye":
            pass
        await peer.send(frame("heard all"), closing())
        await peer.gone()

    let = trio.Event()
    async with standing(fills) as server:
        flow = Live(url=ws(server.url)) >> Slow(let)
        async with flow.open() as service, service.session("ann") as session:
            async with session.turn("y" * 20_000_000) as events:
                await wait_all_tasks_blocked(0.05)
                mock_clock.jump(1000)
                await wait_all_tasks_blocked(0.05)
                let.set()
                texts = [event.item async for event in events if event.type in ("text", "error")]
    assert texts[-1] == "heard all"


async def test_users_who_wait_for_a_connection_are_served_in_turn() -> None:
    served: list[str] = []

    async def one(service: Service, user: str, text: str) -> None:
        async with service.session(user) as session:
            async for event in session.turn(text):
                if event.type == "text":
                    served.append(event.item)

    async with ShouterStandIn(first_s=0.02).serving() as server:
        async with Shouter(url=server.url, max_connections=1).open() as service, trio.open_nursery() as nursery:
            for user in ("ann", "bob", "cid"):
                nursery.start_soon(one, service, user, user)
            await server.until(lambda: server.connections > 0)
            assert server.connections == 1
    assert sorted(served) == ["ANN", "BOB", "CID"]


async def test_the_probe_finds_a_server_without_speaking_to_it() -> None:
    async with ShouterStandIn().serving() as server:
        async with Shouter(url=server.url).open() as service:
            await service.stages[0].module.probe()
    assert not server.requests


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.SPLIT])
def test_it_conforms(fault: Fault) -> None:
    with ShouterStandIn(each_s=0.002, fault=fault).in_thread() as server:
        check_module(Shouter(url=server.url), ["a b", "c"], real=True)


async def first_text(events: Any) -> Any:
    async for event in events:
        if event.type == "text":
            return event
    raise AssertionError("the turn ended before")


# ------------------------------------------------------------------ the stand-in


async def test_the_stand_in_notes_what_is_not_in_its_protocol() -> None:
    @module
    class Wrong(Shouter):
        def frames(self, text: str, turn: Turn) -> Iterable[str]:
            yield json.dumps({"say": text, "loud": True})

    with pytest.raises(AssertionError, match=r"Shouter: .*loud"):
        async with ShouterStandIn().serving() as server:
            with pytest.RaisesGroup(BackendBroken):
                await collect(Wrong(url=server.url), ["a"])


async def test_the_stand_in_wants_its_subprotocol() -> None:
    class Strict(ShouterStandIn):
        subprotocol = "shout"

    with pytest.raises(AssertionError, match="'shout' is not offered"):
        async with Strict().serving() as server:
            assert await collect(Shouter(url=server.url, subprotocols=("shout",)), ["a"]) == ["A"]
            with pytest.RaisesGroup(BackendRefused):
                await collect(Shouter(url=server.url), ["a"])
