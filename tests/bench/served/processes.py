"""The processes of a measurement: which core each runs on, what it has used, and how it ends."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[3]
CALM = 0.15  # of a core
TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[str, str]:
    """The core of the server, and those of all else, as `pin` takes them. On a machine with one core they share it."""
    usable = sorted(os.sched_getaffinity(0))
    others = usable[:-1] or usable
    return str(usable[-1]), ",".join(map(str, others))


def settle(to: str) -> None:
    """Run on these cores alone, with as many open files as may be, and no longer than the process that started it."""
    os.sched_setaffinity(0, {int(core) for core in to.split(",")})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


@contextmanager
def running(
    module: str, *arguments: str, package: str = "tests.bench", errors: IO[str] | None = None
) -> Iterator[tuple[int, int]]:
    """A module of ours as a process, which prints its URL once it listens. Gives pid and port."""
    command = [sys.executable, "-m", f"{package}.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        assert process.stdout
        try:
            found = next(filter(None, (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in process.stdout)), None)
            if found is None:
                raise RuntimeError(f"{' '.join(command)} did not start")
            yield process.pid, int(found[1])
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def cpu_s(pid: int | str = "self") -> float:
    """The CPU time of a process, its threads among it, in seconds."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def resident_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Rss:"))
    return int(line.split()[1])


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for_calm(patience_s: float) -> None:
    """Until for a second nobody else has had much to do, or until patience ends. The servers are idle meanwhile."""
    end, calm = time.monotonic() + patience_s, 0
    while calm < 2 and time.monotonic() < end:
        before = busy_s()
        time.sleep(0.5)
        calm = calm + 1 if busy_s() - before <= 0.5 * CALM else 0


def busy_s() -> float:
    """The CPU time that all cores of the machine have spent at work, in seconds."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / TICKS
