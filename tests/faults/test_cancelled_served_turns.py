"""Whole served turns, of real presets on stand-ins for their servers, ended at every one of their checkpoints.

However they are ended, nothing is left: no task, thread, descriptor, place in a pool, session, or event; and the
next turn works. A turn is some hundred to four hundred steps of the server's tasks, the backends' not among them: the
short mode ends each turn in each way at some POINTS of them, evenly spread (its stride is told at the end of the run),
and `--long` at each one.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
import h11
import pytest
import trio
from reachable import WITHIN_S, Post, Server, Socket, becomes, descriptors, interrupt, serving
from steps import at_step
from trio_websocket import ConnectionClosed, HandshakeError

from ezflow import Audio, Flow, Latest, Utterance
from ezflow.channels import every_step
from ezflow.server.config import Settings
from ezflow.server.run import run
from ezflow.testing import FakeVAD
from ezflow.testing.backends import FunASRStandIn, GPTSoVITSStandIn, OllamaStandIn, StandIn
from ezflow.testing.backends.funasr import speech
from stdlib_modules.asr.funasr import FunASR
from stdlib_modules.llm.ollama import Ollama
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.gpt_sovits import GPTSoVITS

POINTS = 40
SHUTDOWNS = 8
ANSWER = "You said {}. It is good."
PIECE = 320 * 2  # bytes: 20 ms of 16 kHz
SILENCE = bytes(PIECE)


# ---- clients, each of which has one turn


async def text(server: Server, hear: Callable[[Any], None]) -> None:
    """A text that enters the voice flow in its middle."""
    await _posted(server, hear, {"input": "hello", "entry": "ollama"})


async def voice(server: Server, hear: Callable[[Any], None]) -> None:
    """A recording."""
    await _posted(server, hear, {"input": base64.b64encode(speech("hello").pcm).decode()})


async def _posted(server: Server, hear: Callable[[Any], None], body: dict[str, Any]) -> None:
    post = await Post.to(server, "/voice/turns", {"user": "ann", **body})
    try:
        while (event := await post.line()) is not None:
            assert post.status == 200, event
            hear(event)
    finally:
        await post.vanish()


async def talk(server: Server, hear: Callable[[Any], None]) -> None:
    """A microphone: speech, speech again over the answer, an interrupt, and at last a text for the model."""
    async with trio.open_nursery() as nursery:
        socket = await Socket.connect(nursery, server, "live", "ann")
        try:
            await _talk(socket, hear)
        except ConnectionClosed:  # the server has: what it had said before is here
            while (event := await socket.event()) is not None:
                hear(event)
        finally:
            await socket.vanish()
            nursery.cancel_scope.cancel()


async def _talk(socket: Socket, hear: Callable[[Any], None]) -> None:
    async def until(*kinds: str) -> bool:
        """Hear up to an event of these; False if the turn has ended."""
        while (event := await socket.event()) is not None:
            hear(event)
            if event["type"] in (*kinds, "turn.ended"):
                return event["type"] in kinds
        return False

    async def speak(word: str) -> None:
        pcm = speech(word).pcm
        for start in range(0, len(pcm), 5 * PIECE):
            await socket.send_raw(pcm[start : start + 5 * PIECE])
        await socket.send_raw(SILENCE)

    await socket.send("start")
    await speak("hello")
    if not await until("audio"):
        return
    await speak("stop")
    if not await until("interrupted") or not await until("text"):
        return
    await socket.send("interrupt")
    if not await until("interrupted"):
        return
    await socket.send("input", data="typed", entry="ollama")
    await socket.send("end")
    await until("turn.ended")


# ---- the server, and the ways to end a turn


@attrs.define(eq=False)
class Bench:
    """A server of presets, their backends, and what there is while nobody uses it."""

    server: Server
    tasks: int = 0
    threads: int = 0
    files: int = 0

    def count(self) -> None:
        """Remember what there is. The connections that the presets keep are in it."""
        self.tasks, self.threads, self.files = self.server.tasks, _threads(), descriptors()

    async def check(self) -> None:
        """Nothing is left of a turn, and the next one works."""
        await self.is_quiet()
        events: list[Any] = []
        with trio.fail_after(WITHIN_S):
            await text(self.server, events.append)
        assert {event["turn"] for event in events} == {1}
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert "".join(event["text"] for event in events if event["type"] == "text") == ANSWER.format("hello")
        assert [event["type"] for event in events].count("audio") >= 2
        assert events[-1]["reason"] == "done"
        await self.is_quiet()

    async def is_quiet(self) -> None:
        await becomes(lambda: not self.server.places, "no session is left")
        await becomes(lambda: self.server.tasks <= self.tasks, "no task is left")
        await becomes(lambda: descriptors() <= self.files, "no descriptor is left")
        assert _threads() <= self.threads
        for pool in self.pools():
            assert (pool.slots.free, pool.slots.waiting) == (1, 0)

    def pools(self) -> Iterator[Any]:
        for service in self.server.services.values():
            for stage in service.stages:
                for name in ("http", "sockets"):
                    if name in vars(stage.module):
                        yield getattr(stage.module, name)


def _threads() -> int:
    # trio keeps idle worker threads for a while: they are its own, and bounded.
    return len([thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")])


@pytest.fixture
def backends() -> Iterator[tuple[str, ...]]:
    """The URLs of servers for hearing, answering and speaking, in threads of their own."""
    # So few samples a second that an answer sounds for longer than it takes a client to interrupt it.
    speaker = GPTSoVITSStandIn(rate_hz=100)
    standins: list[StandIn] = [FunASRStandIn(corrected=str), OllamaStandIn(ANSWER.format), speaker]
    with ExitStack() as stack, every_step():
        yield tuple(stack.enter_context(standin.in_thread()).url for standin in standins)


def flows_on(asr: str, llm: str, tts: str) -> dict[str, Flow[Any, Any]]:
    """A voice flow with one place in each pool, and the same behind a microphone."""
    answer: Flow[Audio | Utterance, Any] = (
        FunASR(url=asr, final_s=0.2, max_connections=1)
        >> Ollama("qwen2.5", url=llm, max_connections=1).shown()
        >> Sentences()
        >> GPTSoVITS(ref_audio_path="a.wav", prompt_text="Hello.", url=tts)
    )
    return {"voice": answer, "live": FakeVAD() >> Latest(answer)}


@pytest.fixture
async def bench(backends: tuple[str, ...]) -> AsyncIterator[Bench]:
    async with serving(flows_on(*backends), idle_s=0.0, capacity=1) as server:
        bench = Bench(server)
        for client in (talk, text):  # what a server begins with its first WebSocket stays
            await client(server, lambda event: None)
        await becomes(lambda: not server.places, "no session is left")
        await trio.sleep(0.1)
        bench.count()
        yield bench


Client = Callable[[Server, Callable[[Any], None]], Awaitable[None]]


async def shut_down_at(flows: dict[str, Flow[Any, Any]], client: Client, step: int) -> int:
    """A server that is told to stop at a step of its tasks, in the midst of a turn. How many steps it had then."""
    stop, events = trio.Event(), []
    settings = Settings(port=0, playground=False, idle_s=0.0, capacity=1, grace_s=1.0)
    async with trio.open_nursery() as below:
        url = await below.start(partial(run, flows, settings, say=lambda line: None, stop=stop))
        try:
            with at_step(step, stop.set, below) as steps, trio.fail_after(WITHIN_S):
                await client(Server({}, url, below, stop), events.append)
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError, HandshakeError, AssertionError):
            # It came too late to be let in. Whom it lets in, it tells of the end.
            assert not any(event["type"] == "turn.started" for event in events), events
        finally:
            stop.set()
    if any(event["type"] == "turn.started" for event in events):
        assert events[-1]["type"] == "turn.ended", events
        assert events[-1]["reason"] in ("done", "interrupted")
    return steps.count


async def ended_at(bench: Bench, client: Client, way: str, step: int) -> tuple[int, list[Any]]:
    """Have a turn that is ended in this way at a step of the server's tasks. How many steps it had, and its events."""
    events: list[Any] = []
    server, leaving, asked = bench.server, trio.CancelScope(), trio.Event()

    async def stop() -> None:
        await asked.wait()
        if way == "interrupt":
            await interrupt(server, "ann")
        elif (place := server.places.get("ann")) is not None:
            await place.interrupt()

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            with at_step(step, leaving.cancel if way == "vanish" else asked.set, server.nursery) as steps, leaving:
                await client(server, events.append)
            asked.set()  # it ended before
    told = [event for event in events if "seq" in event]
    assert [event["seq"] for event in told] == list(range(len(told)))
    assert not any(event["type"] == "error" for event in events), events
    over: set[int] = set()
    for event in told:
        assert event.get("run") not in over, f"{event} follows the end of its run"
        if event["type"] == "interrupted":
            over.add(event["run"])
    if way != "vanish":
        assert told[-1]["type"] == "turn.ended"
        assert told[-1]["reason"] in ("interrupted", "done")
    return steps.count, told


@pytest.mark.parametrize("way", ["vanish", "interrupt", "cancel"])
@pytest.mark.parametrize("client", [text, voice, talk], ids=lambda client: client.__name__)
async def test_a_served_turn_that_is_ended_at_any_checkpoint_leaves_nothing(client, way, bench, is_long, count):
    steps, whole = await ended_at(bench, client, way, 0)
    assert whole[-1]["reason"] == "done"
    assert [event["type"] for event in whole].count("interrupted") == (2 if client is talk else 0)
    await bench.check()
    stride = 1 if is_long else max(1, steps // POINTS)
    count(steps=steps, stride=stride)
    # How many steps a turn has depends on how its bytes come: the last is one that it no longer has.
    step = 1
    while (await ended_at(bench, client, way, step))[0] >= step:
        await bench.check()
        count(ended=1)
        step += stride
    await bench.check()


@pytest.mark.parametrize("client", [text, voice, talk], ids=lambda client: client.__name__)
async def test_a_server_that_is_shut_down_at_any_checkpoint_of_a_turn_ends_in_order(
    client, backends, is_long, count, caplog
):
    flows = flows_on(*backends)
    step, steps = 0, 1
    while step <= steps:
        before = descriptors(), _threads()
        steps_of_it = await shut_down_at(flows, client, step)
        files, threads = before
        await becomes(lambda: descriptors() <= files, "no descriptor is left of the server")  # noqa: B023
        await becomes(lambda: _threads() <= threads, "no thread is left of the server")  # noqa: B023
        if not step:
            steps = steps_of_it
            stride = 1 if is_long else max(1, steps // SHUTDOWNS)
            count(steps=steps, stride=stride)
        count(shut_down=1)
        step += stride
    assert "failed" not in caplog.text
