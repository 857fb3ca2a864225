"""Mixed load with faults against a real server, for as long as is asked for: does anything grow?

`python -m tests.soak --minutes 30` prints what was done, what was wrong and what has grown, and writes it and a
plot to .artifacts/soak/. It ends with 1 if anything was lost, doubled, mixed, left behind, or has grown.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import trio

from ..bench.served.processes import ROOT, cores, running, settle
from .actions import ACTIONS, live_turns, voice_turns, whole_turns
from .backends import Backends
from .judge import WARM_S, Verdict, at_the_end, flat
from .measure import Watcher
from .picture import svg, table
from .users import Load, User
from .wire import Http

SETTLE_S = 30.0
QUIET_S = 4.0  # on the average, between two faults of the backends


async def soak(pid: int, load: Load, users: int, minutes: float) -> tuple[Watcher, float, list[Verdict]]:
    """What was seen, after how many seconds the server counts as warm, and how it is judged."""
    async with aclosing(Watcher(pid, load, await Http.open(load.port))) as watcher:
        # What the first turn alone has to make belongs to a server at rest.
        first = User(load, users + 1)
        for action in (whole_turns, voice_turns, live_turns):
            await first.do(action)
        before = await watcher.settled(None, SETTLE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.watch)
            await _use(load, users, minutes)
            watcher.over = True
        after = await watcher.settled(before, SETTLE_S)
    watcher.samples = [sample for sample in watcher.samples if sample.at_s <= 60 * minutes]
    warm_s = min(WARM_S, 15 * minutes)
    return watcher, warm_s, flat(watcher.samples, warm_s) + at_the_end(before, after)


async def _use(load: Load, users: int, minutes: float) -> None:
    """All users, and the faults of their backends, for so long, and until each has ended what it was doing."""
    async with trio.open_nursery() as nursery:
        for number in range(users):
            nursery.start_soon(User(load, number).live, ACTIONS)
        with trio.move_on_after(60 * minutes):
            while True:
                await trio.sleep(load.rng.uniform(0.5, 1.5) * QUIET_S)
                with trio.CancelScope(shield=True):  # nobody is left dead or frozen
                    await load.backends.misbehave(load.rng)
        load.over = True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leak", type=int, default=0, help="KiB that each sentence loses, to see the check fail")
    parser.add_argument("--to", type=Path, default=ROOT / ".artifacts" / "soak", help="the folder of the results")
    asked = parser.parse_args()
    core, others = cores()
    settle(others)
    asked.to.mkdir(parents=True, exist_ok=True)
    backends = Backends(others)
    try:
        with (
            (asked.to / "server.log").open("w") as errors,
            TemporaryDirectory(prefix="ezflow-soak") as folder,
            running(
                *("server", core, str(backends.port), str(asked.leak), f"{folder}/history.db"),
                package="tests.soak",
                errors=errors,
            ) as (pid, port),
        ):
            load = Load(port, backends, random.Random(asked.seed))
            watcher, warm_s, verdicts = trio.run(soak, pid, load, asked.users, asked.minutes)
    finally:
        backends.close()
    told = table(load, verdicts)
    print(told)
    (asked.to / "soak.md").write_text(told + "\n")
    faults = [(kind, begin - watcher.begun, end - watcher.begun) for kind, begin, end in backends.times]
    (asked.to / "soak.svg").write_text(svg(watcher.samples, warm_s, verdicts, faults))
    seen = {"seed": asked.seed, "warm_s": warm_s, "faults": faults, "samples": watcher.samples}
    (asked.to / "samples.json").write_text(json.dumps(seen, default=attrs.asdict))
    return 1 if load.faults or not all(verdict.holds for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
