"""Clients that vanish, at each step of the protocol: by FIN, by RST, and by just falling silent.

The server is a process of its own. Whoever vanishes leaves nothing in it; the same user's next turn works, and the
turns of others go on meanwhile. Who falls silent is waited for as long as the server promises to wait, which is up to
40 s: meanwhile the others vanish, again and again.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter

import attrs
import trio
from abused import Abused, Raw, abused, witnessed
from abused_server import TURN_S
from spoken_bytes import BINARY, CLOSE, TEXT, chunk, frame, head, post, upgrade

from ezflow.client import Client

# What the server promises to wait for one that has fallen silent: docs/serving.md.
HEAD_S, BODY_S, IDLE_S, PONG_S, WRITE_S, LINGER_S = 10.0, 30.0, 30.0, 40.0, 10.0, 1.0
SLACK_S = 20.0
GROWTH_MIB = 64.0
AT_ONCE = 8
ROUNDS, ROUNDS_LONG = 4, 50
NAME = b"user-000000"  # of the same length for all, and replaced by theirs

SOUND = bytes([1, 0]) * 1600


@attrs.frozen
class Hears:
    """The client goes on when it has heard these bytes."""

    words: bytes


@attrs.frozen
class Step:
    """What a client does until it vanishes, and for how long the server waits if it then falls silent.

    `beside`: what another client of the same user has done before, which ends when this one has vanished.
    """

    name: str
    says: tuple[bytes | Hears, ...]
    waits_s: float
    beside: tuple[bytes | Hears, ...] = ()


def ready(flow: str) -> tuple[bytes | Hears, ...]:
    return (upgrade(f"/{flow}/ws", NAME), Hears(b'"ready"'))


Leave = Callable[[Raw], Awaitable[None]]
START, END, INTERRUPT = (frame(TEXT, b'{"type":"%b"}' % kind) for kind in (b"start", b"end", b"interrupt"))
INPUT = frame(TEXT, b'{"type":"input","data":"hello"}')
SPEECH, SILENCE = frame(BINARY, SOUND), frame(BINARY, bytes(640))

ASK = b'{"user":"%b","input":"hello"}' % NAME
SPOKEN = b'{"user":"%b","input":"%b"}' % (NAME, base64.b64encode(SOUND * 40))
SSE = b"Accept: text/event-stream"
WHOLE = post("/talk/turns", ASK)
READY = ready("live")
LISTENS = (*READY, START, Hears(b"turn.started"))
ANSWERS = (*LISTENS, SPEECH, SILENCE, Hears(b'"audio"'))
ANSWERED_S = TURN_S + IDLE_S  # its turn runs into its time, and it asks for no other

STEPS = [
    Step("connected", (), IDLE_S),
    Step("amid the first line", (b"POST /talk/tu",), HEAD_S),
    Step("amid a head", (WHOLE[: WHOLE.index(b"Content")],), HEAD_S),
    Step("before the body", (WHOLE[: WHOLE.index(ASK)],), BODY_S),
    Step("amid a body", (WHOLE[:-5],), BODY_S),
    Step("amid a chunk", (head("/talk/turns", b"Transfer-Encoding: chunked") + chunk(ASK)[:-9],), BODY_S),
    Step("amid a recording", (post("/voice/turns", SPOKEN)[: -len(SPOKEN) // 2],), BODY_S),
    Step("before the answer", (WHOLE,), ANSWERED_S),
    Step("amid the answer's lines", (WHOLE, Hears(b'"text"')), ANSWERED_S),
    Step("amid the answer's events", (post("/talk/turns", ASK, SSE), Hears(b"data:")), ANSWERED_S),
    Step("amid the answer to a recording", (post("/voice/turns", SPOKEN), Hears(b'"text"')), IDLE_S),
    Step("amid a flood", (post("/flood/turns", ASK), Hears(b'"text"')), WRITE_S),
    Step("amid EZPipe's answer", (post("/talk/input", ASK.replace(b"input", b"Input")), Hears(b"hello")), ANSWERED_S),
    Step("after the answer", (post("/echo/turns", ASK), Hears(b"turn.ended"), Hears(b"0\r\n\r\n")), IDLE_S),
    Step("after a refusal", (post("/echo/turns", b"{"), Hears(b"400")), IDLE_S),
    Step("with a request ahead", (WHOLE, Hears(b'"text"'), WHOLE), 2 * TURN_S + IDLE_S),
    Step("amid an interrupt", (post("/interrupt", b'{"user":"%b"}' % NAME),), IDLE_S, (WHOLE, Hears(b'"text"'))),
    Step("amid a handshake", (upgrade("/live/ws", NAME)[:-30],), HEAD_S),
    Step("before the handshake's answer", (upgrade("/live/ws", NAME),), PONG_S),
    Step("after the handshake", READY, PONG_S),
    Step("amid a frame's head", (*READY, START[:1]), PONG_S),
    Step("amid a frame", (*LISTENS, SPEECH[:1000]), PONG_S),
    Step("amid a message in fragments", (*LISTENS, frame(BINARY, SOUND, final=False)), PONG_S),
    Step("after a frame that does not fit", (*READY, frame(TEXT, b"{"), Hears(b"BadRequest")), PONG_S),
    Step("in a turn", LISTENS, PONG_S),
    Step("amid speech", (*LISTENS, *[SPEECH] * 10), PONG_S),
    Step("amid a reply", ANSWERS, PONG_S),
    Step("amid speech over a reply", (*ANSWERS, *[SPEECH] * 10, SILENCE), PONG_S),
    Step("at an interrupt", (*ANSWERS, INTERRUPT), PONG_S),
    Step("after the end of input", (*ANSWERS, END), PONG_S),
    Step("at a second start", (*ANSWERS, START), PONG_S),
    Step("after its closing frame", (*ANSWERS, frame(CLOSE, b"\x03\xe8")), LINGER_S),
    Step("behind inputs that nobody takes", (*ready("hold"), START, *[INPUT] * 400, Hears(b"held")), TURN_S + PONG_S),
    Step("amid a flood over a WebSocket", (*ready("flood"), START, INPUT, Hears(b'"text"')), WRITE_S),
]  # fmt: skip


async def follow(server: Abused, script: tuple[bytes | Hears, ...], name: bytes) -> Raw:
    """A client that has done all of that."""
    raw = await server.connect()
    for what in script:
        if isinstance(what, Hears):
            await raw.hears(what.words)
        else:
            await raw.say(what.replace(NAME, name))
    return raw


async def vanish(server: Abused, step: Step, leave: Leave, name: bytes) -> None:
    """A client vanishes, and the user's next turn is as good as any."""
    with trio.fail_after(SLACK_S):
        beside = await follow(server, step.beside, name) if step.beside else None
        client = await follow(server, step.says, name)
        await leave(client)
        if beside is not None:
            await beside.reset()
        async with Client(server.url, user=name.decode()) as again:
            reasons = [event.reason async for event in again.of("echo").turn("hello") if event.type == "turn.ended"]
        assert reasons == ["done"]


async def fall_silent(server: Abused, names: Iterator[bytes]) -> dict[str, float]:
    """At each step a client does nothing more: how much later than promised the server parts with it, in seconds."""
    began: dict[int, tuple[Step, float]] = {}

    async def begin(step: Step, name: bytes) -> None:
        beside = await follow(server, step.beside, name) if step.beside else None
        client = await follow(server, step.says, name)
        if beside is not None:
            await beside.reset()
        began[client.port] = step, perf_counter()

    async with trio.open_nursery() as nursery:
        for step in STEPS:
            nursery.start_soon(begin, step, next(names))
    late: dict[str, float] = {}
    while began:
        await trio.sleep(0.1)  # nothing tells a client of it, unless it reads
        now = perf_counter()
        for port in began.keys() - server.connections():
            step, since = began.pop(port)
            late[step.name] = now - since - step.waits_s
        for step, since in began.values():
            assert now < since + step.waits_s + SLACK_S, f"{step.name}: still there after {now - since:.1f} s"
    return late


async def test_clients_that_vanish_at_any_step_leave_nothing_and_harm_nobody(tmp_path: Path, is_long, count):
    late, runs = dict[str, float](), 0
    names = (b"user-%06d" % number for number in itertools.count(1))
    limit = trio.CapacityLimiter(AT_ONCE)
    async with abused(tmp_path) as server, witnessed(server) as witness, trio.open_nursery() as silence:

        async def be_silent() -> None:
            late.update(await fall_silent(server, names))

        async def run(step: Step, leave: Leave) -> None:
            async with limit:
                try:
                    await vanish(server, step, leave, next(names))
                except Exception as error:
                    error.add_note(f"{step.name}, {leave.__name__}")
                    raise

        silence.start_soon(be_silent)
        memory = server.memory()
        for _ in range(ROUNDS_LONG if is_long else ROUNDS):
            async with trio.open_nursery() as nursery:
                for step in STEPS:
                    for leave in (Raw.leave, Raw.reset):
                        nursery.start_soon(run, step, leave)
                        runs += 1
        grown, lag_s = server.memory() - memory, await server.lag_s()
    assert len(late) == len(STEPS)
    assert min(late.values()) > -1.0, late  # nobody is cut off who still has time
    assert grown < GROWTH_MIB
    latest = max(late, key=late.__getitem__)
    print(f"{witness}; {grown:.1f} MiB more; its loop was late by {lag_s:.3f} s at most")
    print(f"who fell silent was cut off {late[latest]:.3f} s late at most: {latest}")
    count(left=runs, fell_silent=len(late), witness_turns=witness.turns)
