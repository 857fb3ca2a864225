"""Sound for the tests with real models, and a client that sends it in a live turn over the WebSocket."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import accumulate
from typing import Any
from urllib.parse import quote

import numpy as np
import trio
from numpy.typing import NDArray
from trio_websocket import WebSocketConnection, open_websocket_url

from stdlib_modules.sound import as_float32, from_float32, slices

RATE_HZ = 16_000
FRAME_S = 0.032
WITHIN_S = 60.0

Samples = NDArray[np.float32]


@cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari()


@cache
def spoken(text: str) -> Samples:
    """Hibari says it: from its first sound to its last, 16 kHz."""
    said = from_float32(np.asarray(_voice()(text, seed=1), np.float32), _voice().sample_rate)
    samples = as_float32(said, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def white(seconds: float) -> Samples:
    """Noise in which every frequency is as loud: a radio between stations."""
    return np.random.default_rng(1).normal(0, 1, round(seconds * RATE_HZ)).astype(np.float32)


def brown(seconds: float) -> Samples:
    """Noise that is louder the lower it is, from 20 Hz up: wind, traffic, a ventilator."""
    kept = np.exp(-2 * np.pi * 20 / RATE_HZ)
    return np.array(list(accumulate(white(seconds), lambda held, step: kept * held + step)), np.float32)


def keyboard(seconds: float) -> Samples:
    """Some seven short, loud clicks a second over a faint hiss."""
    random, samples = np.random.default_rng(2), 0.002 * white(seconds)
    length = RATE_HZ // 50
    for begin in np.arange(0.2, seconds - 0.1, 0.14) + random.uniform(0, 0.05):
        place = round(begin * RATE_HZ)
        samples[place : place + length] += random.normal(0, 0.5, length) * np.exp(-np.arange(length) / 60)
    return samples


def loud(samples: Samples, loudness: float) -> Samples:
    """The same sound with this root mean square; full scale is 1."""
    return (samples * (loudness / _loudness(samples))).astype(np.float32)


def over(noise: Samples, speech: Samples, snr_db: float) -> Samples:
    """Speech in the middle of a noise that is so many decibels below it."""
    before = (noise.size - speech.size) // 2
    mixed = loud(noise, _loudness(speech) / 10 ** (snr_db / 20))
    mixed[before : before + speech.size] += speech
    return mixed


def _loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


class Client:
    """A live turn of `examples/voice.py` as its client sees it."""

    def __init__(self, socket: WebSocketConnection, rate_hz: int, channels: int) -> None:
        self._socket = socket
        self._rate_hz = rate_hz
        self._channels = channels
        self._changed = trio.Event()
        self.user = ""
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self._socket.send_message(json.dumps({"type": kind, **fields}))

    async def begin(self) -> None:
        """Be told that the server is ready, and start a live turn."""
        ready = json.loads(await self._socket.get_message())
        assert ready["type"] == "ready"
        self.user = ready["session"]
        await self.send("start", format={"rate_hz": self._rate_hz, "channels": self._channels})

    async def listen(self) -> None:
        """Gather events, each audio event with its sound."""
        while True:
            event = json.loads(await self._socket.get_message())
            if event["type"] == "audio":
                pcm = await self._socket.get_message()
                assert isinstance(pcm, bytes)
                assert len(pcm) == event["bytes"]
            self.events.append(event)
            self._changed.set()
            self._changed = trio.Event()

    async def burst(self, *sounds: Samples) -> None:
        """Send sounds one after the other, as fast as the server takes them."""
        for frame in slices(from_float32(np.concatenate(sounds), self._rate_hz), FRAME_S * self._channels):
            await self._socket.send_message(frame.pcm)

    async def speak(self, *sounds: Samples) -> None:
        """Send sounds at the pace of speech: each frame when a microphone would have it."""
        begun = trio.current_time()
        for number, frame in enumerate(slices(from_float32(np.concatenate(sounds), self._rate_hz), FRAME_S), 1):
            await trio.sleep_until(begun + number * FRAME_S)
            await self._socket.send_message(frame.pcm)

    async def until(self, kind: str, place: int = 0, **fields: Any) -> dict[str, Any]:
        """The first event that is like this, or of several the one in this place, which may have come already."""
        while len(found := self.all(kind, **fields)) <= place:
            await self._changed.wait()
        return found[place]

    async def end(self) -> None:
        """End the input, and see the turn run out."""
        await self.send("end")
        assert (await self.until("turn.ended"))["reason"] == "done"

    def all(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        return [event for event in self.events if event | fields | {"type": kind} == event]

    def heard(self, run: int) -> list[str]:
        """The words that were understood in a run, in the end."""
        return words(" ".join(event["text"] for event in self.all("transcript", run=run, final=True)))

    def answer(self, run: int) -> list[str]:
        """The words of a run's answer, as far as they have come."""
        return words("".join(event["text"] for event in self.all("text", run=run)))

    def check(self) -> None:
        """What holds of every live turn: no error, no gap, one run at a time, and nothing of one that is over."""
        assert self.all("error") == []
        assert {event["turn"] for event in self.events} == {1}
        assert [event["seq"] for event in self.events] == list(range(len(self.events)))
        runs = [event["run"] for event in self.events if "run" in event]
        assert runs == sorted(runs)
        for place, event in enumerate(self.events):
            if event["type"] == "interrupted":
                assert all(later.get("run") != event["run"] for later in self.events[place + 1 :])


@asynccontextmanager
async def conversation(url: str, user: str, rate_hz: int = RATE_HZ, channels: int = 1) -> AsyncIterator[Client]:
    """A live turn of this user; its events are checked when it has been left."""
    address = f"ws{url.removeprefix('http')}/ws?user={quote(user)}"
    with trio.fail_after(WITHIN_S):
        async with open_websocket_url(address) as socket, trio.open_nursery() as nursery:
            client = Client(socket, rate_hz, channels)
            await client.begin()
            nursery.start_soon(client.listen)
            yield client
            nursery.cancel_scope.cancel()
    client.check()
