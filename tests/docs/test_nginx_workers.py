"""Fifty users behind nginx, with two workers, by the configuration of docs/how-to/deploy-behind-nginx.md."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trustme
from proxied import NAME, TOKEN, blocks_of_the_page, free_ports, listens, needs_nginx, nginx, put
from supervised import supervised

from ezflow.client import Client, ClientError, Received, Refused

pytestmark = needs_nginx

# Some that a URL has to escape.
USERS = [f"user {number} (of 50)!" if number % 5 == 0 else f"user-{number}" for number in range(50)]

# Tells which process answers, and what it remembers of its user.
FLOW = """
import os
import signal
from collections.abc import AsyncIterator

import trio

from ezflow import Latest, Module, Turn, module


@module
class Remembers(Module[str, str]):
    def decode(self, payload: object) -> str:
        if payload == "die":  # before there is any answer
            os.kill(os.getpid(), signal.SIGKILL)
        return str(payload)

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        known = " ".join(message.content for message in turn.history.messages if message.role == "user")
        turn.remember(text)
        yield f"{os.getpid()}: {known}"
        if text == "stay":
            await trio.sleep_forever()


talks = Remembers()
flows = {"talks": talks, "live": Latest(talks)}
"""


@asynccontextmanager
async def two_workers_behind_nginx(folder: Path) -> AsyncIterator[tuple[list[str], Callable[[str], Client]]]:
    """The workers' own URLs; and what makes a client of a user."""
    https, http, port = free_ports(3)
    one, other = _two_in_a_row()
    options = ("--port", str(port), "--workers", "2", "--worker-port", str(one), "--allow-host", NAME)
    (folder / "tokens").write_text(TOKEN)
    async with supervised(folder, *options, "--tokens", "tokens", flow=FLOW) as server:
        await server.until("Workers: .*\n")
        single, several = blocks_of_the_page()
        text, replaced = re.subn(r"upstream ezflow \{.*?\n\}\n", lambda _: several, single, flags=re.DOTALL)
        assert replaced == 1
        upstreams = {"127.0.0.1:3422": f"127.0.0.1:{one}", "127.0.0.1:3423": f"127.0.0.1:{other}"}
        trust = put(text, folder, upstreams | listens(https, http), trustme.CA())
        async with trio.open_nursery() as nursery:
            await nursery.start(nginx, folder)

            def client(user: str) -> Client:
                return Client(f"https://127.0.0.1:{https}", user=user, token=TOKEN, tls=trust)

            yield [f"http://127.0.0.1:{one}", f"http://127.0.0.1:{other}"], client
            nursery.cancel_scope.cancel()


def _two_in_a_row() -> tuple[int, int]:
    while True:
        (port,) = free_ports(1)
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port, port + 1


async def said(client: Client, text: str) -> tuple[int, str]:
    """Which process answers, and what it remembers."""
    texts = [event.item async for event in client.turn(text) if event.type == "text"]
    process, _, known = texts[0].partition(": ")
    return int(process), known


async def said_live(client: Client, text: str) -> tuple[int, str]:
    """The same by a WebSocket."""
    async with client.of("live").live() as live:
        await live.send(text)
        await live.end()
        texts = [event.item async for event in live if event.type == "text"]
    process, _, known = texts[0].partition(": ")
    return int(process), known


async def for_all(do: Callable[[str], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for user in USERS:
            nursery.start_soon(do, user)


@pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")
async def test_fifty_users_stay_with_their_worker_and_one_that_is_killed_is_replaced(tmp_path):
    async with two_workers_behind_nginx(tmp_path) as (urls, client), AsyncExitStack() as stack:
        clients = {user: await stack.enter_async_context(client(user)) for user in USERS}
        home: dict[str, int] = {}

        async def converse(user: str) -> None:
            home[user], known = await said(clients[user], "one")
            assert known == ""
            assert await said_live(clients[user], "two") == (home[user], "one")
            assert await said(clients[user], "three") == (home[user], "one two")

        await for_all(converse)
        shares = Counter(home.values())
        assert len(shares) == 2
        print("users of the two workers:", *shares.values())

        turns: dict[str, Received] = {}

        async def stay(user: str) -> None:
            turns[user] = await stack.enter_async_context(clients[user].turn("stay"))
            assert [(await anext(turns[user])).type for _ in range(2)] == ["turn.started", "text"]

        async def interrupt(user: str) -> None:
            async with client(user) as another:
                assert await another.interrupt() == turns[user].id
            assert [event.reason async for event in turns[user]][-1] == "interrupted"

        await for_all(stay)
        await for_all(interrupt)

        # One is killed: its turns break, the others' go on, until they are interrupted.
        await for_all(stay)
        killed = home[USERS[0]]
        told: list[float] = []
        visitor = await stack.enter_async_context(await _user_of(killed, client))
        since = trio.current_time()
        with pytest.raises(Refused, match="502"):  # it dies before it answers this one
            await said(visitor, "die")

        async def see(user: str) -> None:
            if home[user] == killed:
                with pytest.raises(ClientError):
                    async for _ in turns[user]:
                        pass
                told.append(trio.current_time() - since)
            else:
                await interrupt(user)

        await for_all(see)
        assert len(told) == shares[killed]
        print(f"{len(told)} turns of the killed worker ended with an error within {max(told):.3f} s")
        assert max(told) < 5  # by far; one second on a machine that is not busy

        # Who comes before there is another waits for it. It knows nothing of what was in memory.
        async def go_on(user: str) -> None:
            process, known = await said(clients[user], "again")
            if home[user] == killed:
                assert process not in home.values()
                assert known == ""
            else:
                assert (process, known) == (home[user], "one two three stay stay")

        await for_all(go_on)
        print(f"all users went on {trio.current_time() - since:.2f} s after the kill")
        assert len({await _process(url) for url in urls} & set(home.values())) == 1


async def _user_of(process: int, client: Callable[[str], Client]) -> Client:
    """A client of a further user, whom nginx sends to that process."""
    for number in range(100):
        visitor = client(f"visitor {number}")
        async with visitor:
            if (await said(visitor, "hello"))[0] == process:
                return client(visitor.user)
    raise AssertionError


async def _process(url: str) -> int:
    async with Client(url, user="an operator", token=TOKEN) as client:
        return (await said(client, ""))[0]
