"""Clients that flood, that send a byte at a time, and that send 100 MB: it costs bounded memory, and nobody's turn.

The server is a process of its own, with the limits that it has when nobody sets any. Its memory is what the system
says of it: the most that it held during each attack.
"""

from __future__ import annotations

import resource
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import trio
from abused import Abused, Raw, abused, witnessed
from spoken_bytes import CONTINUED, PING, TEXT, chunk, frame, head, post, upgrade

MIB = 1024 * 1024
BIG, PIECE = 100 * MIB, 64 * 1024
# What one client may have the server hold: a body, which is decoded, and the pieces that it came in.
MOST_MIB = 96.0
HELD_UP_S = 10.0  # a turn beside an attack, on a machine that does other things too
MOST_CONNECTIONS = 2000  # each is a third of a millisecond to the server when it ends, and they end together
WITHIN_S = 300.0
ASK = b'{"user":"mallory","input":"hello"}'
CHUNKED = b"Transfer-Encoding: chunked"


async def pour(raw: Raw, pieces: Iterable[bytes]) -> bytes:
    """Send all, or as much as the server takes; gives the end of what it answers until it closes the connection."""
    answers: list[bytes] = []

    async def listen() -> None:
        answers.append(await raw.rest())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        with suppress(trio.BrokenResourceError):
            for piece in pieces:
                await raw.say(piece)
    return answers[0]


async def socket_to(server: Abused, flow: str) -> Raw:
    raw = await server.connect()
    await raw.say(upgrade(f"/{flow}/ws", b"mallory-%d" % raw.port))  # whose rate of starts is its own
    await raw.hears(b'"ready"')
    return raw


def bytewise(raw: Raw, data: bytes) -> Iterable[bytes]:
    """Each byte, which the system sends at once."""
    raw.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return (data[place : place + 1] for place in range(len(data)))


# ---- 100 MB


async def a_body_that_says_how_big_it_is(server: Abused, more: int) -> None:
    raw = await server.connect()
    body = repeat(bytes(PIECE), BIG // PIECE)
    answer = await pour(raw, [head("/echo/turns", b"Content-Length: %d" % BIG), *body])
    assert b" 413 " in answer


async def a_body_in_chunks_without_end(server: Abused, more: int) -> None:
    raw = await server.connect()
    answer = await pour(raw, [head("/echo/turns", CHUNKED), *repeat(chunk(bytes(PIECE)), BIG // PIECE)])
    assert b" 413 " in answer


async def a_frame_that_says_how_big_it_is(server: Abused, more: int) -> None:
    raw = await socket_to(server, "echo")
    answer = await pour(raw, [frame(TEXT, b"", size=BIG), *repeat(bytes(PIECE), BIG // PIECE)])
    assert b"\x88\x02\x03\xf1" in answer  # 1009


async def a_message_in_fragments_without_end(server: Abused, more: int) -> None:
    raw = await socket_to(server, "echo")
    fragment = frame(CONTINUED, b" " * PIECE, final=False)
    answer = await pour(raw, [frame(TEXT, b"", final=False), *repeat(fragment, BIG // PIECE)])
    assert b"\x88\x02\x03\xf1" in answer


async def a_head_without_end(server: Abused, more: int) -> None:
    raw = await server.connect()
    await pour(raw, [b"GET /", *repeat(b"x" * PIECE, BIG // PIECE)])


# ---- one byte at a time


async def a_request_in_segments_of_a_byte(server: Abused, more: int) -> None:
    raw = await server.connect()
    for byte in bytewise(raw, post("/echo/turns", ASK)):
        await raw.say(byte)
    await raw.hears(b'"done"')


async def a_body_in_chunks_of_a_byte(server: Abused, more: int) -> None:
    raw = await server.connect()
    await raw.say(head("/echo/turns", CHUNKED))
    for _ in range(20 * more):
        await raw.say(chunk(b" ") * 1000)
    await raw.say(chunk(ASK) + chunk(b""))
    await raw.hears(b'"done"')


async def a_frame_in_segments_of_a_byte(server: Abused, more: int) -> None:
    raw = await socket_to(server, "echo")
    for byte in bytewise(raw, frame(TEXT, b'{"type":"ping"}')):
        await raw.say(byte)
    await raw.hears(b'"pong"')


async def a_message_in_fragments_of_a_byte(server: Abused, more: int) -> None:
    await _fragments(server, b" ", 50 * more)


async def a_message_in_fragments_of_nothing(server: Abused, more: int) -> None:
    await _fragments(server, b"", 50 * more)


async def _fragments(server: Abused, each: bytes, thousands: int) -> None:
    raw = await socket_to(server, "echo")
    await raw.say(frame(TEXT, b"", final=False))
    for _ in range(thousands):
        await raw.say(frame(CONTINUED, each, final=False) * 1000)
    await raw.say(frame(CONTINUED, b'{"type":"ping"}'))
    await raw.hears(b'"pong"')


# ---- more than anybody needs


async def messages(server: Abused, more: int) -> None:
    await _messages(server, frame(TEXT, b'{"type":"ping"}'), 4 * more)


async def messages_that_do_not_fit(server: Abused, more: int) -> None:
    await _messages(server, frame(TEXT, b'{"type":"pung"}'), 4 * more)


async def inputs_without_a_turn(server: Abused, more: int) -> None:
    await _messages(server, frame(TEXT, b'{"type":"input","data":"x"}'), 4 * more)


async def starts(server: Abused, more: int) -> None:
    await _messages(server, frame(TEXT, b'{"type":"start"}'), more)


async def pings(server: Abused, more: int) -> None:
    await _messages(server, frame(PING, b"x" * 125), 4 * more)


async def _messages(server: Abused, message: bytes, thousands: int) -> None:
    raw = await socket_to(server, "echo")

    async def flood() -> None:
        for _ in range(thousands):
            await raw.say(message * 1000)
        await raw.say(frame(TEXT, b'{"type":"the last"}'))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await raw.hears(b"the last")
    await raw.leave()


async def messages_whose_answers_nobody_reads(server: Abused, more: int) -> None:
    """Until the server reads no more of them either. That it has done with the client 10 s later is waited for in the
    long form alone.
    """
    raw = await socket_to(server, "echo")
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # so that few fill what the system holds of them
        raw.stream.setsockopt(socket.SOL_SOCKET, buffer, 4096)
    taken = 0

    async def flood() -> None:
        nonlocal taken
        with suppress(trio.BrokenResourceError):
            while True:
                await raw.say(frame(TEXT, b'{"type":"pung"}') * 100)
                taken += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        before, answered = -1, 0
        while answered < 50:  # others, and meanwhile nothing is taken of this client
            await server.get("/health/live")
            before, answered = taken, answered + 1 if taken == before else 0
        if more == 1:
            nursery.cancel_scope.cancel()


async def requests_ahead_of_their_answers(server: Abused, more: int) -> None:
    raw = await server.connect()
    await pour(raw, repeat(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, 3 * more))


async def requests_of_one_user(server: Abused, more: int) -> None:
    """Each on a connection of its own."""
    statuses = Counter[bytes]()

    async def ask() -> None:
        for _ in range(20 * more):
            raw = await server.connect()
            answer = await pour(raw, [post("/echo/turns", ASK, b"Connection: close")])
            statuses[answer.split(b" ", 2)[1]] += 1
            await trio.aclose_forcefully(raw.stream)

    async with trio.open_nursery() as nursery:
        for _ in range(25):
            nursery.start_soon(ask)
    assert statuses.keys() == {b"200", b"429"}, statuses


async def connections(server: Abused, more: int) -> None:
    """At once, and gone at once: no more than the system lets the two processes have."""
    some = min(500 * more, MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
    raws = [await server.connect() for _ in range(some)]
    for raw in raws:
        await raw.say(b"GET / HT")
    for raw in raws:
        await raw.reset()


ATTACKS = [
    a_body_that_says_how_big_it_is,
    a_body_in_chunks_without_end,
    a_frame_that_says_how_big_it_is,
    a_message_in_fragments_without_end,
    a_head_without_end,
    a_request_in_segments_of_a_byte,
    a_body_in_chunks_of_a_byte,
    a_frame_in_segments_of_a_byte,
    a_message_in_fragments_of_a_byte,
    a_message_in_fragments_of_nothing,
    messages,
    messages_that_do_not_fit,
    inputs_without_a_turn,
    starts,
    pings,
    messages_whose_answers_nobody_reads,
    requests_ahead_of_their_answers,
    requests_of_one_user,
    connections,
]


async def test_who_sends_too_much_costs_bounded_memory_and_nobody_elses_turn(tmp_path: Path, is_long, count):
    more = 10 if is_long else 1
    async with abused(tmp_path) as server, witnessed(server) as witness:
        for attack in ATTACKS:
            server.forget_peak()
            memory, turns, witness.worst_s = server.memory(), witness.turns, 0.0
            begun = trio.current_time()
            try:
                with trio.fail_after(WITHIN_S):
                    await attack(server, more)
            except BaseException as error:
                error.add_note(attack.__name__)
                raise
            finally:
                server.hang_up()
            took_s, peak = trio.current_time() - begun, server.memory("VmHWM") - memory
            figures = (
                f"{took_s:6.2f} s, {peak:5.1f} MiB, {witness.turns - turns:4} turns, worst {witness.worst_s:.3f} s"
            )
            print(f"{attack.__name__:36} {figures}")
            assert peak < MOST_MIB, attack.__name__
            assert witness.worst_s < HELD_UP_S, attack.__name__
        print(f"its loop was late by {await server.lag_s():.3f} s at most")
    count(attacks=len(ATTACKS), witness_turns=witness.turns)
