"""What users do with a server, well-behaved or not."""

from __future__ import annotations

import json
from time import monotonic

import trio

from ..bench.served.work import question, whole_answer
from .backends import FRAME_BYTES, spoken
from .users import Action, User
from .wire import Event, Http, Lost, Socket

__all__ = ["ACTIONS", "live_turns", "voice_turns", "whole_turns"]

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


async def whole_turns(user: User) -> None:
    """Over HTTP, on one connection."""
    async with await Http.open(user.load.port) as http:
        for _ in range(user.rng.randint(1, 3)):
            begun = monotonic()
            hearing = await user.ask(http)
            await user.hear(http, hearing)
            user.load.judge(hearing, begun)


async def voice_turns(user: User) -> None:
    """Sound, uploaded whole."""
    async with await Http.open(user.load.port) as http:
        begun = monotonic()
        hearing = await user.ask(http, "/voice")
        await user.hear(http, hearing)
        user.load.judge(hearing, begun)


async def remembered_turn(user: User) -> None:
    """Once the end of a turn is told, it is remembered; until it is deleted."""
    async with await Http.open(user.load.port) as http:
        begun = monotonic()
        hearing = await user.ask(http)
        await user.hear(http, hearing)
        if not user.load.judge(hearing, begun):
            return
        history = f"/history?user={user.name}"
        _, told = await http.answered("GET", history)
        last = [(one["role"], one["content"], one["cut"]) for one in json.loads(told)["messages"][-2:]]
        text, _ = whole_answer(hearing.marker, "wide")
        if last != [("user", question(hearing.marker, "wide"), False), ("assistant", text, False)]:
            user.load.faults["a turn was not remembered as it was"] += 1
        if user.rng.random() < 0.2:
            await http.answered("DELETE", history)
            _, told = await http.answered("GET", history)
            if json.loads(told)["messages"]:
                user.load.faults["a deleted history was remembered"] += 1


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
        if hearing.reason not in ("interrupted", "done") and not user.load.failing(begun):
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
        marker = user.marker()
        await socket.tell({"type": "input", "data": question(marker, "wide")})
        await socket.tell({"type": "end"})
        await _hear_reply(user, socket, begun, over, marker)


async def barge_in(user: User) -> None:
    """By speaking over the reply, which is over then; what was said is answered."""
    async with await Socket.open(user.load.port) as socket:
        begun = monotonic()
        await user.start(socket, "/talk/ws")
        await socket.tell({"type": "start"})
        await _speak(socket, user.marker())
        event = await socket.hear_until("audio", "turn.ended")
        with trio.move_on_after(user.rng.uniform(0, 0.5)):
            while event.type != "turn.ended":
                event = await socket.hear()
        if event.type != "turn.ended":
            marker = user.marker()
            await _speak(socket, marker)
            await socket.tell({"type": "end"})
            event = await socket.hear_until("interrupted", "turn.ended")
        if event.type == "interrupted":
            await _hear_reply(user, socket, begun, event, marker)
        elif not user.load.failing(begun):
            user.load.faults["a reply was not interrupted by speech"] += 1


async def _speak(socket: Socket, marker: str) -> None:
    sound = spoken(question(marker, "wide"))
    for place in range(0, len(sound), FRAME_BYTES):
        await socket.tell(sound[place : place + FRAME_BYTES])
    await socket.tell(bytes(FRAME_BYTES))


async def _hear_reply(user: User, socket: Socket, begun: float, over: Event, marker: str) -> None:
    """After an interrupt the answer to what the marker stands for, and nothing of the run that is over."""
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
    if not user.load.failing(begun):
        user.load.done["replies after an interrupt checked"] += 1
        if reason != "done" or sound != whole_answer(marker, "wide")[1]:
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


ACTIONS: dict[Action, int] = {
    whole_turns: 6,
    voice_turns: 4,
    remembered_turn: 3,
    live_turns: 6,
    client_gone: 3,
    socket_gone: 3,
    interrupted_turn: 3,
    interrupted_reply: 3,
    barge_in: 4,
    slow_reader: 2,
    bad_body: 2,
    bad_frames: 2,
    half_a_request: 2,
}
