"""The configuration of docs/how-to/deploy-behind-nginx.md, run by nginx in front of a server."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import attrs
import h11
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, wrap_client_stream

from ezflow import Audio, Flow, Latest, Module, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-behind-nginx.md"
NAME = "voice.example"
TOKEN = "a-token-of-the-test"
WITHIN_S = 30

pytestmark = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed: apt-get install --no-install-recommends nginx-light"
)

# What nginx wants around a site's configuration; everything it writes goes into the test's folder.
AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


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


@attrs.frozen
class Site:
    """What is behind nginx, and how to reach nginx."""

    port: int
    plain_port: int
    trust: ssl.SSLContext

    async def connect(self, port: int | None = None) -> Any:
        stream = await trio.open_tcp_stream("127.0.0.1", port or self.port)
        return trio.SSLStream(stream, self.trust, server_hostname=NAME) if port is None else stream

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, port: int | None = None
    ) -> AsyncIterator[Answer]:
        """A request on a connection of its own."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = [("Host", f"{NAME}:{self.port}"), ("Content-Length", str(len(data)))]
        headers += [("Authorization", f"Bearer {token}")] if token else []
        async with await self.connect(port) as stream:
            http = h11.Connection(h11.CLIENT)
            head = http.send(h11.Request(method=method, target=path, headers=headers))
            assert head is not None
            await stream.send_all(head + (http.send(h11.Data(data)) or b"") + (http.send(h11.EndOfMessage()) or b""))
            answer = Answer(http, stream)
            await answer.begin()
            yield answer


class Answer:
    def __init__(self, http: h11.Connection, stream: Any) -> None:
        self._http, self._stream, self._rest = http, stream, b""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self) -> None:
        head = await self._next()
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some())
        return event

    async def event(self) -> dict[str, Any] | None:
        """The next line of NDJSON; None at the end."""
        while b"\n" not in self._rest:
            piece = await self._next()
            if not isinstance(piece, h11.Data):
                return None
            self._rest += piece.data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def json(self) -> Any:
        """The whole answer."""
        while isinstance(piece := await self._next(), h11.Data):
            self._rest += piece.data
        return json.loads(self._rest)

    async def until(self, kind: str) -> dict[str, Any]:
        while (event := await self.event()) is not None:
            if event["type"] == kind:
                return event
        raise AssertionError(f"no {kind} came")


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [place.getsockname()[1] for place in held]
    for place in held:
        place.close()
    return ports


def site_of_the_page(folder: Path, upstream: int, https: int, http: int, authority: trustme.CA) -> str:
    """The page's configuration, its addresses and files replaced by the test's; nothing else."""
    (text,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    certificate = authority.issue_cert(NAME)
    certificate.private_key_pem.write_to_path(folder / "site.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "site.pem")
    for said, meant in {
        "127.0.0.1:3421": f"127.0.0.1:{upstream}",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{https} ssl http2;",
        "listen 80;": f"listen 127.0.0.1:{http};",
        "/etc/ssl/voice.example.pem": str(folder / "site.pem"),
        "/etc/ssl/voice.example.key": str(folder / "site.key"),
    }.items():
        assert text.count(said) == 1, said
        text = text.replace(said, meant)
    return text


@pytest.fixture
def behind_nginx(tmp_path):
    @asynccontextmanager
    async def serving(flow: Flow[Any, Any]) -> AsyncIterator[Site]:
        https, http = free_ports(2)
        settings = Settings(port=0, grace_s=0.5, hosts=[NAME], tokens=[f"{TOKEN} ann"])
        authority = trustme.CA()
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(partial(run, flow, settings, say=lambda _: None, stop=trio.Event()))
                site = site_of_the_page(tmp_path, int(url.rpartition(":")[2]), https, http, authority)
                (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path, site=site), encoding="utf-8")
                await nursery.start(_nginx, tmp_path)
                yield Site(https, http, trust)
                nursery.cancel_scope.cancel()

    return serving


async def _nginx(folder: Path, task_status: trio.TaskStatus[None]) -> None:
    """Run nginx until cancelled."""
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    async with trio.open_nursery() as nursery:
        nginx = await nursery.start(partial(trio.run_process, command, stderr=PIPE, check=False))
        said = b""
        while b"event method" not in said:  # its ports are open by then
            piece = await nginx.stderr.receive_some()
            assert piece, said.decode()
            said += piece
        task_status.started()
        async for _ in nginx.stderr:
            pass


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
