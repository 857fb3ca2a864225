"""The figures as Markdown: the targets, and beside whom each figure was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .figures import Figures
from .growth import HOP, TURN
from .inprocess import DEPTHS, ITEMS
from .inprocess import TITLES as WAYS
from .served.idle import IDLE
from .served.servers import SERVERS
from .served.servers import TITLES as SERVER_TITLES
from .targets import Row, rows

__all__ = ["markdown"]

LOADS = ("1 session", "20 sessions", "100 sessions", "300 sessions", "paced")
QUOTED = (
    "Pipecat, LCEL and Haystack are quoted: what they took elsewhere, as a multiple of the hand-written code that was "
    "measured beside them (drained trio channels; FastAPI + aiohttp), times what that code takes here."
)


def markdown(figures: Figures) -> str:
    """All of it."""
    parts = [_targets(rows(figures))]
    parts += [section(figures) for section in (_items, _turn, _served, _interrupts, _idle)]
    return "\n\n".join(part for part in [*parts, *figures.notes] if part) + "\n"


def _targets(found: Iterable[Row]) -> str:
    lines = [(row.target, row.must, row.reach, row.measured, _verdict(row)) for row in found]
    return _table(("target", "must", "reach for", "measured", "met"), lines) + f"\n\n{QUOTED}" if lines else ""


def _verdict(row: Row) -> str:
    said = [{True: "yes", False: "**no**"}[row.met]] if row.met is not None else []
    if row.reached is not None:
        said.append("reached" if row.reached else "not reached")
    return ", ".join(said)


def _items(figures: Figures) -> str:
    lines = []
    for name, title in WAYS.items():
        cells = [title]
        for depth in DEPTHS:
            measure = ITEMS.format(depth)
            rate, ratio = figures.median(measure, name), figures.ratio(measure, name, "drained")
            cells += ["", ""] if rate is None or ratio is None else [f"{rate / 1000:,.0f} k", f"{ratio:.2f}"]
        hop = figures.median(HOP, name)
        lines.append((*cells, "" if hop is None else f"{hop:.1f}"))
    heads = ("items per second of CPU time", "3 stages", "×", "10 stages", "×", "µs a hop of one item")
    return _table(heads, lines) if figures.measured(ITEMS.format(3)) else ""


def _turn(figures: Figures) -> str:
    own, bare = figures.median(TURN, "1"), figures.median(TURN, "by hand")
    if own is None or bare is None:
        return ""
    return (
        f"A turn of one item through 3 stages (session, nursery, channels, events, history) takes {own:.0f} µs; three "
        f"bare tasks and their channels by hand {bare:.0f} µs."
    )


def _served(figures: Figures) -> str:
    if not figures.measured("turns/s"):
        return ""
    heads = ["", *LOADS[:2], "paced", "turns/s, 100 / 300", "CPU ms a turn, 1 / 20 / 100 / 300"]
    lines = []
    for name in SERVERS:
        cells = [SERVER_TITLES[name]]
        for load in ("1 session", "20 sessions", "paced"):
            cells.append(
                " / ".join(
                    _number(figures, measure, name)
                    for measure in (
                        f"ms added to first text, {load}",
                        f"ms added to first sound, {load}",
                        f"p99 of first sound, ms, {load}",
                    )
                )
            )
        cells.append(" / ".join(_number(figures, f"turns/s, {load}", name, 0) for load in LOADS[2:4]))
        cells.append(" / ".join(_number(figures, f"CPU ms a turn, {load}", name) for load in LOADS[:4]))
        lines.append(cells)
    explained = "Under 1, 20 and paced: ms added to first text / to first sound / 99 of 100 first sounds after ms."
    return f"{_table(heads, lines)}\n\n{explained}"


def _interrupts(figures: Figures) -> str:
    if not figures.measured("interrupts"):
        return ""
    heads = ("interrupt → backends closed, ms", "the client leaves, p50 / p99", "POST /interrupt, p50 / p99", "missed")
    lines = []
    for name in SERVERS:
        cells = [SERVER_TITLES[name]]
        for how in ("gone", "http"):
            cells.append(
                " / ".join(_number(figures, f"interrupts, {how}: {share} ms", name) for share in ("p50", "p99"))
            )
        missed = [_number(figures, f"interrupts, {how}: missed", name, 0) for how in ("gone", "http")]
        lines.append((*cells, " / ".join(missed)))
    return _table(heads, lines)


def _idle(figures: Figures) -> str:
    measured = {what: f"{title}, 1000" for what, title in IDLE.items()}
    if not figures.measured(measured["ws"]):
        return ""
    lines = [(SERVER_TITLES[name], *(_number(figures, measured[what], name, 0) for what in IDLE)) for name in SERVERS]
    return _table(("at 1000", *IDLE.values()), lines)


def _number(figures: Figures, measure: str, name: str, digits: int = 1) -> str:
    value = figures.median(measure, name)
    return "–" if value is None else f"{value:.{digits}f}"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    all_lines = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in all_lines)
