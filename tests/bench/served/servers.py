"""The servers that are measured side by side, and the stubs behind them, each a process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from ..figures import Figures
from .processes import ROOT, cores, running, wait_for_calm

__all__ = ["PATIENCE_S", "SERVERS", "TITLES", "Bench", "bench", "present"]

SERVERS = {"ezflow": "with_ezflow", "quart": "with_quart", "fastapi": "with_fastapi"}
TITLES = {
    "ezflow": "ezflow: Ollama >> Sentences >> GPTSoVITS",
    "quart": "quart-trio + hypercorn + raw client + c, by hand",
    "fastapi": "FastAPI + uvloop + aiohttp, by hand",
}
PATIENCE_S = 30.0  # until what is under way has ended, on however busy a machine
HARMLESS = ("not ended in time", "still busy")  # of a machine that is too slow, not of a server that is wrong


@attrs.frozen
class Bench:
    """The stubs, and the servers by name: pids and ports."""

    figures: Figures
    stubs: tuple[int, int]
    servers: dict[str, tuple[int, int]]

    def log(self) -> dict[str, Any]:
        """What the stubs have seen since the last time: `answers`, how many are `active`, and connections `open`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stubs[1]}/log", timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def settled(self) -> dict[str, Any]:
        """As `log`, once nothing is under way any more; `active` is what still is after a while."""
        log, end = self.log(), time.monotonic() + PATIENCE_S
        while log["active"] and time.monotonic() < end:
            time.sleep(0.05)
            more = self.log()
            log = {**more, "answers": log["answers"] + more["answers"]}
        return log

    def load(self, name: str, what: str, plan: dict[str, Any]) -> dict[str, Any]:
        """Carry out a plan (load.py) against a server, and note what its clients saw wrong. Gives the result."""
        wait_for_calm(self.figures.calm_s)
        pid, port = self.servers[name]
        whole = {"port": port, "cores": cores()[1], "pids": {"server": pid, "stubs": self.stubs[0]}, **plan}
        command = [sys.executable, "-m", "tests.bench.served.load", json.dumps(whole)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        found: dict[str, Any] = json.loads(done.stdout)
        for fault, times in found["faults"].items():
            if fault not in HARMLESS:
                self.figures.wrong.append(f"{name}, {what}: {fault}, {times} times")
        return found


def present() -> list[str]:
    """The servers whose packages are installed."""
    there = all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "uvloop", "aiohttp")))
    return [name for name in SERVERS if there or name != "fastapi"]


@contextmanager
def bench(figures: Figures, *names: str) -> Iterator[Bench]:
    """The stubs and servers, each a process; the servers share a core, of which one at a time has use."""
    core, others = cores()
    with ExitStack() as stack:
        stubs = stack.enter_context(running("served.stubs", others))
        servers = {
            name: stack.enter_context(running(f"servers.{SERVERS[name]}", core, str(stubs[1]))) for name in names
        }
        yield Bench(figures, stubs, servers)
