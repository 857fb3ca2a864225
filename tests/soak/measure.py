"""The server as it is seen from outside, each second: its process, its own figures, and what its users have felt."""

from __future__ import annotations

import os
import re
from collections import Counter
from time import monotonic

import trio

from ..bench.served.processes import cpu_s, descriptors, resident_kib
from .judge import Sample
from .users import Load
from .wire import Http

__all__ = ["Watcher"]

CLEAN = "/inside?clean=1"
VALUE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')


# A server closes a connection after a thousand requests (hypercorn's `keep_alive_max_requests`); each sample has two.
SAMPLES = 400


class Watcher:
    """Takes samples, over one connection at a time."""

    def __init__(self, pid: int, load: Load, http: Http) -> None:
        self.pid = pid
        self.samples: list[Sample] = []
        self.over = False
        self._load, self._http = load, http
        self._taken = 0
        self.begun = monotonic()

    async def watch(self) -> None:
        """Each second until it is `over`."""
        self.begun = monotonic()
        while not self.over:
            self.samples.append(await self.sample())
            await trio.sleep(max(0.0, self.begun + len(self.samples) - monotonic()))

    async def sample(self, path: str = "/inside") -> Sample:
        self._taken += 1
        if self._taken % SAMPLES == 0:
            await trio.aclose_forcefully(self._http.stream)
            self._http = await Http.open(self._load.port)
        tasks, blocks = map(int, (await self._told(path)).split())
        idle = running = 0.0
        results: Counter[str] = Counter()
        values: dict[str, float] = {}
        for line in (await self._told("/metrics")).splitlines():
            if (found := VALUE.fullmatch(line)) is None:
                continue
            name, labels, value = found[1], dict(LABEL.findall(found[2] or "")), float(found[3])
            values[name] = value
            if name == "ezflow_turns_total":
                results[labels["result"]] += int(value)
            elif name == "ezflow_turns_running":
                running += value
            elif labels.get("what") == "connections_idle":
                idle += value
        first_s, self._load.first_s = self._load.first_s, []
        return Sample(
            at_s=monotonic() - self.begun,
            turns=self._load.turns,
            resident_kib=resident_kib(self.pid),
            descriptors=descriptors(self.pid),
            threads=len(os.listdir(f"/proc/{self.pid}/task")),
            tasks=tasks,
            blocks=blocks,
            sessions=int(values["ezflow_sessions"]),
            running=int(running),
            idle_connections=int(idle),
            cpu_s=cpu_s(self.pid),
            lag_s=values["ezflow_loop_lag_max_seconds"],
            first_s=first_s,
            results=dict(results),
        )

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._http.stream)

    async def settled(self, like: Sample | None, patience_s: float) -> Sample:
        """Once nobody has a session, and no more is open than once was; what is, if patience ends before."""
        with trio.move_on_after(patience_s):
            while True:
                now = await self.sample(CLEAN)
                if not now.sessions and (like is None or _no_more(now, like)):
                    return now
                await trio.sleep(0.5)
        return await self.sample(CLEAN)

    async def _told(self, path: str) -> str:
        status, body = await self._http.answered("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path} was answered by {status}")
        return body.decode()


def _no_more(now: Sample, like: Sample) -> bool:
    held = now.descriptors - now.idle_connections <= like.descriptors - like.idle_connections
    return held and now.tasks <= like.tasks and now.threads <= like.threads
