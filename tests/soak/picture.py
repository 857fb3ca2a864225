"""What a soak has found: a table, and the samples as one picture, SVG, a panel for each thing that must not grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from xml.sax.saxutils import escape

from .judge import Sample, Verdict
from .users import Load

__all__ = ["svg", "table"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP = 860, 84, 64, 12, 26
LINE, INK, GRID = "#2563eb", "#1e293b", "#cbd5e1"
FAULTS = {"dead": "#fecaca", "frozen": "#bfdbfe", "nonsense": "#fde68a"}
PANELS: tuple[tuple[str, Callable[[Sample], float | None]], ...] = (
    ("Resident memory, MiB", lambda one: one.resident_kib / 1024),
    ("Descriptors", lambda one: one.descriptors),
    ("Tasks", lambda one: one.tasks),
    ("Threads", lambda one: one.threads),
    ("Sessions", lambda one: one.sessions),
    ("Event-loop lag, most in a second, ms", lambda one: 1000 * one.lag_s),
    ("First text of an undisturbed turn, ms", lambda one: one.first_text_s and 1000 * one.first_text_s),
)


def table(load: Load, verdicts: Sequence[Verdict]) -> str:
    """In Markdown: what was done, what was wrong, what has grown."""
    kinds = [kind for kind, _, _ in load.backends.times]
    done = {**load.done, **{f"backends {kind}": kinds.count(kind) for kind in FAULTS}, "turns in all": load.turns}
    lines = ["| done | times |", "|---|---|", *(f"| {what} | {times} |" for what, times in sorted(done.items()))]
    lines += ["", "| must not grow | first quarter | last quarter | bound | |", "|---|---|---|---|---|"]
    for one in verdicts:
        lines.append(
            f"| {one.what} | {one.first:.1f} | {one.last:.1f} | {one.bound:.1f} | {'holds' if one.holds else 'GROWS'} |"
        )
    wrong = [f"- {what}: {times} times" for what, times in sorted(load.faults.items())]
    return "\n".join([*lines, "", *(wrong or ["Nothing was lost, doubled, mixed or left unanswered."])])


def svg(samples: Sequence[Sample], begun: float, faults: Sequence[tuple[str, float, float]]) -> str:
    """The picture. Times of faults are of the clock by which the samples' time began at `begun`."""
    last_s = max(1.0, samples[-1].at_s)

    def x(at_s: float) -> float:
        return LEFT + max(0.0, min(1.0, at_s / last_s)) * (WIDTH - LEFT - RIGHT)

    drawn, y = [], 6
    for title, of in PANELS:
        points = [(one.at_s, value) for one in samples if (value := of(one)) is not None]
        most = 1.15 * max([1.0, *(value for _, value in points)])
        drawn.append(_text(LEFT, y + 14, title, "start"))
        top = y + TOP
        for kind, begin, end in faults:
            left, right = x(begin - begun), x(min(end, inf) - begun)
            drawn.append(
                f'<rect x="{left:.1f}" y="{top}" width="{max(0.6, right - left):.1f}" height="{HEIGHT}"'
                f' fill="{FAULTS[kind]}"/>'
            )
        for level in (0.0, most):
            at = top + HEIGHT * (1 - level / most)
            drawn.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
            drawn.append(_text(LEFT - 6, at + 4, f"{level:.0f}", "end"))
        path = " ".join(f"{x(at_s):.1f},{top + HEIGHT * (1 - value / most):.1f}" for at_s, value in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.2"/>')
        y = top + HEIGHT + 8
    legend = "backends dead: red · frozen: blue · talking nonsense: yellow"
    drawn.append(_text(LEFT, y + 10, f"0 to {last_s:.0f} s, {samples[-1].turns} turns · {legend}", "start"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 22}" font-family="sans-serif" role="img"'
    paper = f'<rect width="{WIDTH}" height="{y + 22}" fill="#ffffff"/>'
    title = "<title>A server under mixed load with faults</title>"
    return "\n".join([f'{head} font-size="12" fill="{INK}">', title, paper, *drawn, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
