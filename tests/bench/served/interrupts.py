"""From an interrupt until the model servers see their connections closed; and what is left then."""

from __future__ import annotations

import time
from typing import Any

from ..figures import Figures, part
from .processes import descriptors
from .servers import PATIENCE_S, Bench, bench, present

__all__ = ["measure"]

NATURAL_S = 0.01  # an answer that ends so soon after an interrupt would have ended anyhow
MISSED_S = 0.1  # one that goes on for so long, and to its end, has not been interrupted


def measure(figures: Figures, *, short: bool) -> None:
    """One round: from an interrupt until the stubs have seen all connections of its turn closed."""
    for name in ["ezflow"] if short else present():
        with bench(figures, name) as there:
            there.load(name, "before its interrupts", {"kind": "closed", "sessions": 20, "for_s": 0.7, "warm_s": 0.7})
            before = _files(there, name)
            for how in ("gone", "http"):
                there.log()
                plan = {"kind": how, "sessions": 20, "times": 30 if short else 200, "seed": 1}
                found = there.load(name, f"interrupts ({how})", plan)
                _note_interrupts(figures, name, how, found, there)
            _note_leftovers(figures, name, there, before)


def _note_interrupts(figures: Figures, name: str, how: str, found: dict[str, Any], there: Bench) -> None:
    answers: dict[str, list[list[Any]]] = {}
    for answer in there.settled()["answers"]:
        answers.setdefault(answer[0], []).append(answer)
    waits, missed = [], 0
    for interrupt in found["interrupts"]:
        lasted = [
            (ended - interrupt["when"], whole)
            for _, _, _, ended, whole in answers.get(interrupt["marker"], [])
            if ended > interrupt["when"] + (NATURAL_S if whole else 0.0)
        ]
        missed += any(whole and seconds > MISSED_S for seconds, whole in lasted)
        waits += [max(lasted)[0]] if lasted else []
    figures.add(f"interrupts, {how}: missed", name, missed)
    if waits:
        figures.add(f"interrupts, {how}: p50 ms", name, 1e3 * part(waits, 0.5))
        figures.add(f"interrupts, {how}: p99 ms", name, 1e3 * part(waits, 0.99))
    if answered := [each["answered"] - each["when"] for each in found["interrupts"] if each["answered"]]:
        figures.add(f"interrupts, {how}: p50 ms until its answer", name, 1e3 * part(answered, 0.5))


def _note_leftovers(figures: Figures, name: str, there: Bench, before: int) -> None:
    active = there.settled()["active"]
    end = time.monotonic() + PATIENCE_S
    while (more := _files(there, name) - before) > 0 and time.monotonic() < end:
        time.sleep(0.05)
    figures.add("left after the interrupts: answers under way", name, active)
    figures.add("left after the interrupts: more descriptors", name, max(0, more))
    if name == "ezflow" and (active or more > 0):
        figures.wrong.append(f"{name}: after the interrupts {active} answers are under way, {more} more files are open")


def _files(there: Bench, name: str) -> int:
    """How many files a server has open, but for the connections to its model servers that it keeps for further use."""
    return descriptors(there.servers[name][0]) - int(there.settled()["open"])
