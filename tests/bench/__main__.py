"""`nox -s bench`: what the engine costs beside hand-written code, interleaved in one run on this machine.

Ratios are what counts: the same machine, the same minute. `--short` runs a tenth of it and fails only on lost or
doubled items, never on time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from . import inprocess

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    rounds = 1 if short else ROUNDS
    for stages in (3, 10):
        items = (2_000 if short else 40_000) // stages
        compare(f"{stages} pass-through stages, items per CPU second", inprocess.workloads(stages), items, rounds)
    compare(
        "a turn of one item through 3 stages, turns per CPU second", inprocess.turns(), 100 if short else 2_000, rounds
    )
    print("import ezflow: " + ", ".join(f"{seconds:.3f} s" for seconds in imports(rounds)))


def compare(title: str, workloads: dict[str, Callable[[int], int]], items: int, rounds: int) -> None:
    """Interleaved rounds, medians, and each one's ratio to the first."""
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for _ in range(rounds):
        for name, work in workloads.items():
            begun = time.process_time()  # CPU: other work on the machine does not count
            done = work(items)
            if done != items:
                sys.exit(f"{name}: {items} items went in, {done} came out")
            rates[name].append(items / (time.process_time() - begun))
    print(f"\n{title} (median of {rounds})")
    first = statistics.median(next(iter(rates.values())))
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"  {name:<44}{rate:>12,.0f}   x {rate / first:.2f}")


def imports(rounds: int) -> list[float]:
    """Seconds of `import ezflow` in a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import ezflow; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(rounds)
    ]
    return [min(runs), statistics.median(runs)]


if __name__ == "__main__":
    main()
