"""What a client does with a voice server, from a plain script: ask, speak, interrupt, enter in the middle.

    ezflow serve examples/voice.py                                                       in one terminal
    python examples/clients/python/scenario_blocking.py http://127.0.0.1:3421 question.wav        in another

Prints one line of JSON for each step. `question.wav` holds a spoken question.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import attrs

from ezflow import Audio, Event, Transcript
from ezflow.client import BlockingClient, Refused

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


def main(url: str, wav: str) -> None:
    question = Audio.from_wav(wav)
    sound = ("sound_s", "rate_hz", "reason")

    with BlockingClient(url, user="script-text") as client:
        answer = ask(client, QUESTION, "local_llm")
    show("text", **answer.told("text", *sound))

    with BlockingClient(url, user="script-audio") as client:
        answer = ask(client, question, 0)
    show("audio", **answer.told("transcript", "text", *sound))

    with BlockingClient(url, user="script-live") as client:
        answer = converse(client.of("live"), question)
    show("live", **answer.told("transcript", "text", *sound))

    with BlockingClient(url, user="script-interrupt") as client:
        show("interrupt", **interrupt(client.of("live")))

    with BlockingClient(url, user="script-entry") as client:
        answer = ask(client, "This is said as it is.", "sentences")
    show("entry", **answer.told("text", *sound))

    with BlockingClient(url, user="script-error") as client:
        try:
            ask(client, QUESTION, "nowhere")
        except Refused as refused:
            show("error", error=refused.error, message=refused.message)


def ask(client: BlockingClient, question: str | Audio, entry: int | str) -> Answer:
    """One question, over HTTP: its answer comes while later stages still work on it."""
    answer = Answer()
    for event in client.turn(question, entry=entry):
        answer.take(event)
    return answer


def converse(client: BlockingClient, question: Audio) -> Answer:
    """A question spoken at the pace of speech, over a WebSocket; it ends when the answer is heard."""
    answer = Answer()
    with client.live(format=question) as live:
        begun = time.monotonic()
        for number, frame in enumerate(frames(question)):
            live.send(frame)
            while event := live.receive(begun + (number + 1) * FRAME_S - time.monotonic()):
                answer.take(event)
            if answer.sound_s:
                break
        while not answer.sound_s and (event := live.receive()):
            answer.take(event)
        live.end()
        for event in live:
            answer.take(event)
    return answer


def frames(question: Audio) -> Iterator[bytes]:
    """Those of a microphone, and then its silence."""
    step = 2 * question.channels * round(question.rate_hz * FRAME_S)
    pcm = question.pcm + bytes(2 * question.channels * round(question.rate_hz * PAUSE_S))
    for place in range(0, len(pcm), step):
        yield pcm[place : place + step]


def interrupt(client: BlockingClient) -> dict[str, Any]:
    """A long answer, stopped at its first word, and another question in the same turn."""
    runs: dict[int | None, Answer] = {}
    asked_to_stop, stopped, after, reason = False, None, 0, None
    with client.live() as live:
        live.send(LONG, entry="local_llm")
        for event in live:
            after += stopped is not None and event.run == stopped
            runs.setdefault(event.run, Answer()).take(event)
            reason = event.reason
            if event.type == "text" and not asked_to_stop:
                asked_to_stop = True
                live.interrupt()
            if event.type == "interrupted":
                stopped = event.run
                live.send(QUESTION, entry="local_llm")
                live.end()
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
    main(*sys.argv[1:3])
