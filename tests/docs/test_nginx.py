"""The configuration of docs/how-to/deploy-behind-nginx.md, run by nginx in front of a server."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trustme
from proxied import NAME, TOKEN, Site, blocks_of_the_page, free_ports, listens, needs_nginx, nginx, put
from trio_websocket import ConnectionClosed, wrap_client_stream

from ezflow import Audio, Flow, Latest, Module, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run

WITHIN_S = 30

pytestmark = needs_nginx


@module
class InSteps(Module[str, str]):
    """Gives "one", and "two" when it may; remembers that it was cancelled."""

    may: trio.Event = attrs.field(eq=False)
    left: trio.Event = attrs.field(eq=False)

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        try:
            yield "one"
            await self.may.wait()
            yield "two"
        finally:
            self.left.set()


@module
async def seconds(sound: Audio) -> str:
    return f"{sound.duration_s:g}"


@pytest.fixture
def behind_nginx(tmp_path):
    @asynccontextmanager
    async def serving(flow: Flow[Any, Any]) -> AsyncIterator[Site]:
        https, http = free_ports(2)
        settings = Settings(port=0, grace_s=0.5, hosts=[NAME], tokens=[f"{TOKEN} ann"])
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(partial(run, flow, settings, say=lambda _: None, stop=trio.Event()))
                upstream = {"127.0.0.1:3421": f"127.0.0.1:{url.rpartition(':')[2]}"}
                trust = put(blocks_of_the_page()[0], tmp_path, upstream | listens(https, http), trustme.CA())
                await nursery.start(nginx, tmp_path)
                yield Site(https, http, trust)
                nursery.cancel_scope.cancel()

    return serving


async def test_events_come_one_by_one(behind_nginx):
    may, left = trio.Event(), trio.Event()
    async with behind_nginx(InSteps(may, left)) as site:
        async with site.ask("POST", "/turns", {"user": "ann", "input": "x"}) as answer:
            assert (await answer.until("text"))["text"] == "one"
            may.set()  # what was said before has come through: only now is there more to say
            assert (await answer.until("text"))["text"] == "two"
            assert (await answer.until("turn.ended"))["reason"] == "done"


async def test_a_client_that_leaves_ends_its_turn(behind_nginx):
    may, left = trio.Event(), trio.Event()
    async with behind_nginx(InSteps(may, left)) as site:
        async with site.ask("POST", "/turns", {"user": "ann", "input": "x"}) as answer:
            await answer.until("text")
        await left.wait()


async def test_an_interrupt_reaches_a_turn_that_streams(behind_nginx):
    may, left = trio.Event(), trio.Event()
    async with behind_nginx(InSteps(may, left)) as site:
        async with site.ask("POST", "/turns", {"user": "ann", "input": "x"}) as answer:
            await answer.until("text")
            async with site.ask("POST", "/interrupt", {"user": "ann"}) as interrupted:
                assert await interrupted.json() == {"turn": 1}
            assert (await answer.until("turn.ended"))["reason"] == "interrupted"


async def test_a_websocket_works_and_interrupts(behind_nginx):
    may, left = trio.Event(), trio.Event()
    async with behind_nginx(Latest(InSteps(may, left))) as site, trio.open_nursery() as nursery:
        stream, host = await site.connect(), f"{NAME}:{site.port}"
        offered = ["ezflow.v1", f"token.{TOKEN}"]
        headers = [(b"Origin", f"https://{host}".encode())]  # as the playground's page sends it
        socket = await wrap_client_stream(
            nursery, stream, host, "/ws?user=ann", subprotocols=offered, extra_headers=headers
        )
        async with socket:

            async def until(kind: str) -> dict[str, Any]:
                while (event := json.loads(await socket.get_message()))["type"] != kind:
                    pass
                return event

            assert (await until("ready"))["session"] == "ann"
            for frame in ({"type": "start"}, {"type": "input", "data": "x"}):
                await socket.send_message(json.dumps(frame))
            assert (await until("text"))["text"] == "one"
            await socket.send_message('{"type": "interrupt"}')
            assert (await until("interrupted"))["run"] == 1
            await socket.send_message('{"type": "end"}')
            assert (await until("turn.ended"))["reason"] == "done"


async def test_a_recording_of_twenty_megabytes_passes(behind_nginx):
    async with behind_nginx(seconds) as site:
        sound = base64.b64encode(bytes(15_000_000)).decode()
        async with site.ask("POST", "/turns", {"user": "ann", "input": sound}) as answer:
            assert (await answer.until("text"))["text"] == "468.75"


async def test_tokens_hold(behind_nginx):
    async with behind_nginx(seconds) as site:
        async with site.ask("GET", "/flow", token=None) as answer:
            assert answer.status == 401
        async with site.ask("GET", "/health/ready", token=None) as answer:
            assert answer.status == 200
        async with await site.connect() as stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(nursery, stream, f"{NAME}:{site.port}", "/ws?user=ann")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.get_message()
            assert closed.value.reason.code == 1008


async def test_a_plain_request_is_sent_to_https(behind_nginx):
    async with behind_nginx(seconds) as site:
        async with site.ask("GET", "/flow", port=site.plain_port) as answer:
            assert (answer.status, answer.headers["location"]) == (301, f"https://{NAME}/flow")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_a_turn_over_http_2(behind_nginx, tmp_path):
    may, left = trio.Event(), trio.Event()
    may.set()
    async with behind_nginx(InSteps(may, left)) as site:
        host, body = f"{NAME}:{site.port}", '{"user": "ann", "input": "x"}'
        command = ["curl", "-sSN", "--http2", "--insecure", "--noproxy", "*", "--resolve", f"{host}:127.0.0.1"]
        command += [
            "-H",
            f"Authorization: Bearer {TOKEN}",
            "-w",
            "%{http_version}",
            "-d",
            body,
            f"https://{host}/turns",
        ]
        done = await trio.run_process(command, capture_stdout=True)
        *events, version = done.stdout.decode().splitlines()
        assert version == "2"
        assert json.loads(events[-1])["reason"] == "done"
