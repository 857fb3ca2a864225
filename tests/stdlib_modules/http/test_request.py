"""What is sent, what is refused before it is sent, and what is kept out of every message."""

from __future__ import annotations

from typing import Any

import pytest
from http_standin import Peer, standing, whole

from stdlib_modules.http.bodies import File
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendRefused


async def ok(peer: Peer) -> None:
    await peer.send(whole(b"ok"))


async def asked(http: HTTPClient, method: str = "POST", path: str = "/api", **more: Any) -> bytes:
    async with http.stream(method, path, **more) as reply:
        return await reply.read()


@pytest.mark.parametrize(
    ("more", "kind", "body"),
    [
        ({"json": {"text": "好", "n": None}}, "application/json", '{"text":"好","n":null}'.encode()),
        ({"json": None}, "application/json", b"null"),
        ({"content": b"\0\1"}, "application/octet-stream", b"\0\1"),
        ({"form": {"a": "b c", "d": ["1", "2"]}}, "application/x-www-form-urlencoded", b"a=b+c&d=1&d=2"),
        ({}, None, b""),
    ],
)
async def test_a_request_has_the_body_it_was_given(more: dict[str, Any], kind: str | None, body: bytes) -> None:
    async with standing(ok) as server, HTTPClient(server.url) as http:
        assert await asked(http, **more) == b"ok"
    (peer,) = server.asked
    assert (peer.line, peer.body) == ("POST /api HTTP/1.1", body)
    assert (peer.headers.get("content-type"), peer.headers["content-length"]) == (kind, str(len(body)))
    assert peer.headers["host"] == f"127.0.0.1:{server.port}"


async def test_files_are_sent_as_multipart() -> None:
    files = {"file": File(b"RIFF\r\n", 'a".wav'), "other": File(b"x", "x.bin", "audio/x")}
    async with standing(ok) as server, HTTPClient(server.url) as http:
        await asked(http, form={"model": "whisper", "n": 1, "g[]": ["a", "b"]}, files=files)
    (peer,) = server.asked
    boundary = peer.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    parts = peer.body.split(f"--{boundary}".encode())
    named = b'\r\nContent-Disposition: form-data; name="'
    assert parts[1:5] == [
        named + b'model"\r\n\r\nwhisper\r\n',
        named + b'n"\r\n\r\n1\r\n',
        named + b'g[]"\r\n\r\na\r\n',
        named + b'g[]"\r\n\r\nb\r\n',
    ]
    assert parts[5].startswith(named + b'file"; filename="a%22.wav"\r\nContent-Type: audio/')
    assert parts[5].endswith(b"\r\n\r\nRIFF\r\n\r\n")
    assert parts[6:] == [named + b'other"; filename="x.bin"\r\nContent-Type: audio/x\r\n\r\nx\r\n', b"--\r\n"]


async def test_paths_parameters_and_headers_are_added_to_those_of_the_client() -> None:
    async with standing(ok) as server:
        url = server.url.replace("//", "//me:p%40ss@") + "/v1/"
        async with HTTPClient(url, headers={"X-Always": "1", "X-Now": "1"}) as http:
            await asked(http, "GET", "/models?x=1", params={"user": "安 n"}, headers={"x-now": "2"})
    (peer,) = server.asked
    assert peer.line == "GET /v1/models?x=1&user=%E5%AE%89+n HTTP/1.1"
    assert (peer.headers["x-always"], peer.headers["x-now"]) == ("1", "2")
    assert peer.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert "content-length" not in peer.headers


async def test_secrets_are_shown_nowhere() -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(whole(f"no such key: sk-12345 {peer.headers}".encode(), 401))

    async with standing(answer) as server:
        url = server.url.replace("//", "//me:pass-word@")
        async with HTTPClient(url, headers={"Authorization": "Bearer;sk-12345", "x-key": "k-67890"}) as http:
            with pytest.raises(BackendRefused) as caught:
                await asked(http, headers={"x-other": "o-13579"}, params={"key": "q-24680"})
    shown = f"{http!r} {caught.value} {caught.value!r} {caught.value.body} {vars(caught.value)}"
    assert "***" in shown
    for secret in ["pass-word", "sk-12345", "k-67890", "o-13579", "q-24680"]:
        assert secret not in shown


@pytest.mark.parametrize("value", ["sk-123\n", "sk-123 ", "sk-好", "a\r\nb: c"])
async def test_a_header_that_cannot_be_sent_is_refused_unseen(value: str) -> None:
    with pytest.raises(ValueError, match="The header 'Authorization' cannot be sent") as caught:
        HTTPClient("http://127.0.0.1", headers={"Authorization": value})
    assert value.strip() not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://a", "http://", "http://a:b", "http://a/?x=1", "http://好"])
async def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be a server's URL"):
        HTTPClient(url)


async def test_calls_that_cannot_be_meant_are_refused() -> None:
    http = HTTPClient("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="is not open"):
        await asked(http)
    async with http:
        with pytest.raises(RuntimeError, match="is open already"):
            await http.__aenter__()
        with pytest.raises(ValueError, match="one body"):
            await asked(http, json=1, content=b"")
        for path in ["api", "/a b", "/好", "/a\r\nX: y"]:
            with pytest.raises(ValueError, match="cannot be a URL's path"):
                await asked(http, path=path)
        with pytest.raises(ValueError, match="cannot be a method"):
            await asked(http, "GET / HTTP/1.1\r\nX:")
    assert repr(http) == "HTTPClient('http://127.0.0.1:1', server='The server')"
    with pytest.raises(ValueError, match="max_connections=0"):
        HTTPClient("http://127.0.0.1", max_connections=0)
