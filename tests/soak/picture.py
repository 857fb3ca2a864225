"""What a soak has found: a table, and a picture (SVG) that shows at once what the load was, and that nothing grew."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import attrs

from .judge import MEMORY, Sample, Verdict, quarters

if TYPE_CHECKING:
    from .users import Load

__all__ = ["svg", "table"]

WIDTH, LEFT, RIGHT, HEIGHT, GAP = 900, 52, 126, 80, 34
INK, FAINT, GRID, PAPER = "#1e293b", "#64748b", "#e2e8f0", "#ffffff"
BLUE, ORANGE, BOUND = "#2563eb", "#d97706", "#dc2626"
FAULTS = {"dead": ("killed", "#dc2626"), "frozen": ("frozen", "#0284c7"), "nonsense": ("nonsense", "#ca8a04")}
RESULTS = {"done": "#16a34a", "interrupted": "#94a3b8", "error": "#dc2626", "timeout": "#7c3aed"}
WINDOWS = 150
TICKS_S = (10, 30, 60, 120, 300, 600, 1800, 3600)
TITLE = "A server under mixed load, its backends killed, frozen and talking nonsense"

Window = Sequence[Sample]


def table(load: Load, verdicts: Sequence[Verdict]) -> str:
    """In Markdown: what was done, what was wrong, what has grown."""
    kinds = [kind for kind, _, _ in load.backends.times]
    done = {**load.done, **{f"backends {kind}": kinds.count(kind) for kind in FAULTS}, "turns in all": load.turns}
    lines = ["| done | times |", "|---|---|", *(f"| {what} | {times} |" for what, times in sorted(done.items()))]
    lines += ["", "| must not grow | at first | at last | bound | |", "|---|---|---|---|---|"]
    for one in verdicts:
        lines.append(
            f"| {one.what} | {one.first:.1f} | {one.last:.1f} | {one.bound:.1f} | {'holds' if one.holds else 'GROWS'} |"
        )
    wrong = [f"- {what}: {times} times" for what, times in sorted(load.faults.items())]
    return "\n".join([*lines, "", *(wrong or ["Nothing was lost, doubled, mixed or left unanswered."]), *load.stuck])


@attrs.frozen
class Panel:
    """One thing over time: each line with its name and colour. `judged`: the first's verdict, and its unit."""

    title: str
    lines: Sequence[tuple[str, str, Callable[[Window], float | None]]]
    judged: tuple[str, float] | None = None
    by_tens: bool = False  # a logarithmic axis


PANELS = (
    Panel("Resident memory, MiB", [("", BLUE, lambda w: _median([s.resident_kib / 1024 for s in w]))], (MEMORY, 1024)),
    Panel("Open descriptors", [("", BLUE, lambda w: _median([s.descriptors for s in w]))], ("descriptors", 1)),
    Panel(
        "Tasks and sessions",
        [
            ("tasks", BLUE, lambda w: _median([s.tasks for s in w])),
            ("sessions", ORANGE, lambda w: _median([s.sessions for s in w])),
        ],
        ("tasks", 1),
    ),
    Panel(
        "From a request to its first text, ms (turns that no fault touched)",
        [("p50", BLUE, lambda w: _first_ms(w, 0.50)), ("p99", ORANGE, lambda w: _first_ms(w, 0.99))],
        by_tens=True,
    ),
    Panel("Event-loop lag, the most in each second, ms", [("", BLUE, lambda w: _median([1000 * s.lag_s for s in w]))]),
)


def svg(
    samples: Sequence[Sample],
    warm_s: float,
    verdicts: Sequence[Verdict],
    faults: Sequence[tuple[str, float, float]],
) -> str:
    """The picture. `faults`: the kind of each, and its begin and end on the samples' clock."""
    canvas = _Canvas(samples)
    canvas.head()
    canvas.faults(faults)
    canvas.turns()
    for panel in PANELS:
        canvas.panel(panel, quarters(samples, warm_s), {one.what: one for one in verdicts})
    canvas.times()
    return canvas.whole()


class _Canvas:
    """From the top down; `_y` is where the next thing goes."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._last_s = max(1.0, samples[-1].at_s)
        size = math.ceil(len(samples) / WINDOWS)
        self._windows: list[Window] = [samples[at : at + size] for at in range(0, len(samples), size)]
        tick_s = next((tick for tick in TICKS_S if self._last_s / tick <= 12), TICKS_S[-1])
        self._ticks = range(0, int(self._last_s) + 1, tick_s)
        self._drawn: list[str] = []
        self._y = 8.0

    def head(self) -> None:
        turns = self._samples[-1].turns
        self._text(LEFT, self._y + 12, TITLE, INK, weight="bold")
        took = f"{self._last_s / 60:.0f} minutes" if self._last_s > 90 else f"{self._last_s:.0f} seconds"
        about = f"{turns:,} turns in {took}. What is judged says at its right what it was, became, and may become."
        self._text(LEFT, self._y + 28, about, FAINT)
        self._y += 46

    def faults(self, spans: Sequence[tuple[str, float, float]]) -> None:
        """A lane for each kind."""
        self._text(LEFT, self._y + 10, "Faults of the backends", INK)
        self._y += 18
        for kind, (name, colour) in FAULTS.items():
            own = [(begin, end) for of, begin, end in spans if of == kind]
            self._rect(LEFT, self._y, WIDTH - LEFT - RIGHT, 8, "#f1f5f9")
            for begin, end in own:
                left = self._x(begin)
                self._rect(left, self._y, max(1.0, self._x(end) - left), 8, colour)
            self._text(WIDTH - RIGHT + 6, self._y + 8, f"{name}: {len(own)}", colour)
            self._y += 14
        self._y += 24

    def turns(self) -> None:
        """How many ended in a second, by how: one area on the other."""
        edges = [self._samples[0], *(window[-1] for window in self._windows)]
        pairs = [(a, b) for a, b in pairwise(edges) if b.at_s > a.at_s]
        shown = [result for result in RESULTS if edges[-1].results.get(result, 0) > edges[0].results.get(result, 0)]
        below = [0.0] * len(pairs)
        stacks = []
        for result in shown:
            rates = [(b.results.get(result, 0) - a.results.get(result, 0)) / (b.at_s - a.at_s) for a, b in pairs]
            above = [base + rate for base, rate in zip(below, rates, strict=True)]
            stacks.append((result, below, above))
            below = above
        scale = self._frame("Turns that ended in a second, by their result", max(below))
        times = [(a.at_s + b.at_s) / 2 for a, b in pairs]
        for place, (result, low, high) in enumerate(stacks):
            there = [(self._x(at), scale(value)) for at, value in zip(times, high, strict=True)]
            back = [(self._x(at), scale(value)) for at, value in zip(times, low, strict=True)][::-1]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in there + back)
            self._drawn.append(f'<polygon points="{points}" fill="{RESULTS[result]}"/>')
            self._text(WIDTH - RIGHT + 6, self._y + 12 + 14 * place, result, RESULTS[result])
        self._y += HEIGHT + GAP

    def panel(self, panel: Panel, compared: tuple[Window, Window], verdicts: dict[str, Verdict]) -> None:
        series = []
        for name, colour, of in panel.lines:
            found = [(window[len(window) // 2].at_s, of(window)) for window in self._windows]
            series.append((name, colour, [(at, value) for at, value in found if value is not None]))
        highest = max((value for _, _, points in series for _, value in points), default=1.0)
        verdict, unit = None, 1.0
        if panel.judged is not None:
            verdict, unit = verdicts[panel.judged[0]], panel.judged[1]
            highest = max(highest, verdict.bound / unit, verdict.last / unit)
        scale = self._frame(panel.title, highest, panel.by_tens)
        for place, (name, colour, points) in enumerate(series):
            path = " ".join(f"{self._x(at):.1f},{scale(value):.1f}" for at, value in points)
            self._drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
            self._text(WIDTH - RIGHT + 6, self._y + HEIGHT - 18 + 14 * place, name, colour)
        if verdict is not None:
            early, late = compared
            self._level(early, scale(verdict.first / unit), INK)
            self._level(late, scale(verdict.last / unit), INK)
            self._level(late, scale(verdict.bound / unit), BOUND, dashed=True)
            first, last, bound = (f"{value / unit:.3g}" for value in (verdict.first, verdict.last, verdict.bound))
            colour = INK if verdict.holds else BOUND
            self._text(WIDTH - RIGHT, self._y - 8, f"{first} → {last}, bound {bound}", colour, anchor="end")
        self._y += HEIGHT + GAP

    def whole(self) -> str:
        about = (
            "Black: the medians of the first quarter after the warm-up and of the last. Dashed: what the last may be."
        )
        self._text(LEFT, self._y - 8, about, FAINT)
        size = f'viewBox="0 0 {WIDTH} {self._y + 4:.0f}" width="{WIDTH}" height="{self._y + 4:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">'
        paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return "\n".join([head, f"<title>{TITLE}</title>", paper, *self._drawn, "</svg>"]) + "\n"

    def _frame(self, title: str, highest: float, by_tens: bool = False) -> Callable[[float], float]:
        """Title, axes and grid of a panel, at whose top `_y` stands; what places a value in it."""
        self._text(LEFT, self._y - 8, title, INK)
        bottom = self._y + HEIGHT
        if by_tens:
            tens = max(1, math.ceil(math.log10(highest)))
            levels = [10.0**power for power in range(tens + 1)]

            def scale(value: float) -> float:
                return bottom - HEIGHT * math.log10(max(1.0, value)) / tens
        else:
            step = _round(highest / 3)
            steps = math.ceil(highest / step)
            levels = [step * number for number in range(steps + 1)]

            def scale(value: float) -> float:
                return bottom - HEIGHT * value / (step * steps)

        for level in levels:
            self._drawn.append(f'<path d="M{LEFT} {scale(level):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
            self._text(LEFT - 6, scale(level) + 4, f"{level:g}", FAINT, anchor="end")
        for at_s in self._ticks:
            self._drawn.append(f'<path d="M{self._x(at_s):.1f} {self._y:.1f}v{HEIGHT}" stroke="{GRID}"/>')
        return scale

    def times(self) -> None:
        """What the grid's times are, under the last panel."""
        for at_s in self._ticks:
            words = f"{at_s / 60:g} min" if at_s >= 60 else f"{at_s} s" if at_s else "0"
            self._text(self._x(at_s), self._y - GAP + 16, words, FAINT, anchor="middle")
        self._y += 18

    def _x(self, at_s: float) -> float:
        return LEFT + max(0.0, min(1.0, at_s / self._last_s)) * (WIDTH - LEFT - RIGHT)

    def _level(self, window: Window, y: float, colour: str, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        path = f"M{self._x(window[0].at_s):.1f} {y:.1f}H{self._x(window[-1].at_s):.1f}"
        self._drawn.append(f'<path d="{path}" stroke="{colour}" stroke-width="2"{dash}/>')

    def _rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._drawn.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>')

    def _text(
        self, x: float, y: float, words: str, colour: str, *, anchor: str = "start", weight: str = "normal"
    ) -> None:
        style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
        self._drawn.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>')


def _round(step: float) -> float:
    """The next number that is 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(step, 1e-3)))
    return next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= step)


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def _first_ms(window: Window, part: float) -> float | None:
    """That of these turns which so many were not slower than; None if there were none."""
    found = sorted(took for sample in window for took in sample.first_s)
    return 1000 * found[min(len(found) - 1, int(part * len(found)))] if found else None
