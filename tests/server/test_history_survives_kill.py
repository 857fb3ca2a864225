"""A server that is killed loses no turn whose end its client was told: real processes, real sockets, SIGKILL.

`TEST_KILLS=100 pytest …` kills more often than the few times of a usual run.
"""

from __future__ import annotations

import json
import os
import random
import sys
from functools import partial
from urllib.parse import urlsplit

import attrs
import trio
from programs import answer, killable

from ezflow.client import Client, ClientError

KILLS = int(os.environ.get("TEST_KILLS", "4"))
FLOW = """
from ezflow.testing import FakeLLM
flow = FakeLLM("an answer to {}", 0.001, 0.001)
"""


@attrs.define
class Turns:
    """What a client knows of its turns: the number of the last that it began, and those whose end it was told."""

    begun: int = 0
    ended: set[int] = attrs.field(factory=set)


SERVE = [sys.executable, "-m", "ezflow", "serve", "pipeline.py", "--port", "0", "--store", "sqlite:///history.db"]


async def over_http(url: str, user: str, turns: Turns) -> None:
    async with Client(url, user=user) as client:
        while True:
            turns.begun += 1
            async for event in client.turn(f"question {turns.begun}"):
                if event.type == "turn.ended":
                    turns.ended.add(turns.begun)


async def over_websocket(url: str, user: str, turns: Turns) -> None:
    async with Client(url, user=user) as client:
        while True:
            turns.begun += 1
            async with client.live() as live:
                await live.send(f"question {turns.begun}")
                await live.end()
                async for event in live:
                    if event.type == "turn.ended":
                        turns.ended.add(turns.begun)


async def over_ezpipe(url: str, user: str, turns: Turns) -> None:
    while True:
        turns.begun += 1
        body = json.dumps({"user": user, "Input": f"question {turns.begun}"}).encode()
        head = f"POST /input HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as stream:
            await stream.send_all(head.encode() + body)
            async for piece in stream:
                if rb"\"Is_End\": true" in piece:
                    turns.ended.add(turns.begun)


async def until_killed(client: object, *arguments: object) -> None:
    try:
        await client(*arguments)  # type: ignore[operator]
    except (ClientError, OSError, trio.BrokenResourceError):
        return  # the server is gone


async def check(url: str, user: str, turns: Turns) -> int:
    """What the server remembers of a user; each turn that has ended is there, whole, once and in order."""
    body = await trio.to_thread.run_sync(answer, f"{url}/history?user={user}")
    questions: list[int] = []
    for message in body["messages"]:
        if message["role"] == "user":
            questions.append(int(message["content"].removeprefix("question ")))
        elif questions[-1] in turns.ended:
            assert (message["content"], message["cut"]) == (f"an answer to question {questions[-1]}", False)
        else:
            assert f"an answer to question {questions[-1]}".startswith(message["content"])
    assert questions == sorted(set(questions)), user
    expected = {number for number in turns.ended if not questions or number >= questions[0]}
    assert expected <= set(questions), user
    assert len(body["messages"]) >= min(200, 2 * len(turns.ended)), user
    return len(expected)


async def test_no_turn_whose_end_was_told_is_lost_when_the_server_is_killed(tmp_path):
    (tmp_path / "pipeline.py").write_text(FLOW)
    chance = random.Random(7)
    ways = (over_http, over_websocket, over_ezpipe)
    clients = {f"{way.__name__}-{number}": (way, Turns()) for way in ways for number in (1, 2)}
    for _ in range(KILLS):
        async with killable(SERVE, cwd=tmp_path) as (url, process), trio.open_nursery() as nursery:
            for user, (_, turns) in clients.items():
                await check(url, user, turns)
            for user, (way, turns) in clients.items():
                nursery.start_soon(partial(until_killed, way, url, user, turns))
            await trio.sleep(chance.uniform(0.05, 0.8))
            process.kill()
    async with killable(SERVE, cwd=tmp_path) as (url, _):
        found = [await check(url, user, turns) for user, (_, turns) in clients.items()]
    assert all(found), found
    print(f"{KILLS} kills, {sum(len(turns.ended) for _, turns in clients.values())} turns had ended")
