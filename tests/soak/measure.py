"""The server as it is seen from outside, each second: its process, its own figures, and one user who asks in peace."""

from __future__ import annotations

import os
import re
from time import monotonic

import trio

from ..bench.served.processes import descriptors, resident_kib
from .judge import Sample
from .users import Load, User
from .wire import Http

__all__ = ["Probe", "Watcher"]

IDLE = re.compile(r'ezflow_module_status\{.*stage="([^"]*)",what="connections_idle"\} (\S+)')


class Probe(User):
    """One turn after the other, whole and timed. `first_text_s` is that of the last one in which no backend failed."""

    first_text_s: float | None = None

    async def live(self) -> None:
        while not self.load.over:
            self.name = f"probe{self._turns // 8}"
            await self.do(Probe.turn)
            await trio.sleep(0.2)

    async def turn(self) -> None:
        async with await Http.open(self.load.port) as http:
            begun = monotonic()
            hearing = await self.ask(http)
            await self.hear(http, hearing)
            self.load.judge(hearing, begun)
            if hearing.first_text_at and not self.load.backends.disturbed(begun - 1, hearing.first_text_at):
                self.first_text_s = hearing.first_text_at - begun

    def take(self) -> float | None:
        taken, self.first_text_s = self.first_text_s, None
        return taken


class Watcher:
    """Takes samples. Its one connection stays open as long as it does."""

    def __init__(self, pid: int, load: Load, probe: Probe, http: Http) -> None:
        self.pid = pid
        self.samples: list[Sample] = []
        self.over = False
        self._load, self._probe, self._http = load, probe, http
        self.begun = monotonic()

    async def watch(self) -> None:
        """Each second until it is `over`."""
        self.begun = monotonic()
        while not self.over:
            self.samples.append(await self.sample())
            await trio.sleep(max(0.0, self.begun + len(self.samples) - monotonic()))

    async def sample(self) -> Sample:
        figures = await self._lines("/metrics")
        tasks = (await self._lines("/tasks"))[0]
        values = dict(line.rsplit(" ", 1) for line in figures if line and line[0] != "#")
        idle = {found[1]: float(found[2]) for line in figures if (found := IDLE.match(line))}
        return Sample(
            at_s=monotonic() - self.begun,
            turns=self._load.turns,
            resident_kib=resident_kib(self.pid),
            descriptors=descriptors(self.pid),
            threads=len(os.listdir(f"/proc/{self.pid}/task")),
            tasks=int(tasks.split()[1]),
            sessions=int(float(values["ezflow_sessions"])),
            idle_connections=int(sum(idle.values())),
            lag_s=float(values["ezflow_loop_lag_max_seconds"]),
            first_text_s=self._probe.take(),
        )

    async def settled(self, like: Sample | None, patience_s: float) -> Sample:
        """Once nobody has a session, and no more is open than once was; what is, if patience ends before."""
        with trio.move_on_after(patience_s):
            while True:
                now = await self.sample()
                if not now.sessions and (like is None or _no_more(now, like)):
                    return now
                await trio.sleep(0.5)
        return await self.sample()

    async def _lines(self, path: str) -> list[str]:
        status, lines = await self._http.answered("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path} was answered by {status}")
        return [line.decode() for line in lines]


def _no_more(now: Sample, like: Sample) -> bool:
    held = now.descriptors - now.idle_connections <= like.descriptors - like.idle_connections
    return held and now.tasks <= like.tasks and now.threads <= like.threads
