"""What a client does with a voice server, from a program on trio: ask, speak, interrupt, enter in the middle.

    ezflow serve examples/voice.py                                                       in one terminal
    python examples/clients/python/scenario.py http://127.0.0.1:3421 question.wav        in another

Prints one line of JSON for each step. `question.wav` holds a spoken question.
"""

import json
import sys
from typing import Any

import attrs
import trio

from ezflow import Audio, Event, Transcript
from ezflow.client import Client, Live, Refused

QUESTION = "How many legs does a spider have?"
LONG = "Count from one to fifty, slowly, in words."
FRAME_S = 0.032
PAUSE_S = 1.0  # of silence after the question


@attrs.define
class Answer:
    """What a turn has said, gathered."""

    transcript: str = ""
    text: str = ""
    sound_s: float = 0.0
    rate_hz: int = 0
    reason: str | None = None

    def take(self, event: Event) -> None:
        match event:
            case Event(type="text", item=str(text)):
                self.text += text
            case Event(type="transcript", item=Transcript(text=text, final=True)):
                self.transcript = text
            case Event(type="audio", item=Audio() as sound):
                self.sound_s += sound.duration_s
                self.rate_hz = sound.rate_hz
            case Event(type="turn.ended", reason=reason):
                self.reason = reason
            case Event(error=fault) if fault is not None:
                raise SystemExit(f"{event.stage}: {fault.name}: {fault.message}")

    def told(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


async def main(url: str, wav: str) -> None:
    question = Audio.from_wav(wav)
    sound = ("sound_s", "rate_hz", "reason")

    async with Client(url, user="python-text") as client:
        answer = await ask(client, QUESTION, "local_llm")
    show("text", **answer.told("text", *sound))

    async with Client(url, user="python-audio") as client:
        answer = await ask(client, question, 0)
    show("audio", **answer.told("transcript", "text", *sound))

    async with Client(url, user="python-live") as client:
        answer = await converse(client.of("live"), question)
    show("live", **answer.told("transcript", "text", *sound))

    async with Client(url, user="python-interrupt") as client:
        show("interrupt", **await interrupt(client.of("live")))

    async with Client(url, user="python-entry") as client:
        answer = await ask(client, "This is said as it is.", "sentences")
    show("entry", **answer.told("text", *sound))

    async with Client(url, user="python-error") as client:
        try:
            await ask(client, QUESTION, "nowhere")
        except Refused as refused:
            show("error", error=refused.error, message=refused.message)


async def ask(client: Client, question: str | Audio, entry: int | str) -> Answer:
    """One question, over HTTP: its answer comes while later stages still work on it."""
    answer = Answer()
    async for event in client.turn(question, entry=entry):
        answer.take(event)
    return answer


async def converse(client: Client, question: Audio) -> Answer:
    """A question spoken at the pace of speech, over a WebSocket; it ends when the answer is heard."""
    answer = Answer()
    async with client.live(format=question) as live, trio.open_nursery() as nursery:
        speaking = trio.CancelScope()
        nursery.start_soon(speak, live, question, speaking)
        async for event in live:
            answer.take(event)
            if event.type == "audio" and not speaking.cancel_called:
                speaking.cancel()
                await live.end()
    return answer


async def speak(live: Live, question: Audio, speaking: trio.CancelScope) -> None:
    """A microphone's frames, and then its silence."""
    step = 2 * question.channels * round(question.rate_hz * FRAME_S)
    pcm = question.pcm + bytes(2 * question.channels * round(question.rate_hz * PAUSE_S))
    begun = trio.current_time()
    with speaking:
        for number, place in enumerate(range(0, len(pcm), step)):
            await trio.sleep_until(begun + number * FRAME_S)
            await live.send(pcm[place : place + step])


async def interrupt(client: Client) -> dict[str, Any]:
    """A long answer, stopped at its first word, and another question in the same turn."""
    runs: dict[int | None, Answer] = {}
    asked_to_stop, stopped, after, reason = False, None, 0, None
    async with client.live() as live:
        await live.send(LONG, entry="local_llm")
        async for event in live:
            after += stopped is not None and event.run == stopped
            runs.setdefault(event.run, Answer()).take(event)
            reason = event.reason
            if event.type == "text" and not asked_to_stop:
                asked_to_stop = True
                await live.interrupt()
            if event.type == "interrupted":
                stopped = event.run
                await live.send(QUESTION, entry="local_llm")
                await live.end()
    return {
        "text": runs[1].text,
        "interrupted": stopped == 1,
        "after": after,
        "next": "".join(answer.text for run, answer in runs.items() if run not in (None, 1)),
        "reason": reason,
    }


def show(step: str, **facts: Any) -> None:
    print(json.dumps({"step": step, **facts}), flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:3])
