"""Is it flat? What was measured each second, and what of it must not grow.

The first quarter after the warm-up is compared with the last, median with median: single peaks do not count, a slope
does. Memory may differ by NOISE_KIB (the allocator's arenas fill in the first minutes: 3 MiB were seen between the
quarters of a first minute) and by LEAK_KIB for each turn between the two. In a minute that shows a leak of some
16 KiB a turn (the sound of one sentence has 40 KB), in 30 minutes one of 1 KiB: less than the history of a turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import attrs

__all__ = ["Sample", "Verdict", "at_the_end", "flat"]

NOISE_KIB = 6144
LEAK_KIB = 0.25
NOISE_MS = 40.0  # a machine that others work on too


@attrs.frozen
class Sample:
    """A server at a moment. `first_text_s` is that of an undisturbed turn which ended in this second, if one did."""

    at_s: float
    turns: int
    resident_kib: int
    descriptors: int
    threads: int
    tasks: int
    sessions: int
    idle_connections: int
    lag_s: float
    first_text_s: float | None = None


@attrs.frozen
class Verdict:
    """`last` may be `bound` at most."""

    what: str
    first: float
    last: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.last <= self.bound


def flat(samples: Sequence[Sample], warm_s: float) -> list[Verdict]:
    """What of the run's last quarter exceeds that of its first by more than chance."""
    warm = [sample for sample in samples if sample.at_s >= warm_s]
    quarter = len(warm) // 4
    if not quarter:
        raise ValueError(f"{len(warm)} samples after the warm-up are too few to judge by")
    early, late = warm[:quarter], warm[-quarter:]

    def verdict(what: str, of: Callable[[Sample], float | None], bound: Callable[[float], float]) -> Verdict:
        first, last = (_median(map(of, part), what) for part in (early, late))
        return Verdict(what, first, last, bound(first))

    turns = _median((one.turns for one in late), "turns") - _median((one.turns for one in early), "turns")
    return [
        verdict("memory, KiB", lambda one: one.resident_kib, lambda first: first + NOISE_KIB + LEAK_KIB * turns),
        # What is open varies with what the users happen to do; what leaks grows without end.
        verdict("descriptors", lambda one: one.descriptors, lambda first: 1.25 * first + 10),
        verdict("tasks", lambda one: one.tasks, lambda first: 1.25 * first + 20),
        verdict("threads", lambda one: one.threads, lambda first: first + 4),
        verdict("sessions", lambda one: one.sessions, lambda first: 1.25 * first + 5),
        verdict("event-loop lag, ms", lambda one: 1000 * one.lag_s, lambda first: 1.5 * first + NOISE_MS),
        verdict(
            "first text, ms",
            lambda one: None if one.first_text_s is None else 1000 * one.first_text_s,
            lambda first: 1.5 * first + NOISE_MS,
        ),
    ]


def at_the_end(before: Sample, after: Sample) -> list[Verdict]:
    """What is left when all clients have gone. A model server's connection, kept for the next turn, does not count."""
    held = [one.descriptors - one.idle_connections for one in (before, after)]
    return [
        Verdict("sessions left", before.sessions, after.sessions, 0),
        Verdict("descriptors left", held[0], held[1], held[0]),
        Verdict("tasks left", before.tasks, after.tasks, before.tasks),
        Verdict("threads left", before.threads, after.threads, before.threads),
    ]


def _median(values: object, what: str) -> float:
    found = [value for value in values if value is not None]  # type: ignore[attr-defined]
    if not found:
        raise ValueError(f"of {what} a quarter has no value: it cannot be judged")
    return float(statistics.median(found))
