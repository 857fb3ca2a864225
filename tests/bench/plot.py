"""The figures as one picture, SVG: bars side by side, ezflow's own in another colour, quoted ones pale."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

import attrs

from .figures import Figures
from .inprocess import ITEMS
from .targets import CPU_OF_PEERS, ITEMS_OF_PEERS

__all__ = ["svg"]

WIDTH, BAR, GAP, LABELS, VALUES = 760, 16, 8, 250, 90
OWN, MEASURED, QUOTED, INK = "#2563eb", "#64748b", "#cbd5e1", "#1e293b"


@attrs.frozen
class Bar:
    name: str
    value: float
    colour: str = MEASURED


@attrs.frozen
class Panel:
    title: str
    bars: list[Bar]
    form: str  # of a value, as `format` takes it


def svg(figures: Figures) -> str:
    """The picture; a panel for each kind of figure that was measured."""
    drawn, y = [], 10
    for panel in _panels(figures):
        drawn.append(_text(10, y + 16, panel.title, weight="bold"))
        y += 28
        most = max(bar.value for bar in panel.bars)
        for bar in panel.bars:
            length = max(1.0, bar.value / most * (WIDTH - LABELS - VALUES))
            drawn.append(_text(LABELS - 8, y + 13, bar.name, anchor="end"))
            drawn.append(f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{bar.colour}"/>')
            drawn.append(_text(LABELS + length + 6, y + 13, format(bar.value, panel.form)))
            y += BAR + GAP
        y += 14
    drawn.append(_text(10, y + 6, "blue: ezflow · grey: by hand, same run · pale: quoted as a multiple of by hand"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 20}" font-family="sans-serif" role="img"'
    title = "<title>ezflow beside hand-written code and its peers</title>"
    paper = f'<rect width="{WIDTH}" height="{y + 20}" fill="#ffffff"/>'
    return "\n".join([f'{head} font-size="12" fill="{INK}">', title, paper, *drawn, "</svg>"]) + "\n"


def _panels(figures: Figures) -> Iterator[Panel]:
    measure = ITEMS.format(3)
    if drained := figures.median(measure, "drained"):
        own = [("ezflow, functions", "functions"), ("ezflow, generators", "generators")]
        bars = [Bar(title, figures.median(measure, name) or 0, OWN) for title, name in own]
        bars += [
            Bar(title, figures.median(measure, name) or 0)
            for title, name in (("trio channels, drained", "drained"), ("asyncio.Queue", "asyncio"), ("trio", "plain"))
        ]
        bars += [Bar(name.replace("`", ""), share * drained, QUOTED) for name, share in ITEMS_OF_PEERS.items()]
        yield Panel("Items per second of CPU time, 3 pass-through stages", bars, ",.0f")
    measure = "CPU ms a turn, 100 sessions"
    if figures.measured(measure):
        bars = _measured(figures, measure)
        if theirs := figures.median(measure, "fastapi"):
            bars += [Bar(name, share * theirs, QUOTED) for name, share in CPU_OF_PEERS.items()]
        yield Panel("A served turn, ms of CPU time at 100 sessions (less is better)", bars, ".1f")
    for measure, title in (
        ("turns/s, 300 sessions", "Turns per second on one core, 300 sessions"),
        ("ms added to first sound, 20 sessions", "Added to the first sound, ms, 20 sessions (less is better)"),
    ):
        if figures.measured(measure):
            yield Panel(title, _measured(figures, measure), ".1f")


def _measured(figures: Figures, measure: str) -> list[Bar]:
    names = (
        ("ezflow", "ezflow", OWN),
        ("quart + c, by hand", "quart", MEASURED),
        ("FastAPI + aiohttp, by hand", "fastapi", MEASURED),
    )
    return [
        Bar(title, value, colour)
        for title, name, colour in names
        if (value := figures.median(measure, name)) is not None
    ]


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
