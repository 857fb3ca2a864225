"""A turn as a person gets it: shown as it comes, its sound kept, and at the end what its stages did."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterable, Sequence

from ..events import Event, Reason
from .recording import Recording
from .screen import Screen
from .timeline import Chart

__all__ = ["Answer"]

WIDEST_CHART = 100


class Answer:
    """Takes one turn's events. `reason` is why the turn ended, once it has."""

    def __init__(self, screen: Screen, recording: Recording | None) -> None:
        self._screen = screen
        self._recording = recording
        self.chart = Chart()
        self.reason: Reason | None = None
        self.failed = False

    async def follow(self, events: AsyncIterable[Event]) -> None:
        """Show each event as it comes. Raises: what the events do; OSError."""
        async for event in events:
            self.chart.take(event)
            self._screen.show(event)
            if self._recording is not None:
                self._recording.take(event)
            self.reason = event.reason
            self.failed = event.reason in ("error", "timeout")

    def close(self, timeline: Sequence[str] | None = None) -> None:
        """No more comes. `timeline`: the stages whose doings are drawn, if the turn came to its end."""
        written = self._recording.end() if self._recording is not None else []
        if self.reason is not None and timeline is not None:
            width = min(WIDEST_CHART, shutil.get_terminal_size().columns - 1)
            for line in self.chart.lines([*timeline], width):
                self._screen.note(line)
        for path in written:
            self._screen.note(f"saved: {path}")
