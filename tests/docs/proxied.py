"""nginx in front of a server, with the configuration of docs/how-to/deploy-behind-nginx.md."""

from __future__ import annotations

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

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-behind-nginx.md"
NAME = "voice.example"
TOKEN = "a-token-of-the-test"

needs_nginx = pytest.mark.skipif(
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


def blocks_of_the_page() -> list[str]:
    return re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def put(text: str, folder: Path, addresses: dict[str, str], authority: trustme.CA) -> ssl.SSLContext:
    """Write a configuration, its addresses and files replaced by the test's and nothing else; gives whom to trust."""
    certificate = authority.issue_cert(NAME, "127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "site.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "site.pem")
    files = {"/etc/ssl/voice.example.pem": folder / "site.pem", "/etc/ssl/voice.example.key": folder / "site.key"}
    for said, meant in {**addresses, **{said: str(file) for said, file in files.items()}}.items():
        assert text.count(said) == 1, said
        text = text.replace(said, meant)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, site=text), encoding="utf-8")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return trust


def listens(https: int, http: int) -> dict[str, str]:
    return {"listen 443 ssl http2;": f"listen 127.0.0.1:{https} ssl http2;", "listen 80;": f"listen 127.0.0.1:{http};"}


async def nginx(folder: Path, task_status: trio.TaskStatus[None]) -> None:
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
