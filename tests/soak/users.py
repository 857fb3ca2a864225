"""The users: what each does with the server, well-behaved or not, and what it must get in return."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from math import inf
from time import monotonic

import attrs
import trio

from ..bench.served.work import question
from .backends import Backends
from .wire import Hearing, Http, Lost, Socket, read_event

__all__ = ["ACTIONS", "Load", "User"]

PATIENCE_S = 60.0
BAD_BODIES = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 10_000,
    b"[]",
    b'{"user": "u"}',
    b'{"user": 7, "input": "x"}',
    b'{"user": "u", "input": {"a": 1}}',
    b'{"user": "u", "input": "x", "entry": 99}',
    b'{"user": "' + b"u" * 300 + b'", "input": "x"}',
    b'{"user": "u", "input": "x", "options": {"nobody": 1}}',
)
BAD_FRAMES = (
    "",
    "{",
    "[]",
    '{"type": "nothing"}',
    '{"type": "start", "entry": 99}',
    '{"type": "input"}',
    b"\0\0\0",
    b"",
)
HALVES = (
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /turns HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
    b"POST /turns HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /ws?user=half HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
)


@attrs.define
class Load:
    """What all users share. `faults`: what was wrong, by kind; `done`: what was carried out, by kind."""

    port: int
    backends: Backends
    rng: random.Random
    over: bool = False
    turns: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)
    done: Counter[str] = attrs.field(factory=Counter)

    def judge(self, hearing: Hearing, begun: float) -> None:
        """A turn that nobody interrupted must be whole, unless a backend failed in it; that it froze is no excuse."""
        if self.backends.disturbed(begun, monotonic(), "dead", "nonsense"):
            self.done["turns with a failing backend"] += 1
        else:
            self.done["turns checked"] += 1
            if fault := hearing.fault():
                self.faults[f"a turn: {fault}"] += 1


class User:
    """One after the other of ACTIONS. Its name is new every few of them, so that sessions begin and end."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.rng = random.Random(load.rng.random())
        self._number = number
        self._visits = 0
        self._turns = 0
        self.name = ""

    async def live(self) -> None:
        names, weights = zip(*((action, weight) for action, weight in ACTIONS.items()), strict=True)
        while not self.load.over:
            self._visits += 1
            self.name = f"user{self._number}-{self._visits}"
            for _ in range(self.rng.randint(2, 8)):
                action = self.rng.choices(names, weights)[0]
                await self.do(action)
                await trio.sleep(self.rng.expovariate(1.5))
                if self.load.over:
                    return

    async def do(self, action: Callable[[User], Awaitable[None]]) -> None:
        """Carry out an action; what goes wrong in it is a fault."""
        name = action.__name__.replace("_", " ")
        try:
            with trio.fail_after(PATIENCE_S):
                await action(self)
        except Lost:
            self.load.faults[f"{name}: connection lost"] += 1
        except trio.TooSlowError:
            self.load.faults[f"{name}: not ended in time"] += 1
        self.load.done[name] += 1

    def marker(self) -> str:
        self.load.turns += 1
        self._turns += 1
        return f"{'abcdefgh'[self._number % 8]}{self._number:04}x{self._turns:04}"

    async def ask(self, http: Http) -> Hearing:
        hearing = Hearing(self.marker())
        await http.ask("POST", "/turns", {"user": self.name, "input": question(hearing.marker, "wide")})
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
        hearing = Hearing(self.marker())
        await socket.tell({"type": "start"})
        await socket.tell({"type": "input", "data": question(hearing.marker, "wide")})
        return hearing


async def whole_turns(user: User) -> None:
    """Over HTTP, on one connection."""
    async with await Http.open(user.load.port) as http:
        for _ in range(user.rng.randint(1, 3)):
            begun = monotonic()
            hearing = await user.ask(http)
            await user.hear(http, hearing)
            user.load.judge(hearing, begun)


async def live_turns(user: User) -> None:
    async with await Socket.open(user.load.port) as socket:
        await user.start(socket, user.rng.choice(("/ws", "/live/ws")))
        for _ in range(user.rng.randint(1, 3)):
            begun = monotonic()
            hearing = await user.say(socket)
            await socket.tell({"type": "end"})
            while not hearing.reason:
                hearing.hear(await socket.hear())
            user.load.judge(hearing, begun)


async def client_gone(user: User) -> None:
    """In the middle of an answer, by a close or a reset. The next turn of this user must be whole all the same."""
    async with await Http.open(user.load.port) as http:
        await user.hear(http, await user.ask(http), user.rng.uniform(0, 0.8))
        if user.rng.random() < 0.5:
            http.abort()


async def socket_gone(user: User) -> None:
    async with await Socket.open(user.load.port) as socket:
        await user.start(socket, "/live/ws")
        await user.say(socket)
        with trio.move_on_after(user.rng.uniform(0, 0.8)):
            await socket.hear_until("turn.ended")
        if user.rng.random() < 0.5:
            socket.abort()


async def interrupted_turn(user: User) -> None:
    """By POST /interrupt: the answer must end, as interrupted unless it was done before."""
    async with await Http.open(user.load.port) as http, await Http.open(user.load.port) as other:
        begun = monotonic()
        hearing = await user.ask(http)
        await user.hear(http, hearing, user.rng.uniform(0.05, 0.6))
        if not http.answer.ended:
            status, _ = await other.answered("POST", "/interrupt", {"user": user.name})
            if status != 200:
                user.load.faults[f"status {status} for an interrupt"] += 1
            await user.hear(http, hearing)
        failing = user.load.backends.disturbed(begun, monotonic(), "dead", "nonsense")
        if hearing.reason not in ("interrupted", "done") and not failing:
            user.load.faults[f"an interrupted turn: ended by {hearing.reason or 'nothing'}"] += 1


async def interrupted_reply(user: User) -> None:
    """By a frame: nothing of that run follows, and the next reply is whole."""
    async with await Socket.open(user.load.port) as socket:
        begun = monotonic()
        await user.start(socket, "/live/ws")
        await user.say(socket)
        with trio.move_on_after(user.rng.uniform(0.05, 0.5)):
            await socket.hear_until("turn.ended")
        await socket.tell({"type": "interrupt"})
        over = await socket.hear_until("interrupted")
        hearing = Hearing(user.marker())
        await socket.tell({"type": "input", "data": question(hearing.marker, "wide")})
        await socket.tell({"type": "end"})
        sound, reason = b"", ""
        while not reason:
            event = await socket.hear()
            if over.run and event.run == over.run:
                user.load.faults["spoke after an interrupt"] += 1
            if event.type == "audio":
                sound += event.data
            elif event.type == "turn.ended":
                reason = event.reason
            elif event.type == "error" and event.turn is None:
                reason = "refused"  # its turn had been ended by a backend
        if not user.load.backends.disturbed(begun, monotonic(), "dead", "nonsense"):
            user.load.done["replies after an interrupt checked"] += 1
            if reason != "done" or f"{hearing.marker}s5".encode() not in sound:
                user.load.faults["the reply after an interrupt was not whole"] += 1


async def slow_reader(user: User) -> None:
    """It reads nothing for a while, then all: all must be there."""
    async with await Http.open(user.load.port) as http:
        begun = monotonic()
        hearing = await user.ask(http)
        await trio.sleep(user.rng.uniform(0.5, 4.0))
        await user.hear(http, hearing)
        user.load.judge(hearing, begun)


async def bad_body(user: User) -> None:
    async with await Http.open(user.load.port) as http:
        status, _ = await http.answered("POST", "/turns", user.rng.choice(BAD_BODIES))
        if not 400 <= status < 500:
            user.load.faults[f"status {status} for a bad body"] += 1


async def bad_frames(user: User) -> None:
    """Each is answered by an error, and the socket lives."""
    async with await Socket.open(user.load.port) as socket:
        await user.start(socket)
        for _ in range(3):
            await socket.tell(user.rng.choice(BAD_FRAMES))
            await socket.hear_until("error")
        await socket.tell({"type": "ping"})
        await socket.hear_until("pong")


async def half_a_request(user: User) -> None:
    """What is no request, or ends before its end, and then nobody is there."""
    async with await Http.open(user.load.port) as http:
        await http.send(user.rng.choice(HALVES))
        with trio.move_on_after(user.rng.uniform(0, 0.5)):
            try:
                await http.receive()
            except Lost:
                return  # refused, as it should be
        http.abort()


ACTIONS = {
    whole_turns: 6,
    live_turns: 6,
    client_gone: 3,
    socket_gone: 3,
    interrupted_turn: 3,
    interrupted_reply: 3,
    slow_reader: 2,
    bad_body: 2,
    bad_frames: 2,
    half_a_request: 2,
}
