"""A turn's events as EZPipe's lines: cumulative text, complete WAVs, and errors that name their stage."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs
import trio

from ..events import Event, Fault
from ..flow import Flow, Series
from ..items import Audio
from ..ports import assignable
from ..stage import Stage, stages_of

__all__ = ["RATE_HZ", "Replies", "at_24_khz", "audio_line", "error_line", "gives_audio", "text_line", "text_stages"]

RATE_HZ = 24_000


class _Nothing:
    """A type that only `Any` and `object` take."""


def text_stages(flow: Flow[Any, Any], shown: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The stages of a bound flow whose text is the reply, and those whose text is not.

    They are the stages that the flow's author has shown, else the last ones that give text.
    """
    giving = {stage.name for stage in stages_of(flow) if assignable(str, stage.out_type)}
    told = {stage.name for stage in stages_of(flow) if stage.name in shown and _gives_text(stage)}
    told = told or _last(flow, surely=True) or _last(flow, surely=False)
    return frozenset(told), frozenset(giving - told)


def _gives_text(stage: Stage, surely: bool = True) -> bool:
    return assignable(str, stage.out_type) and not (surely and assignable(_Nothing, stage.out_type))


def _last(flow: Flow[Any, Any], surely: bool) -> set[str]:
    if isinstance(flow, Stage):
        return {flow.name} if _gives_text(flow, surely) else set()
    found: set[str] = set()
    for part in reversed(flow.parts):
        found |= _last(part, surely)
        if found and isinstance(flow, Series):
            break
    return found


def gives_audio(stage: Stage) -> bool:
    """Does this stage turn text into sound?"""
    out = stage.out_type
    return assignable(str, stage.in_type) and assignable(Audio, out) and not assignable(_Nothing, out)


class Replies:
    """The lines of one turn; what they say is cumulative.

    `quiet` are the stages whose text is not for the client. The ids are those of the request, until an event
    brings others.
    """

    def __init__(self, quiet: Collection[str], conversation_id: str = "", message_id: str = "") -> None:
        self._quiet = quiet
        self._ids = {"conversation_id": conversation_id, "message_id": message_id}
        self._think = ""
        self._responses: dict[str | None, str] = {}
        self._response = ""  # of the stage that spoke last
        self._understood = ""
        self._failed = False  # has an error been told?

    async def lines(self, events: Iterable[Event]) -> list[bytes]:
        """What these events are for the client."""
        return [line for event in events for line in await self._lines(event)]

    async def _lines(self, event: Event) -> list[bytes]:
        item = event.item
        if event.type == "audio":
            return [audio_line(await at_24_khz(item))]
        if event.type == "text" and event.stage not in self._quiet:
            self._response = self._responses[event.stage] = self._responses.get(event.stage, "") + item
            return [self._text()]
        if event.type == "thought":
            self._think += getattr(item, "text", "")
            return [self._text()]
        if event.type == "transcript":
            self._understood = item.text
        elif event.error is not None:
            self._failed = True
            return [error_line(event.stage, event.error)]
        elif event.type == "turn.ended":
            if event.reason == "timeout" and not self._failed:
                return [error_line(None, Fault("Timeout", f"no end after {event.t:.0f} s")), self._text(is_end=True)]
            return [self._text(is_end=True)]
        elif item is not None:
            for key in self._ids:
                if isinstance(found := getattr(item, key, None), str):
                    self._ids[key] = found
        return []

    def partial(self) -> list[bytes]:
        """What has been understood so far, while there is no answer yet."""
        if not self._understood or self._response:
            return []
        return [text_line(self._think, self._understood, self._ids)]

    def _text(self, is_end: bool = False) -> bytes:
        return text_line(self._think, self._response, self._ids, is_end)


NO_IDS: Mapping[str, str] = {"conversation_id": "", "message_id": ""}


def text_line(think: str, response: str, ids: Mapping[str, str] = NO_IDS, is_end: bool = False) -> bytes:
    """A text line: `chunk` is JSON within JSON."""
    chunk = {"think": think, "response": response, **ids, "Is_End": is_end}
    return _line("text", json.dumps(chunk, ensure_ascii=False))


def audio_line(sound: Audio) -> bytes:
    """A line that holds a complete WAV."""
    return _line("audio/wav", base64.b64encode(sound.to_wav()).decode())


def error_line(stage: str | None, fault: Fault) -> bytes:
    """A line that says what failed, at which stage."""
    where = f"{stage}: " if stage else ""
    return _line("error", f"{where}{fault.name}: {fault.message}")


def _line(kind: str, chunk: str) -> bytes:
    # A model's text may hold half a surrogate pair, which has no UTF-8.
    return json.dumps({"type": kind, "chunk": chunk}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


async def at_24_khz(sound: Audio) -> Audio:
    """The same sound at 24 kHz, mono: each piece for itself, since each becomes a WAV of its own.

    Sound that is so already passes as it is; other rates go through soxr where it is installed, else a straight
    line is drawn between the samples, which is audibly duller. Both work in a thread.
    """
    if sound.rate_hz == RATE_HZ and sound.channels == 1:
        return sound
    return await trio.to_thread.run_sync(_convert, sound)


def _convert(sound: Audio) -> Audio:
    samples = array("h", sound.pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    if (count := sound.channels) > 1:
        channels = [samples[channel::count] for channel in range(count)]
        samples = array("h", (sum(frame) // count for frame in zip(*channels, strict=True)))
    if sound.rate_hz != RATE_HZ and samples:
        samples = _resample(samples, sound.rate_hz)
    if sys.byteorder == "big":
        samples.byteswap()
    return attrs.evolve(sound, pcm=samples.tobytes(), rate_hz=RATE_HZ, channels=1)


def _resample(samples: array[int], rate_hz: int) -> array[int]:
    try:
        import numpy as np
        import soxr
    except ImportError:
        return straight_lines(samples, rate_hz)
    resampled = soxr.resample(np.array(samples, dtype=np.int16), rate_hz, RATE_HZ)
    return array("h", resampled.tobytes())


def straight_lines(samples: array[int], rate_hz: int) -> array[int]:
    """Samples at 24 kHz by linear interpolation, in plain Python: some 10 ms for a second of sound."""
    last = len(samples) - 1
    out = array("h")
    for index in range(max(1, round(len(samples) * RATE_HZ / rate_hz))):
        place, part = divmod(index * rate_hz, RATE_HZ)
        left = samples[min(place, last)]
        right = samples[min(place + 1, last)]
        out.append(left + (right - left) * part // RATE_HZ)
    return out
