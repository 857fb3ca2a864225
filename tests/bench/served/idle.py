"""What a session costs that waits: a turn whose model is silent, and an open WebSocket."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from ..figures import Figures, part
from .processes import ROOT, cores, cpu_s, resident_kib
from .servers import bench, present
from .work import IDEAL_SOUND_S

__all__ = ["IDLE", "IDLE_CPU", "measure"]

IDLE = {"stall": "KiB a stalled turn", "ws": "KiB a WebSocket"}
IDLE_CPU = "% of a core, idle WebSockets"


def measure(figures: Figures, *, short: bool) -> None:
    """What a session costs that waits: one whose model is silent, and an open WebSocket."""
    count, warm, for_s = (50, 10, 1.0) if short else (1000, 50, 20.0)
    for name in ["ezflow"] if short else present():
        for what in IDLE:
            with bench(figures, name) as there, Held(there.servers[name][1], what) as held:
                pid = there.servers[name][0]
                held.more(warm)
                time.sleep(0.5)
                before = resident_kib(pid)
                said = held.more(count)
                time.sleep(1.0)
                figures.add(f"{IDLE[what]}, {count}", name, (resident_kib(pid) - before) / count)
                if what == "ws":
                    figures.add(f"{IDLE_CPU}, {count}", name, _idle_share(pid, for_s))
                said = held.more(0)
                if said["failed"] or said["held"] != warm + count:
                    figures.wrong.append(f"{name}: of {warm + count} ({what}) {said['held']} are held")
                held.leave()
                if (left := there.settled()["active"]) and name == "ezflow":
                    figures.wrong.append(f"{name}: {left} answers are under way whose clients have left")
    if not short:
        _many(figures, 5000)


def _many(figures: Figures, count: int) -> None:
    with bench(figures, "ezflow") as there, Held(there.servers["ezflow"][1], "ws") as held:
        pid = there.servers["ezflow"][0]
        before = resident_kib(pid)
        held.more(count)
        figures.add(f"{IDLE_CPU}, {count}", "ezflow", _idle_share(pid, 20.0))
        figures.add(f"{IDLE['ws']}, {count}", "ezflow", (resident_kib(pid) - before) / count)
        said = held.more(0)
        figures.add(f"WebSockets held of {count}", "ezflow", said["held"])
        plan = {"kind": "closed", "sessions": 1, "for_s": 3.0, "warm_s": 0.7}
        found = there.load("ezflow", f"beside {count} WebSockets", plan)
        if found["first_sound"]:
            added_s = part(found["first_sound"], 0.5) - IDEAL_SOUND_S
            figures.add(f"ms added to first sound beside {count} WebSockets", "ezflow", 1e3 * added_s)


def _idle_share(pid: int, for_s: float) -> float:
    begun = cpu_s(pid)
    time.sleep(for_s)
    return 100 * (cpu_s(pid) - begun) / for_s


class Held:
    """A process that holds clients."""

    def __init__(self, port: int, what: str) -> None:
        command = [sys.executable, "-m", "tests.bench.served.hold", cores()[1], str(port), what]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def more(self, count: int) -> dict[str, int]:
        """Open so many more (0: just say); gives how many are held, and how many failed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{count}\n")
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    def __enter__(self) -> Held:
        return self

    def leave(self) -> None:
        """Close all, abruptly."""
        self._process.terminate()
        self._process.wait(10)

    def __exit__(self, *_: object) -> None:
        self.leave()
