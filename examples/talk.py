"""A conversation over the WebSocket: three questions spoken in real time, the second answer interrupted.

    ezflow serve examples/voice.py            in one terminal
    python examples/talk.py                   in another (needs: pip install trio-websocket)

Hibari speaks the questions; what comes back is timed from the end of each question. Exits 0 only if the interrupted
reply stopped and the next question was answered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from ezflow import Audio
from stdlib_modules.tts.hibari import Hibari

URL = "ws://127.0.0.1:3421/live/ws?user=talk"
QUESTIONS = [
    "What is the capital of France?",
    "Tell me about the ocean in five sentences.",
    "How many legs does a spider have?",
]
FRAME_S = 0.032
PAUSE_S = 1.0  # of silence after each question
SPOKEN_OVER_S = 2.0  # of the second answer before the third question is asked into it


class Conversation:
    """Both directions of one live turn, and when what happened."""

    def __init__(self, socket: WebSocketConnection, rate_hz: int) -> None:
        self.socket = socket
        self.rate_hz = rate_hz
        self.began = trio.current_time()
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.changed = trio.Event()

    def say(self, what: str) -> None:
        print(f"{trio.current_time() - self.began:7.2f} s  {what}", flush=True)

    async def listen(self) -> None:
        """Receive events; the sound that follows an audio event is only counted."""
        try:
            while True:
                message = await self.socket.get_message()
                if isinstance(message, bytes):
                    continue
                event = json.loads(message)
                self.events.append((trio.current_time(), event))
                self.changed.set()
                self.changed = trio.Event()
        except ConnectionClosed:
            return

    async def until(self, kind: str, since: int, **fields: Any) -> tuple[float, dict[str, Any]]:
        """The first event of that kind, with these fields, after the first `since` events."""
        while True:
            for at, event in self.events[since:]:
                if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                    return at, event
            await self.changed.wait()

    async def speak(self, question: Audio) -> float:
        """Send a question at the pace of speech, then silence in the background; returns when it ended."""
        step = 2 * int(self.rate_hz * FRAME_S)
        pcm = question.pcm.rstrip(b"\0")
        pcm += bytes(-len(pcm) % step)
        begun = trio.current_time()
        for number, place in enumerate(range(0, len(pcm), step)):
            await trio.sleep_until(begun + number * FRAME_S)
            await self.socket.send_message(pcm[place : place + step])
        return trio.current_time()

    async def pause(self, seconds: float) -> None:
        step = bytes(2 * int(self.rate_hz * FRAME_S))
        begun = trio.current_time()
        for number in range(int(seconds / FRAME_S)):
            await trio.sleep_until(begun + number * FRAME_S)
            await self.socket.send_message(step)


@asynccontextmanager
async def conversation(url: str, rate_hz: int) -> AsyncIterator[Conversation]:
    async with open_websocket_url(url) as socket:
        assert json.loads(await socket.get_message())["type"] == "ready"
        talk = Conversation(socket, rate_hz)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.listen)
            await socket.send_message(json.dumps({"type": "start", "format": {"rate_hz": rate_hz, "channels": 1}}))
            yield talk
            nursery.cancel_scope.cancel()


async def ask(talk: Conversation, question: Audio) -> dict[str, Any]:
    """Speak a question, wait for the first sound of its answer, and print the times; gives the final transcript."""
    since = len(talk.events)
    talk.say(f"speech onset: {question.text}")
    ended = await talk.speak(question)
    talk.say("end of speech")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk.pause, PAUSE_S)
        at, transcript = await talk.until("transcript", since, final=True)
        talk.say(f"transcript after {at - ended:.2f} s: {transcript['text']}")
        for kind, name in (("text", "first text"), ("audio", "first sound")):
            at, _ = await talk.until(kind, since, run=transcript["run"])
            talk.say(f"{name} after {at - ended:.2f} s")
    return transcript


async def main(url: str) -> int:
    spoken = [(await Hibari().collect([question]))[0] for question in QUESTIONS]
    rate_hz = spoken[0].rate_hz
    with trio.fail_after(120):
        async with conversation(url, rate_hz) as talk:
            await ask(talk, spoken[0])
            await talk.pause(3.0)
            interrupted = (await ask(talk, spoken[1]))["run"]
            await talk.pause(SPOKEN_OVER_S)
            since, onset = len(talk.events), trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(report_interruption, talk, interrupted, since, onset)
                answered = await ask(talk, spoken[2])
            await talk.socket.send_message(json.dumps({"type": "end"}))
            await talk.until("turn.ended", since, reason="done")
    late = [event for _, event in after_interruption(talk, interrupted) if event.get("run") == interrupted]
    answer = "".join(e["text"] for _, e in talk.events if e["type"] == "text" and e.get("run") == answered["run"])
    print(f"events of the interrupted run after `interrupted`: {len(late)}; the next answer: {answer}")
    return 0 if not late and answer else 1


async def report_interruption(talk: Conversation, run: int, since: int, onset: float) -> None:
    at, _ = await talk.until("interrupted", since, run=run)
    talk.say(f"the reply is silent {at - onset:.2f} s after the first sample spoken over it")


def after_interruption(talk: Conversation, run: int) -> list[tuple[float, dict[str, Any]]]:
    places = [n for n, (_, e) in enumerate(talk.events) if e["type"] == "interrupted" and e.get("run") == run]
    return talk.events[places[0] + 1 :] if places else [(0.0, {"run": run})]


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1] if len(sys.argv) > 1 else URL))
