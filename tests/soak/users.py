"""The users: what they have in common, what each remembers, and what it must get in return."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from math import inf
from time import monotonic

import attrs
import trio

from ..bench.served.work import question
from .backends import Backends, spoken
from .wire import Hearing, Http, Lost, Socket, read_event

__all__ = ["Action", "Load", "User"]

PATIENCE_S = 60.0
NAMES = 4  # of each user: one comes back when its session has long ended, and is remembered


@attrs.define
class Load:
    """What all users share.

    `faults`: what was wrong, by kind; `done`: what was carried out, by kind; `stuck`: what the server was doing when
    something was not ended in time. `first_s`: how long the first text took of turns that no fault has touched.
    """

    port: int
    backends: Backends
    rng: random.Random
    over: bool = False
    turns: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)
    done: Counter[str] = attrs.field(factory=Counter)
    stuck: list[str] = attrs.field(factory=list)
    first_s: list[float] = attrs.field(factory=list)

    def judge(self, hearing: Hearing, begun: float) -> bool:
        """A turn that nobody interrupted must be whole, unless a backend failed in it; that it froze is no excuse.

        True if it was checked, and was.
        """
        if hearing.first_text_at and not self.backends.disturbed(begun - 1, hearing.first_text_at):
            self.first_s.append(hearing.first_text_at - begun)
        if self.failing(begun):
            self.done["turns with a failing backend"] += 1
            return False
        self.done["turns checked"] += 1
        if fault := hearing.fault():
            self.faults[f"a turn: {fault}"] += 1
        return not fault

    def failing(self, since: float) -> bool:
        """Has a backend died or talked nonsense since?"""
        return self.backends.disturbed(since, monotonic(), "dead", "nonsense")


Action = Callable[["User"], Awaitable[None]]


class User:
    """One action after the other, on its own behalf under one of its names."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.rng = random.Random(load.rng.random())
        self._number = number
        self._visits = 0
        self._turns = 0
        self.name = f"user{number}-0"

    async def live(self, actions: Mapping[Action, int]) -> None:
        """Actions, each as often as its weight has it, until the load is over."""
        while not self.load.over:
            self._visits += 1
            self.name = f"user{self._number}-{self._visits % NAMES}"
            for _ in range(self.rng.randint(2, 8)):
                (action,) = self.rng.choices(list(actions), list(actions.values()))
                await self.do(action)
                await trio.sleep(self.rng.expovariate(1.5))
                if self.load.over:
                    return

    async def do(self, action: Action) -> None:
        """Carry out an action; what goes wrong in it is a fault."""
        name = action.__name__.replace("_", " ")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._lose_patience, name, nursery.cancel_scope)
                await action(self)
                nursery.cancel_scope.cancel()
        except* Lost:
            self.load.faults[f"{name}: connection lost"] += 1
        self.load.done[name] += 1

    async def _lose_patience(self, name: str, scope: trio.CancelScope) -> None:
        await trio.sleep(PATIENCE_S)
        self.load.faults[f"{name}: not ended in time"] += 1
        async with await Http.open(self.load.port) as http:
            _, tree = await http.answered("GET", "/debug/tree?sessions=1000")
        mine = [one for one in json.loads(tree)["sessions"]["list"] if one["user"] == self.name]
        self.load.stuck.append(f"{name}, {self.name}: {json.dumps(mine)}")
        scope.cancel()

    def marker(self) -> str:
        self.load.turns += 1
        self._turns += 1
        return f"{'abcdefgh'[self._number % 8]}{self._number:04}x{self._turns:04}"

    async def ask(self, http: Http, flow: str = "") -> Hearing:
        """By text; the flow `voice` by sound."""
        hearing = Hearing(self.marker())
        words = question(hearing.marker, "wide")
        item = base64.b64encode(spoken(words)).decode() if flow == "/voice" else words
        await http.ask("POST", f"{flow}/turns", {"user": self.name, "input": item})
        return hearing

    async def hear(self, http: Http, hearing: Hearing, for_s: float = inf) -> None:
        """Its turn to the end, or for so long."""
        with trio.move_on_after(for_s):
            async with aclosing(http.lines()) as lines:
                async for line in lines:
                    if http.answer.status != 200:
                        self.load.faults[f"status {http.answer.status} for a turn"] += 1
                        return
                    hearing.hear(read_event(line))

    async def start(self, socket: Socket, path: str = "/ws") -> None:
        await socket.begin(f"{path}?user={self.name}")
        await socket.hear_until("ready")

    async def say(self, socket: Socket) -> Hearing:
        """By text, in a live turn that begins with it."""
        hearing = Hearing(self.marker())
        await socket.tell({"type": "start"})
        await socket.tell({"type": "input", "data": question(hearing.marker, "wide")})
        return hearing
