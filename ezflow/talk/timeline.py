"""A turn as lines of text: what each stage did when, and how long one waited for what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..events import Event
from ..items import Audio

__all__ = ["Chart"]

SPANS = {"waiting": ".", "working": "=", "blocked": "#"}
MARKS = {"done": "|", "first": "*", "failed": "x"}  # where two meet, the later one here is seen
LEGEND = ". waits  = works  * first output  # waits for room  | done  x failed  ! interrupted"
NARROWEST = 20


class Chart:
    """Takes a turn's events, and draws them when it is over."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[tuple[float, str]]] = {}
        self._interrupted: list[float] = []
        self._first: dict[str, float] = {}
        self.sound_s = 0.0
        self._end_s = 0.0
        self._reason = ""

    def take(self, event: Event) -> None:
        self._end_s = max(self._end_s, event.t)
        if event.type == "stage":
            self._lanes.setdefault(event.stage or "", []).append((event.t, event.item))
        elif event.type in ("text", "audio"):
            self._first.setdefault(event.type, event.t)
        elif event.type == "interrupted":
            self._interrupted.append(event.t)
        elif event.type == "turn.ended":
            self._reason = event.reason or ""
            if self._reason == "interrupted":
                self._interrupted.append(event.t)
        if isinstance(event.item, Audio):
            self.sound_s += event.item.duration_s

    def lines(self, stages: list[str], width: int) -> Iterator[str]:
        """A lane for each of these stages that has worked, in at most `width` columns, then the figures."""
        names = [stage for stage in stages if stage in self._lanes]
        if names:
            indent = max(map(len, names)) + 1
            columns = max(NARROWEST, width - indent)
            end = f"{self._end_s:.2f} s"
            yield f"{'':{indent}}0 s{end:>{columns - 3}}"
            yield from (f"{name:{indent}}{self._lane(self._lanes[name], columns)}".rstrip() for name in names)
            yield f"{'':{indent}}{LEGEND}"
        yield self.figures

    @property
    def figures(self) -> str:
        """The times that people quote."""
        told = [f"first {kind} {self._first[key]:.2f} s" for key, kind in FIGURES if key in self._first]
        if "audio" in self._first:
            told.append(f"{self.sound_s:.2f} s of sound")
        return ", ".join([*told, f"{self._reason or 'broken off'} after {self._end_s:.2f} s"])

    def _lane(self, told: list[tuple[float, str]], columns: int) -> str:
        row = [" "] * columns
        state, since = "", 0.0
        # What is told late bears the time at which it came about.
        for at, now in sorted([*told, (self._end_s, "")], key=_time):
            if state in SPANS:
                begin, end = self._column(since, columns), self._column(at, columns)
                row[begin : end + 1] = SPANS[state] * (end + 1 - begin)
            if now != "first":
                state, since = now, at
        marks = [(at, mark) for doing, mark in MARKS.items() for at, now in told if now == doing]
        for at, mark in [*marks, *((at, "!") for at in self._interrupted)]:
            row[self._column(at, columns)] = mark
        return "".join(row)

    def _column(self, at: float, columns: int) -> int:
        return min(columns - 1, int(at / self._end_s * columns)) if self._end_s else 0


FIGURES = (("text", "text"), ("audio", "sound"))


def _time(entry: tuple[float, Any]) -> float:
    return entry[0]
