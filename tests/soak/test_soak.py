"""A minute of the soak finds nothing; and its judge does find what leaks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from mmap import mmap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest

from ezflow import Module, Turn, module, resource

from .judge import LEAK_BLOCKS, LEAK_KIB, MEMORY, NOISE_BLOCKS, WARM_S, Sample, at_the_end, flat
from .picture import svg

ROOT = Path(__file__).parents[2]


def calm(at_s: float) -> Sample:
    """A sample of a server that does not change but for chance."""
    jitter = int(at_s * 7919) % 11 - 5
    return Sample(
        at_s=at_s,
        turns=int(15 * at_s),
        resident_kib=100_000 + 100 * jitter,
        descriptors=60 + jitter,
        threads=4,
        tasks=200 + 3 * jitter,
        blocks=290_000 + 100 * jitter,
        sessions=30 + jitter,
        running=20 + jitter,
        idle_connections=10,
        cpu_s=0.2 * at_s + 0.01 * jitter,
        lag_s=0.005 + 0.0005 * jitter,
        first_s=[] if jitter == 5 else [0.020 + 0.001 * jitter] * 3 + [0.5],
        results={"done": int(12 * at_s), "error": int(3 * at_s)},
    )


def grown(seconds: int, by: Callable[[Sample], dict[str, Any]]) -> list[str]:
    """What is found to grow, where a second's sample differs by that from one of a calm server."""
    samples = [attrs.evolve(calm(at), **by(calm(at))) for at in range(seconds)]
    return [verdict.what for verdict in flat(samples, min(WARM_S, seconds / 4)) if not verdict.holds]


def test_a_calm_server_is_judged_flat() -> None:
    assert grown(60, lambda one: {}) == []


@pytest.mark.parametrize(
    ("what", "by"),
    [
        (MEMORY, lambda one: {"resident_kib": one.resident_kib + 64 * one.turns}),
        ("descriptors", lambda one: {"descriptors": one.descriptors + one.turns // 10}),
        ("tasks", lambda one: {"tasks": one.tasks + one.turns // 5}),
        ("threads", lambda one: {"threads": one.threads + one.turns // 50}),
        ("sessions", lambda one: {"sessions": one.sessions + one.turns // 10}),
        ("CPU time of a turn, ms", lambda one: {"cpu_s": one.cpu_s + 0.01 * one.at_s**2}),
        ("event-loop lag, ms", lambda one: {"lag_s": one.lag_s + 0.05 * max(0, one.at_s - 30)}),
        ("first text, ms", lambda one: {"first_s": [0.02 + 0.05 * max(0, one.at_s - 30)]}),
    ],
)
def test_a_minute_shows_what_grows(what: str, by: Callable[[Sample], dict[str, Any]]) -> None:
    assert grown(60, by) == [what]


def test_half_an_hour_shows_a_leak_of_two_kib_a_turn_and_no_less_than_its_bound() -> None:
    assert grown(1800, lambda one: {"resident_kib": one.resident_kib + 2 * one.turns}) == [MEMORY]
    assert grown(1800, lambda one: {"resident_kib": one.resident_kib + LEAK_KIB * one.turns}) == []


def test_a_run_too_short_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        flat([calm(0), calm(1)], 0.0)


def test_a_machine_that_gets_busy_for_a_while_does_not_make_a_server_slow() -> None:
    """Others take most of it, in half of the last quarter."""

    def slowed(one: Sample) -> dict[str, Any]:
        is_busy = one.at_s >= 45 and one.at_s % 4 >= 2
        return {"first_s": [took * 50 for took in one.first_s], "lag_s": 1.0} if is_busy else {}

    assert grown(60, slowed) == []


def test_what_is_left_at_the_end_is_named_but_for_connections_kept_for_the_next_turn() -> None:
    before = attrs.evolve(calm(0), sessions=0, running=0)
    kept = attrs.evolve(before, descriptors=before.descriptors + 5, idle_connections=before.idle_connections + 5)
    assert all(verdict.holds for verdict in at_the_end(before, kept))
    left = attrs.evolve(
        before, sessions=1, running=1, descriptors=before.descriptors + 1, tasks=before.tasks + 1, threads=5
    )
    found = [verdict.what for verdict in at_the_end(before, left) if not verdict.holds]
    assert found == ["sessions left", "turns left", "descriptors left", "tasks left", "threads left"]


def test_an_object_left_by_each_turn_is_found_however_small() -> None:
    before = attrs.evolve(calm(0), sessions=0, running=0)
    for each, found in [(LEAK_BLOCKS, []), (1.0, ["blocks left"])]:
        turns = 50_000
        after = attrs.evolve(before, turns=turns, blocks=before.blocks + NOISE_BLOCKS + int(each * turns))
        assert [verdict.what for verdict in at_the_end(before, after) if not verdict.holds] == found


@pytest.mark.parametrize("seconds", [60, 1800])
def test_the_picture_holds_all_panels_and_faults(seconds: int) -> None:
    samples = [calm(at) for at in range(seconds)]
    faults = [("dead", 10.0, 11.0), ("frozen", 20.0, 21.0), ("dead", 30.0, 31.0)]
    picture = ElementTree.fromstring(svg(samples, seconds / 4, flat(samples, seconds / 4), faults))
    words = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Resident memory, MiB", "Open descriptors", "killed: 2", "frozen: 1", "nonsense: 0", "p99"} <= set(words)


@module
class Keeps(Module[str, str]):
    """Keeps so much of each turn for ever."""

    kib: int = 0
    kept: list[mmap] = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.kept = []
        yield

    async def process(self, text: str, turn: Turn) -> str:
        if self.kib:
            self.kept.append(kept := mmap(-1, 1024 * self.kib))  # no room that the tests before have left
            kept.write(b"\1" * len(kept))
        return text


@pytest.mark.parametrize(("kib", "found"), [(0, []), (64, [MEMORY])])
async def test_a_module_that_keeps_some_kib_of_each_turn_is_found(kib: int, found: list[str]) -> None:
    samples = []
    async with Keeps(kib=kib).open() as service:
        for second in range(60):
            for _ in range(15):
                async with service.session("ann") as session, session.turn("hello") as turn:
                    async for _ in turn:
                        pass
            samples.append(attrs.evolve(calm(second), resident_kib=_resident_kib()))
    assert [verdict.what for verdict in flat(samples, 15.0) if not verdict.holds] == found


def test_a_minute_of_mixed_load_with_faults_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "soak.svg").read_text().startswith("<svg")


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
