"""Frames and requests for turns that are over, that never were, and that are another user's: no turn is harmed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from reachable import Server, Socket, becomes, interrupt, serving

from ezflow import Latest
from ezflow.client import Client, Closed, Refused
from ezflow.testing import FakeLLM, FakeTTS

TOKENS = ("a-token-of-ann-and-no-other ann", "a-token-of-bob-and-no-other bob")
WITHIN_S = 20.0
ANSWER = "one two three"
FLOW = Latest(FakeLLM(ANSWER).shown() >> FakeTTS(char_s=0.01))


@asynccontextmanager
async def answered(server: Server, user: str) -> AsyncIterator[tuple[Socket, list[dict[str, Any]]]]:
    """A socket whose first turn has been answered and is over, and the events of that turn."""
    async with trio.open_nursery() as nursery:
        socket = await Socket.connect(nursery, server, "live", user)
        try:
            yield socket, await turn_on(socket)
        finally:
            await socket.vanish()
            nursery.cancel_scope.cancel()


async def turn_on(socket: Socket) -> list[dict[str, Any]]:
    """A whole turn's events."""
    for frame in ({"type": "start"}, {"type": "input", "data": "hello"}, {"type": "end"}):
        await socket.send_raw(json.dumps(frame))
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != "turn.ended":
        event = await socket.event()
        assert event is not None
        events.append(event)
    return events


def remembered(server: Server, user: str) -> list[tuple[str, str, bool]]:
    return [(message.role, message.content, message.cut) for message in server.places[user].history.messages]


async def test_words_for_turns_that_are_over_never_were_or_are_anothers_change_nothing(count):
    """A turn's number counts within its session, so nobody can name another's turn, only one of the same number."""
    with trio.fail_after(WITHIN_S):
        async with serving({"live": FLOW}) as server, answered(server, "ann") as ann, answered(server, "bob") as bob:
            (hers, heard), (his, _) = ann, bob
            history = [("user", "hello", False), ("assistant", ANSWER, False)]
            sound = next(event for event in heard if event["type"] == "audio")
            assert (heard[-1]["turn"], heard[-1]["reason"]) == (1, "done")
            reports = [
                {"type": "played", "turn": turn, "seq": seq, "ms": ms}
                for turn in (1, 2, 999, 2**53)
                for seq in (sound["seq"], 10_000)
                for ms in (0, 1e12)
            ]
            for report in reports:
                await hers.send_raw(json.dumps(report))
                await his.send_raw(json.dumps(report))
            for late, error in (("input", "TurnClosedError"), ("end", "TurnClosedError"), ("interrupt", None)):
                await hers.send(late, **({"data": "late"} if late == "input" else {}))
                said = await hers.event()
                assert said == {"type": "interrupted", "turn": None} if error is None else said["error"] == error
            for named in ("input", "end", "interrupt"):  # none of them takes a turn's number
                await hers.send(named, turn=1, **({"data": "x"} if named == "input" else {}))
                said = await hers.event()
                assert (said["error"], said["path"]) == ("InputError", "turn")
            assert await interrupt(server, "ann") is None
            assert await interrupt(server, "nobody") is None
            for user in ("ann", "bob"):
                assert remembered(server, user) == history
            for socket in (hers, his):
                again = await turn_on(socket)
                assert Counter(event["type"] for event in again) == Counter(event["type"] for event in heard)
                assert {event["turn"] for event in again} == {2}
            for user in ("ann", "bob"):
                assert remembered(server, user) == history * 2
    count(reports=2 * len(reports), late=8)


@pytest.mark.parametrize("running", ["http", "live"])
async def test_another_users_token_reaches_no_turn_and_harms_none(running, count):
    """Who asks with bob's token to be ann, while her turn runs."""
    with trio.fail_after(WITHIN_S):
        async with serving({"live": Latest(FakeLLM("word " * 200, each_s=0.005))}, tokens=TOKENS) as server:
            ann, bob = (Client(server.url, user="ann", token=line.split()[0]) for line in TOKENS)
            async with ann, bob:
                turn = ann.of("live").turn("hello") if running == "http" else ann.of("live").live()
                async with turn:
                    if running == "live":
                        await turn.send("hello")
                        await turn.end()
                    events = [await anext(turn) for _ in range(5)]
                    for ask in (bob.interrupt, bob.of("live").turn("x").begun):
                        with pytest.raises(Refused) as refused:
                            await ask()
                        assert refused.value.status == 403
                    with pytest.raises(Closed) as closed:
                        await bob.of("live").live().begun()
                    assert closed.value.code == 1008
                    events += [event async for event in turn]
                assert [event.seq for event in events] == list(range(len(events)))
                assert events[-1].reason == "done"
            await becomes(lambda: not server.places["ann"].leases, "ann has left")
            assert [role for role, *_ in remembered(server, "ann")] == ["user", "assistant"]
    count(asked=3)
