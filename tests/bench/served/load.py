"""The load generator: one plan, one process. `python -m tests.bench.served.load PLAN`, both plan and result JSON.

It is the clients, raw sockets over one epoll loop, and looks at every item that comes: a turn must have all of its
text and all of its sound, each once, and nothing of another user's.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from time import monotonic
from typing import Any

import attrs
import msgspec

from .answers import Answer
from .processes import busy_s, cpu_s, settle
from .reactor import Reactor, Stream
from .work import PIECE_BYTES, PIECES, SENTENCES, fault_of, question, tokens

PATIENCE_S = 90.0  # for turns that have not ended when the measurement has
SOUND_BYTES = SENTENCES * PIECES * PIECE_BYTES
AFTER_S = 0.2  # what runs on after an interrupt is seen within it


class Line(msgspec.Struct):
    """What an event of any of the servers has in common."""

    type: str
    text: str = ""
    data: bytes = b""
    reason: str = ""


read_line = msgspec.json.Decoder(Line).decode


@attrs.define
class Plan:
    """`kind`: "closed", each session asks again when it has its answer; "paced", so many turns a second in all;
    "gone" and "http", each turn is interrupted, by leaving or by POST /interrupt, until there were `times`."""

    kind: str
    port: int
    cores: str
    pids: dict[str, int]
    sessions: int
    for_s: float = 0.0
    warm_s: float = 0.0
    rate: float = 0.0
    times: int = 0
    text: str = "wide"
    seed: int = 0


@attrs.define
class Interrupt:
    """Of which turn, when, and when its request was answered, if it was one."""

    marker: str
    when: float
    answered: float | None = None


@attrs.define
class Result:
    """Seconds from a question to its first text, first sound and end; what was wrong, by kind; and in the time that
    counts: turns (by what came of their items) and CPU seconds by process."""

    first_text: list[float] = attrs.field(factory=list)
    first_sound: list[float] = attrs.field(factory=list)
    whole: list[float] = attrs.field(factory=list)
    faults: dict[str, int] = attrs.field(factory=dict)
    seconds: float = 0.0
    turns: float = 0.0
    cpu_s: dict[str, float] = attrs.field(factory=dict)
    interrupts: list[Interrupt] = attrs.field(factory=list)

    def fault(self, kind: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1


class Connection(Stream):
    """One connection to the server; what comes is handed to its user as an answer."""

    def __init__(self, reactor: Reactor, port: int, user: User) -> None:
        super().__init__(reactor, socket.create_connection(("127.0.0.1", port)))
        self.user = user
        self.answer = Answer()

    def ask(self, path: str, body: dict[str, Any]) -> None:
        self.answer = Answer()
        encoded = json.dumps(body).encode()
        self.send(
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), len(encoded), encoded)
        )

    def received(self, data: bytes) -> None:
        lines = self.answer.feed(data)
        if lines:
            self.user.told(self, lines)
        if self.answer.ended:
            self.user.answered(self)

    def ended(self) -> None:
        self.user.broken(self)


class Asking(Connection):
    """`POST /interrupt`, on a connection of its own."""

    def __init__(self, user: User, interrupt: Interrupt) -> None:
        super().__init__(user.load.reactor, user.load.plan.port, user)
        self._interrupt = interrupt
        self.ask("/interrupt", {"user": user.name})

    def received(self, data: bytes) -> None:
        self.answer.feed(data)
        if self.answer.ended:
            self._interrupt.answered = monotonic()
            self.close()
            self._end()

    def ended(self) -> None:
        self.user.load.result.fault("interrupt not answered")
        self._end()

    def _end(self) -> None:
        self.user.waiting = None
        self.user.load.free(self.user)


class User:
    """One session: a turn at a time, each with a marker of its own."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.number = number
        self.turns = 0
        self.connection: Connection | None = None
        self.marker = ""
        self.busy = False
        self.interrupted = False
        self.waiting: Asking | None = None  # for the answer to its interrupt

    @property
    def name(self) -> str:
        return f"user{self.number}"

    def begin(self) -> None:
        load = self.load
        if load.over:
            return
        self.turns += 1
        self.busy, self.interrupted = True, False
        self.marker = f"{'abcdefgh'[self.number % 8]}{self.number:04}x{self.turns:04}"
        self.text: list[str] = []
        self.sound: list[bytes] = []
        self.reason = ""
        if self.connection is None or not self.connection.open:
            self.connection = Connection(load.reactor, load.plan.port, self)
        self.begun = monotonic()
        self.connection.ask("/turns", {"user": self.name, "input": question(self.marker, load.plan.text)})

    def told(self, connection: Connection, lines: list[bytes]) -> None:
        if connection.answer.status != 200:
            return
        now = monotonic()
        for raw in lines:
            line = read_line(raw)
            if line.type == "text":
                if not self.text:
                    self._note(self.load.result.first_text, now)
                self.text.append(line.text)
                self.load.came(len(line.text), 0)
            elif line.type == "audio":
                if not self.sound:
                    self._note(self.load.result.first_sound, now)
                    self.load.heard(self)
                self.sound.append(line.data)
                self.load.came(0, len(line.data))
            elif line.type == "turn.ended":
                self.reason = line.reason
            elif line.type == "error":
                self.load.result.fault("error event")

    def _note(self, times: list[float], now: float) -> None:
        if self.begun >= self.load.counts_from:
            times.append(now - self.begun)

    def answered(self, connection: Connection) -> None:
        """Its answer is complete."""
        self.busy = False
        if connection.answer.status != 200:
            self.load.result.fault(f"status {connection.answer.status}")
        elif not self.interrupted:
            self._note(self.load.result.whole, monotonic())
            fault = fault_of("".join(self.text), b"".join(self.sound), self.marker, self.load.plan.text)
            if fault or self.reason not in ("", "done"):
                self.load.result.fault(fault or f"ended by {self.reason}")
        self.load.free(self)

    def broken(self, connection: Connection) -> None:
        """The server has closed a connection: between two turns it may, and after an interrupt."""
        if self.busy:
            self.busy = False
            if not self.interrupted:
                self.load.result.fault("connection lost")
            self.load.free(self)


class Load:
    """A plan as it is carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.result = Result()
        self.reactor = Reactor()
        self.over = False
        self.users = [User(self, number) for number in range(plan.sessions)]
        self.random = random.Random(plan.seed)
        self._text_chars = sum(map(len, tokens("a0000x0000", plan.text)))
        self._chars = self._bytes = 0
        self._counting = False
        self.counts_from = monotonic() + plan.warm_s

    def run(self) -> Result:
        plan, reactor, now = self.plan, self.reactor, monotonic()
        if plan.kind == "paced":
            self._due = now
            self._next = 0
            reactor.at(now, self._begin_next)
        else:  # spread over a turn's time, so that their timers do not stay together
            for user in self.users:
                reactor.at(now + 0.65 * user.number / plan.sessions, user.begin)
        if plan.for_s:
            reactor.at(self.counts_from, self._start_counting)
            reactor.at(self.counts_from + plan.for_s, self._stop)
        reactor.at(now + plan.warm_s + plan.for_s + PATIENCE_S, self._give_up)
        reactor.run()
        return self.result

    def came(self, chars: int, sound: int) -> None:
        if self._counting:
            self._chars += chars
            self._bytes += sound

    def heard(self, user: User) -> None:
        """A turn's first sound has come."""
        if self.plan.kind in ("gone", "http"):
            turn = user.turns
            self.reactor.at(monotonic() + self.random.uniform(0.0, 0.35), lambda: self._interrupt(user, turn))

    def free(self, user: User) -> None:
        """A turn has ended, and the request that interrupted it, if there was one, has been answered."""
        if user.busy or user.waiting:
            return
        if self.over and not any(each.busy or each.waiting for each in self.users):
            self.reactor.stop()
        elif user.interrupted:
            self.reactor.at(monotonic() + AFTER_S, user.begin)
        elif self.plan.kind != "paced":
            user.begin()

    def _interrupt(self, user: User, turn: int) -> None:
        if self.over or not user.busy or user.turns != turn:
            return
        interrupt = Interrupt(user.marker, monotonic())
        self.result.interrupts.append(interrupt)
        self.over = len(self.result.interrupts) == self.plan.times
        user.interrupted = True
        if self.plan.kind == "gone":
            assert user.connection is not None
            user.connection.close()
            user.busy = False
            self.free(user)
        else:
            user.waiting = Asking(user, interrupt)

    def _begin_next(self) -> None:
        if not self.over:
            user = self.users[self._next % len(self.users)]
            self._next += 1
            if user.busy:
                self.result.fault("still busy")
            else:
                user.begin()
            self._due += 1 / self.plan.rate
            self.reactor.at(self._due, self._begin_next)

    def _start_counting(self) -> None:
        self._counting = True
        self._began = monotonic()
        self._busy_s = busy_s()
        self.result.cpu_s = {name: -cpu_s(pid) for name, pid in self._pids.items()}

    def _stop(self) -> None:
        self.over, self._counting = True, False
        result = self.result
        result.seconds = monotonic() - self._began
        for name, pid in self._pids.items():
            result.cpu_s[name] += cpu_s(pid)
        result.cpu_s["others"] = max(0.0, busy_s() - self._busy_s - sum(result.cpu_s.values()))
        # Half of a turn is its text, half its sound: so the parts of turns at both ends count as what they are.
        result.turns = (self._chars / self._text_chars + self._bytes / SOUND_BYTES) / 2
        if not any(user.busy for user in self.users):
            self.reactor.stop()

    @property
    def _pids(self) -> dict[str, int | str]:
        return {**self.plan.pids, "load": "self"}

    def _give_up(self) -> None:
        for _ in [user for user in self.users if user.busy]:
            self.result.fault("not ended in time")
        self.reactor.stop()


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    settle(plan.cores)
    print(json.dumps(attrs.asdict(Load(plan).run())))


if __name__ == "__main__":
    main()
