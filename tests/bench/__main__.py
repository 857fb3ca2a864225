"""`python -m tests.bench`: what ezflow costs beside hand-written code, interleaved in one run on this machine.

Ratios are what counts: the same machine, the same minute. The exit code is 1 for items that were lost, doubled or
another user's, and for what is left behind; it never depends on time. `--short` takes under two minutes.

Further benchmarks are programs of their own: `tests.bench.http_clients` (what reading a model server's stream costs),
`tests.bench.interrupts` (each preset's interrupt), `tests.bench.voice` (the embedded models, from speech to sound).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import growth, inprocess, start
from .figures import Figures
from .plot import svg
from .report import markdown
from .served import idle, interrupts, turns
from .served.processes import busy_s, cores
from .served.servers import present

# By name; those of `ONCE` measure memory or count, which hardly differ from round to round.
WORKLOADS: dict[str, Callable[..., None]] = {
    "items": inprocess.measure,
    "growth": growth.measure,
    "start": start.measure,
    "served": turns.measure,
    "interrupts": interrupts.measure,
    "idle": idle.measure,
}
ONCE = {"idle"}
ROUNDS = 5


def main() -> None:
    options = _options()
    rounds = 1 if options.short else options.rounds
    figures = Figures(calm_s=options.calm)
    begun, busy, used = time.monotonic(), busy_s(), _used_s()
    for number in range(rounds):
        for name in options.only or WORKLOADS:
            if number == 0 or name not in ONCE:
                _say(f"round {number + 1} of {rounds}: {name}")
                WORKLOADS[name](figures, short=options.short)
                if options.json:  # what there is so far, should it be interrupted
                    options.json.write_text(json.dumps(figures.as_json(), indent=1) + "\n")
    seconds = time.monotonic() - begun
    others = max(0.0, (busy_s() - busy) - (_used_s() - used)) / seconds
    figures.notes.append(_conditions(rounds, seconds, others))
    if "fastapi" not in present():
        figures.notes.append("FastAPI, uvicorn, uvloop and aiohttp are not installed (extra `bench`): left out.")
    if options.json:
        options.json.write_text(json.dumps(figures.as_json(), indent=1) + "\n")
    if options.plot:
        options.plot.write_text(svg(figures))
    print(markdown(figures))
    if figures.wrong:
        sys.exit("\n".join(figures.wrong))


def _options() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--short", action="store_true", help="a little of everything, once: is it right?")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"interleaved rounds (default: {ROUNDS})")
    parser.add_argument("--calm", type=float, default=0.0, metavar="SECONDS", help="wait so long for a calm machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them")
    return parser.parse_args()


def _conditions(rounds: int, seconds: float, others: float) -> str:
    server, rest = cores()
    shared = " (shared: there is no other)" if server == rest else ""
    return (
        f"Medians of {rounds} interleaved rounds, {seconds / 60:.0f} minutes; Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, server on core {server}{shared}, stubs and load generator on {rest}. Other work on "
        f"the machine took {others:.2f} of a core meanwhile."
    )


def _used_s() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
