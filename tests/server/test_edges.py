"""What is refused before any route: requests by a foreign site's page, and by a name that is not the server's."""

from __future__ import annotations

import json

import pytest

from ezflow.server.config import Settings
from ezflow.server.edges import _is_ours
from ezflow.testing import FakeLLM

BODY = json.dumps({"user": "ann", "input": "x"}).encode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def status(server, method="POST", path="/turns", **headers):
    async with server.request(method, path, BODY if method == "POST" else b"", **headers) as response:
        body = await response.read()
        if response.status == 403:
            assert json.loads(body)["error"] == "Forbidden"
        return response.status


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:3421", "127.8.9.10", "[::1]:3421", "[::1]"])
async def test_a_page_of_its_own_and_a_client_without_a_page_are_served(serving, host):
    async with serving(FakeLLM("hi")) as server:
        assert await status(server, Host=host) == 200
        assert await status(server, Host=host, Origin=f"http://{host}") == 200
        assert await status(server, Host=host, Origin=f"https://{host}") == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:81", "https://localhost.evil.example", "localhost", ""]
)
async def test_a_page_of_a_foreign_site_is_refused(serving, origin):
    async with serving(FakeLLM("hi")) as server:
        for method, path in (("POST", "/turns"), ("POST", "/interrupt"), ("POST", "/input"), ("GET", "/flow")):
            assert await status(server, method, path, Origin=origin) == 403
        assert await status(server, "GET", "/ws?user=ann", **UPGRADE, Origin=origin) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3421", "127.0.0.1.evil.example", "192.168.1.5", "["])
async def test_a_name_that_is_not_the_servers_is_refused_though_the_page_has_it_too(serving, host):
    async with serving(FakeLLM("hi")) as server:
        assert await status(server, Host=host) == 403
        assert await status(server, Host=host, Origin=f"http://{host}") == 403
        assert await status(server, "GET", "/ws?user=ann", **UPGRADE, Host=host) == 403


async def test_listed_origins_and_hosts_are_served(serving):
    async with serving(FakeLLM("hi"), origins=("https://app.example",), hosts=("voice.example",)) as server:
        assert await status(server, Origin="https://app.example") == 200
        assert await status(server, Origin="http://app.example") == 403
        assert await status(server, Host="Voice.example:8080") == 200
        assert await status(server, Host="voice.example", Origin="https://voice.example") == 200


def test_a_server_on_every_address_is_called_by_any_address_and_no_unlisted_name():
    public = Settings(host="0.0.0.0", insecure=True, hosts=("box.lan",))
    assert _is_ours("192.168.1.5", public)
    assert _is_ours("2001:db8::1", public)
    assert _is_ours("box.lan", public)
    assert not _is_ours("evil.example", public)
    assert _is_ours("box.lan", Settings(host="Box.lan", insecure=True))
