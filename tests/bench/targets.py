"""What the benchmark is to show: each target, what must be, what is reached for, and what was measured.

A target that is a ratio to something measured here is compared round by round. The peers (Pipecat, LCEL, Haystack) are
not run here. What they cost was measured once on another machine, beside the same hand-written code: so they are known
as a multiple of that, and that multiple of what the hand-written code takes here stands for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from .figures import Figures
from .growth import HOP, ITEM, ITEM_COUNTS, SESSION_COUNTS, TURN
from .inprocess import ITEMS
from .served.idle import IDLE, IDLE_CPU
from .start import IMPORT, READY

__all__ = ["CPU_OF_PEERS", "ITEMS_OF_PEERS", "Row", "rows"]

# Items/s through 3 stages, over that of drained trio channels in the same run (482 k).
ITEMS_OF_PEERS = {"Pipecat": 17 / 482, "LCEL, `transform`": 728 / 482, "LCEL, async": 28 / 482, "Haystack": 3.1 / 482}
# CPU ms a turn at 100 sessions, over that of FastAPI + aiohttp by hand (8.6).
CPU_OF_PEERS = {"Pipecat": 23 / 8.6, "Pipecat, own Ollama": 49 / 8.6, "LCEL": 11.9 / 8.6, "Haystack": 10.5 / 8.6}
# Turns/s of Pipecat at 100 and 300 sessions, over those of FastAPI + aiohttp by hand (104 and 123).
TURNS_OF_PIPECAT = {"100 sessions": 43 / 104, "300 sessions": 40 / 123}

LIMIT_ADDED_MS, LIMIT_P99_MS = 5.0, 117.0
FLAT = 0.10


@attrs.frozen
class Row:
    """A line of the table; `met` and `reached` are None where there is nothing to compare."""

    target: str
    must: str
    reach: str
    measured: str
    met: bool | None
    reached: bool | None = None


def rows(figures: Figures) -> list[Row]:
    """A line for each target of which something was measured."""
    return [row for part in (_items, _hop, _turns, _interrupts, _idle, _start, _growth) for row in part(figures)]


def _items(figures: Figures) -> Iterator[Row]:
    measure = ITEMS.format(3)
    for subject in ("functions", "generators"):
        rate = figures.median(measure, subject)
        drained, queue = (figures.ratio(measure, subject, other) for other in ("drained", "asyncio"))
        if rate is None or drained is None or queue is None:
            continue
        target = f"3 stages in process, {subject[:-1]} modules, items/s"
        yield Row(f"{target}, × drained trio", "≥ 0.9", "", f"{drained:.2f} ({_thousands(rate)})", drained >= 0.9)
        yield Row(f"{target}, × asyncio.Queue", "≥ 1.5", "", f"{queue:.2f}", queue >= 1.5)
        pipecat = drained / ITEMS_OF_PEERS["Pipecat"]
        yield Row(f"{target}, × Pipecat (quoted)", "≥ 20", "", f"{pipecat:.1f}", pipecat >= 20)
        if subject == "functions":
            lcel = drained / ITEMS_OF_PEERS["LCEL, `transform`"]
            yield Row(
                "functions side by side, fused",
                "",
                "≥ 1 M items/s, ≥ 1 × LCEL's `transform` (quoted)",
                f"{_thousands(rate)}, {lcel:.2f}",
                None,
                rate >= 1e6 and lcel >= 1,
            )


def _hop(figures: Figures) -> Iterator[Row]:
    for subject in ("functions", "generators"):
        ratio, us = figures.ratio(HOP, subject, "plain"), figures.median(HOP, subject)
        if ratio is not None:
            target = f"one item, latency a hop, {subject[:-1]} modules, × plain trio channel"
            yield Row(target, "≤ 1.1", "", f"{ratio:.2f} ({us:.1f} µs)", ratio <= 1.1)


def _turns(figures: Figures) -> Iterator[Row]:
    cpu = "CPU ms a turn, 100 sessions"
    if (mine := figures.median(cpu, "ezflow")) is not None:
        target = "served turn, CPU at 100 sessions"
        yield _at_most(figures, cpu, f"{target}, × quart + c by hand", "quart", must=1.0, shown=f" ({mine:.1f} ms)")
        yield _at_most(figures, cpu, f"{target}, × FastAPI + aiohttp by hand", "fastapi", reach=1.0)
        ratio = figures.ratio(cpu, "ezflow", "fastapi")
        for peer, must in (("Pipecat", 0.5), ("LCEL", 1.0), ("Haystack", 1.0)):
            if ratio is not None:
                quoted = ratio / CPU_OF_PEERS[peer]
                yield Row(f"{target}, × {peer} (quoted)", f"≤ {must}", "", f"{quoted:.2f}", quoted <= must)
    for sessions, pipecat in TURNS_OF_PIPECAT.items():
        measure = f"turns/s, {sessions}"
        if (rate := figures.median(measure, "ezflow")) is None:
            continue
        errors = sum(figures.values[f"errors, {sessions}"]["ezflow"])
        ratio = figures.ratio(measure, "ezflow", "fastapi")
        if ratio is not None:
            quoted = ratio / pipecat
            said = f"{quoted:.2f}, {errors:.0f} errors"
            met = quoted >= 2 and not errors
            yield Row(f"turns/s at {sessions}, × Pipecat (quoted)", "≥ 2, no error", "", said, met)
            said = f"{ratio:.2f} ({rate:.0f} a second)"
            yield Row(f"turns/s at {sessions}, × FastAPI + aiohttp by hand", "", "≥ 1.0", said, None, ratio >= 1)
    for load in ("1 session", "20 sessions", "paced", "1 session, full stops", "20 sessions, full stops"):
        yield from _added(figures, load)


def _added(figures: Figures, load: str) -> Iterator[Row]:
    added, late = f"ms added to first sound, {load}", f"p99 of first sound, ms, {load}"
    ours, p99 = figures.median(added, "ezflow"), figures.median(late, "ezflow")
    if ours is None or p99 is None:
        return
    where = "paced, 300 sessions at 31 turns/s" if load == "paced" else load
    others = [
        f"{name} {value:.1f}"
        for name, subject in (("quart + c", "quart"), ("FastAPI", "fastapi"))
        if (value := figures.median(added, subject)) is not None
    ]
    said = f"{ours:.1f} ms ({', '.join(others)})"
    yield Row(f"added to first sound, {where}", "≤ 5 ms", "≤ 3 ms", said, ours <= LIMIT_ADDED_MS, ours <= 3)
    others = [
        f"{name} {value:.0f}"
        for name, subject in (("quart + c", "quart"), ("FastAPI", "fastapi"))
        if (value := figures.median(late, subject)) is not None
    ]
    said = f"{p99:.0f} ms ({', '.join(others)})"
    yield Row(f"first sound, 99 of 100, {where}", "≤ 117 ms", "", said, p99 <= LIMIT_P99_MS)


def _interrupts(figures: Figures) -> Iterator[Row]:
    for how, must, words in (("gone", 10.0, "the client leaves"), ("http", 12.0, "POST /interrupt")):
        p99 = figures.median(f"interrupts, {how}: p99 ms", "ezflow")
        p50 = figures.median(f"interrupts, {how}: p50 ms", "ezflow")
        if p99 is None or p50 is None:
            continue
        theirs = figures.median(f"interrupts, {how}: p99 ms", "fastapi")
        missed = sum(figures.values[f"interrupts, {how}: missed"]["ezflow"])
        said = f"{p50:.1f} / {p99:.1f} ms, {missed:.0f} missed"
        said += "" if theirs is None else f" (FastAPI {theirs:.1f})"
        yield Row(
            f"interrupt → backends closed, {words}: p50 / p99",
            f"p99 ≤ {must:.0f} ms, none missed",
            "≤ FastAPI by hand",
            said,
            p99 <= must and not missed,
            None if theirs is None else p99 <= theirs,
        )
    left = "left after the interrupts: answers under way", "left after the interrupts: more descriptors"
    if figures.measured(left[0]):
        worst = [max(figures.values[measure]["ezflow"]) for measure in left]
        said = f"{worst[0]:.0f} answers, {worst[1]:.0f} files"
        yield Row("left after 200 of each", "nothing", "", said, not any(worst))


def _idle(figures: Figures) -> Iterator[Row]:
    measure = f"{IDLE['ws']}, 1000"
    if (kib := figures.median(measure, "ezflow")) is not None:
        yield _at_most(figures, measure, "idle WebSocket at 1000, KiB, × quart by hand", "quart", must=1.2)
        yield Row("idle WebSocket at 1000", "", "≤ 36 KiB", f"{kib:.0f} KiB", None, kib <= 36)
    if (share := figures.median(f"{IDLE_CPU}, 1000", "ezflow")) is not None:
        yield Row("CPU of 1000 idle WebSockets", "0 % of a core", "", f"{share:.1f} %", share < 0.5)
    if (held := figures.median("WebSockets held of 5000", "ezflow")) is not None:
        cpu = figures.median(f"{IDLE_CPU}, 5000", "ezflow")
        added = figures.median("ms added to first sound beside 5000 WebSockets", "ezflow")
        said = f"{held:.0f} held, {cpu:.1f} % CPU; a turn beside them: {added or 0:.1f} ms added"
        yield Row("5000 WebSockets on one process", "held", "", said, held == 5000)


def _start(figures: Figures) -> Iterator[Row]:
    if (seconds := figures.median(IMPORT, "ezflow")) is not None:
        trio_s = figures.median(IMPORT, "trio")
        said = f"{seconds:.2f} s (trio alone {trio_s:.2f})"
        yield Row("`import ezflow`", "≤ 0.25 s", "≤ 0.15 s", said, seconds <= 0.25, seconds <= 0.15)
    if (seconds := figures.median(READY, "ezflow")) is not None:
        yield Row("a flow of fakes, served until ready", "≤ 1 s", "", f"{seconds:.2f} s", seconds <= 1)


def _growth(figures: Figures) -> Iterator[Row]:
    per_turn = [figures.median(TURN, str(count)) for count in SESSION_COUNTS]
    if all(per_turn):
        yield _flat("cost a turn, 1 to 50 sessions", SESSION_COUNTS, per_turn)
    per_item = [figures.median(ITEM, str(count)) for count in ITEM_COUNTS]
    if all(per_item):
        yield _flat("cost an item, 10 to 10 000 in a turn", ITEM_COUNTS, per_item)


def _flat(target: str, counts: tuple[int, ...], found: list[float | None]) -> Row:
    us = [value for value in found if value is not None]
    spread = max(us) / min(us)
    said = ", ".join(f"{count}: {value:.1f} µs" for count, value in zip(counts, us, strict=True))
    return Row(target, "flat, ±10 %", "", f"{said}; × {spread:.2f}", spread <= (1 + FLAT) / (1 - FLAT))


def _at_most(
    figures: Figures, measure: str, target: str, other: str, *, must: float = 0, reach: float = 0, shown: str = ""
) -> Row:
    ratio = figures.ratio(measure, "ezflow", other)
    judge: Callable[[float], bool | None] = lambda limit: None if ratio is None or not limit else ratio <= limit  # noqa: E731
    said = "–" if ratio is None else f"{ratio:.2f}{shown}"
    return Row(target, f"≤ {must}" if must else "", f"≤ {reach}" if reach else "", said, judge(must), judge(reach))


def _thousands(rate: float) -> str:
    return f"{rate / 1000:,.0f} k/s"
