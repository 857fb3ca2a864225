"""`python -m tests.bench.voice`: speech end to first sound on the embedded stack, stage by stage.

A question that Hibari says is fed to the live flow at the pace of speech, then silence. Needs the extras `speech`
and `embedded`, and the weights.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import trio

from ezflow import Audio, Event, Service
from ezflow.target import load
from stdlib_modules.tts.hibari import Hibari

ROUNDS = 5
FRAME_S = 0.032
TAIL_S = 1.5
VOICE = Path(__file__).parents[2] / "examples" / "voice.py"


async def main() -> None:
    questions = ["How many legs does a spider have?", "What is the capital of France?"]
    spoken = [(await Hibari().collect([question]))[0] for question in questions]
    live = load(str(VOICE))["live"]
    rows: list[list[float]] = []
    async with live.open() as service:
        for number in range(ROUNDS):
            rows.append(await once(service, f"user{number}", spoken[number % len(spoken)]))
    names = ["final transcript", "first text", "first sound"]
    print(f"seconds after the end of speech, median (least, most) of {ROUNDS}")
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        print(f"  {name:<20}{statistics.median(column):6.2f}  ({min(column):.2f}, {max(column):.2f})")
    if statistics.median(row[-1] for row in rows) > 1.2:
        print("over the bound of 1.2 s", file=sys.stderr)


async def once(service: Service, user: str, question: Audio) -> list[float]:
    step = 2 * int(question.rate_hz * FRAME_S)
    silence = bytes(2 * int(question.rate_hz * TAIL_S))
    pcm = question.pcm.rstrip(b"\0")
    marks: dict[str, float] = {}
    async with service.session(user) as session, session.live() as turn, trio.open_nursery() as nursery:

        async def speak() -> None:
            begun = trio.current_time()
            for number, place in enumerate(range(0, len(pcm) + len(silence), step)):
                await trio.sleep_until(begun + number * FRAME_S)
                await turn.send(Audio((pcm + silence)[place : place + step].ljust(step, b"\0"), question.rate_hz))
                if place + step >= len(pcm):
                    marks.setdefault("speech ended", trio.current_time())
            await turn.end()

        nursery.start_soon(speak)
        async for event in turn:
            mark(marks, event)
    ended = marks["speech ended"]
    return [marks[name] - ended for name in ("transcript", "text", "audio")]


def mark(marks: dict[str, float], event: Event) -> None:
    now = trio.current_time()
    if event.type == "transcript" and event.item.final:
        marks.setdefault("transcript", now)
    elif event.type in ("text", "audio"):
        marks.setdefault(event.type, now)


if __name__ == "__main__":
    trio.run(main)
