"""Is it flat? What was measured each second, and what of it must not grow.

The first quarter after the warm-up is compared with the last: single peaks do not count, a slope does. Others who
work on the machine come and go, so latencies are compared by their lower quartiles and with much room; the CPU time of
a turn, which is hardly theirs, closely.

Memory may differ by NOISE_KIB, and by LEAK_KIB for each turn between the two. It grows at first: the allocator finds
its size, and garbage in cycles gathers until it is collected (25 MiB were seen in the first 3 000 turns, and then
nothing; what is in use at rest had grown by one). In a minute that shows a leak of some 20 KiB a turn (the sound of
one sentence has 40 KB), in 30 minutes one of 1 to 2 KiB: less than the history of a turn.
Sharper is what is left when all have gone and the garbage is collected, in blocks of Python's allocator: half a block
a turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

__all__ = ["MEMORY", "WARM_S", "Sample", "Verdict", "at_the_end", "flat", "quarters"]

MEMORY = "memory, KiB"
WARM_S = 60.0  # or a quarter of the run, if that is less
NOISE_KIB = 16_384
LEAK_KIB = 0.25
# What is made once: stages and routes when they are first used, connections that are kept, trio's stale deadlines, the
# source lines that tracebacks have shown. 3 000 to 18 000 were seen, the more the busier the machine.
NOISE_BLOCKS = 30_000
LEAK_BLOCKS = 0.5
NOISE_MS = 250.0


@attrs.frozen
class Sample:
    """A server at a moment.

    `turns` were asked for until then, `results` had ended, by how. `first_s`: in the last second, from the request to
    the first text, of turns that no fault of a backend touched.
    """

    at_s: float
    turns: int
    resident_kib: int
    descriptors: int
    threads: int
    tasks: int
    blocks: int
    sessions: int
    running: int
    idle_connections: int
    cpu_s: float
    lag_s: float
    first_s: Sequence[float]
    results: Mapping[str, int]


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


def quarters(samples: Sequence[Sample], warm_s: float) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The first of those after the warm-up, and the last. Raises: ValueError if there are too few."""
    warm = [sample for sample in samples if sample.at_s >= warm_s]
    quarter = len(warm) // 4
    if not quarter:
        raise ValueError(f"{len(warm)} samples after the warm-up are too few to judge by")
    return warm[:quarter], warm[-quarter:]


def flat(samples: Sequence[Sample], warm_s: float) -> list[Verdict]:
    """What of the run's last quarter exceeds that of its first by more than chance."""
    early, late = quarters(samples, warm_s)

    def verdict(what: str, of: Callable[[Sequence[Sample]], float], bound: Callable[[float], float]) -> Verdict:
        first, last = of(early), of(late)
        return Verdict(what, first, last, bound(first))

    turns = _median(one.turns for one in late) - _median(one.turns for one in early)
    return [
        verdict(
            MEMORY,
            lambda part: _median(one.resident_kib for one in part),
            lambda first: first + NOISE_KIB + LEAK_KIB * turns,
        ),
        # What is open varies with what the users happen to do; what leaks grows without end.
        verdict("descriptors", lambda part: _median(one.descriptors for one in part), lambda first: 1.25 * first + 10),
        verdict("tasks", lambda part: _median(one.tasks for one in part), lambda first: 1.25 * first + 20),
        verdict("threads", lambda part: _median(one.threads for one in part), lambda first: first + 4),
        verdict("sessions", lambda part: _median(one.sessions for one in part), lambda first: 1.25 * first + 5),
        verdict("CPU time of a turn, ms", _cpu_ms, lambda first: 2 * first),
        verdict("event-loop lag, ms", lambda part: _low(one.lag_s for one in part), _slower),
        verdict("first text, ms", lambda part: _low(took for one in part for took in one.first_s), _slower),
    ]


def at_the_end(before: Sample, after: Sample) -> list[Verdict]:
    """What is left when all clients have gone. A model server's connection, kept for the next turn, does not count."""
    held = [one.descriptors - one.idle_connections for one in (before, after)]
    turns = after.turns - before.turns
    return [
        Verdict("sessions left", before.sessions, after.sessions, 0),
        Verdict("turns left", before.running, after.running, 0),
        Verdict("descriptors left", held[0], held[1], held[0]),
        Verdict("tasks left", before.tasks, after.tasks, before.tasks),
        Verdict("threads left", before.threads, after.threads, before.threads),
        Verdict("blocks left", before.blocks, after.blocks, before.blocks + NOISE_BLOCKS + LEAK_BLOCKS * turns),
    ]


def _slower(first_ms: float) -> float:
    return 4 * first_ms + NOISE_MS


def _cpu_ms(part: Sequence[Sample]) -> float:
    return 1000 * (part[-1].cpu_s - part[0].cpu_s) / max(1, part[-1].turns - part[0].turns)


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def _low(values: Iterable[float]) -> float:
    """The lower quartile, in ms. Raises: ValueError if there are too few."""
    found = list(values)
    if len(found) < 2:
        raise ValueError("a quarter of the run has no turn that no fault touched: its latency cannot be judged")
    return 1000 * statistics.quantiles(found, n=4)[0]
