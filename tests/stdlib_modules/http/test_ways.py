"""The way to a server: TLS, proxies, and what the environment says of them."""

from __future__ import annotations

import pytest
import trio
from http_standin import Peer, Trust, proxying, standing, whole

from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendUnreachable

VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


async def ok(peer: Peer) -> None:
    await peer.send(whole(b"ok"))


async def asked(http: HTTPClient) -> bytes:
    async with http.stream("POST", "/api", content=b"sent") as reply:
        return await reply.read()


async def test_tls_is_spoken_and_its_connection_kept(trust: Trust) -> None:
    async with standing(ok, trust.server()) as server, HTTPClient(server.url, tls=trust.client) as http:
        assert [await asked(http) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


async def test_a_certificate_that_is_not_trusted_is_refused(trust: Trust) -> None:
    async with standing(ok, trust.server()) as server, HTTPClient(server.url) as http:
        with pytest.raises(
            BackendUnreachable, match=r"is not trusted: its certificate is not valid for 127.0.0.1"
        ) as caught:
            await asked(http)
        assert (server.asked, http.slots.free) == ([], 100)
        await server.all_closed()
    assert not caught.value.transient


async def test_a_certificate_of_another_name_is_refused(trust: Trust) -> None:
    async with standing(ok, trust.server("other.test")) as server, HTTPClient(server.url, tls=trust.client) as http:
        with pytest.raises(BackendUnreachable, match=r"not valid for 127.0.0.1: IP address mismatch"):
            await asked(http)


async def test_a_server_that_speaks_no_tls_is_told_as_such(trust: Trust) -> None:
    async def closes(peer: Peer) -> None:
        raise AssertionError

    async with standing(closes) as server:
        async with HTTPClient(server.url.replace("http:", "https:"), tls=trust.client, connect_s=0.05) as http:
            with pytest.raises(BackendUnreachable, match=r"no connection within 0.05 s"):
                await asked(http)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, trio.aclose_forcefully, 0)
        port = listeners[0].socket.getsockname()[1]
        async with HTTPClient(f"https://127.0.0.1:{port}", tls=trust.client) as http:
            with pytest.raises(BackendUnreachable, match=r"does not speak TLS.*https:// right"):
                await asked(http)
        nursery.cancel_scope.cancel()


async def test_a_tls_connection_that_the_server_closed_while_idle_is_replaced_unnoticed(trust: Trust) -> None:
    async def answer(peer: Peer) -> None:
        await ok(peer)
        await peer.stream.aclose()

    async with standing(answer, trust.server()) as server, HTTPClient(server.url, tls=trust.client) as http:
        for _ in range(2):
            assert await asked(http) == b"ok"
            await server.all_closed()
    assert server.connections == 2


async def test_a_tunnel_through_a_proxy_is_kept_for_the_next_request(trust: Trust) -> None:
    async with standing(ok, trust.server("model.test")) as server, proxying() as proxy:
        url = f"https://model.test:{server.port}"
        way = proxy.url.replace("//", "//me:p%40ss@")
        async with HTTPClient(url, tls=trust.client, proxy=way) as http:
            assert [await asked(http), await asked(http)] == [b"ok", b"ok"]
        assert proxy.lines == [f"CONNECT model.test:{server.port} HTTP/1.1"]
        assert proxy.authorizations == ["Basic bWU6cEBzcw=="]
        assert [peer.headers.get("proxy-authorization") for peer in server.asked] == [None, None]
        assert server.asked[0].headers["host"] == f"model.test:{server.port}"


async def test_the_certificate_is_checked_behind_a_proxy_too(trust: Trust) -> None:
    async with standing(ok, trust.server("other.test")) as server, proxying() as proxy:
        async with HTTPClient(f"https://model.test:{server.port}", tls=trust.client, proxy=proxy.url) as http:
            with pytest.raises(BackendUnreachable, match=r"not valid for model.test"):
                await asked(http)


async def test_a_proxy_passes_plain_requests_on() -> None:
    async with standing(ok) as server, proxying() as proxy:
        way = proxy.url.replace("//", "//me:secret@")
        async with HTTPClient(f"http://model.test:{server.port}/v1", proxy=way) as http:
            assert await asked(http) == b"ok"
        assert proxy.lines == [f"POST http://model.test:{server.port}/v1/api HTTP/1.1"]
        assert proxy.authorizations == ["Basic bWU6c2VjcmV0"]
        assert (server.asked[0].line, server.asked[0].body) == ("POST /v1/api HTTP/1.1", b"sent")


@pytest.mark.parametrize(
    ("status", "said"), [(407, "put the name and password"), (403, "answered 403"), (503, "answered 503")]
)
async def test_a_proxy_that_refuses_is_named_without_its_password(status: int, said: str, trust: Trust) -> None:
    async with proxying(refuse=status) as proxy:
        way = proxy.url.replace("//", "//me:secret@")
        async with HTTPClient("https://model.test", tls=trust.client, proxy=way, server="Dify") as http:
            with pytest.raises(BackendUnreachable, match=f"Dify at https://model.test/api .*{said}") as caught:
                await asked(http)
        assert f"the proxy 127.0.0.1:{proxy.port} answered {status}" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert (caught.value.transient, http.slots.free) == (status == 503, 100)


async def test_a_proxy_that_is_not_there_is_named(trust: Trust) -> None:
    async with HTTPClient("https://model.test", tls=trust.client, proxy="http://127.0.0.1:1") as http:
        with pytest.raises(BackendUnreachable, match=r"cannot be reached: the proxy 127.0.0.1:1: Connection refused"):
            await asked(http)


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [("http", "HTTP_PROXY"), ("http", "http_proxy"), ("https", "HTTPS_PROXY"), ("https", "ALL_PROXY")],
)
async def test_the_proxy_of_the_environment_is_used(
    scheme: str, variable: str, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(ok, trust.server("model.test") if scheme == "https" else None) as server, proxying() as proxy:
        monkeypatch.setenv(variable, f"127.0.0.1:{proxy.port}")
        async with HTTPClient(f"{scheme}://model.test:{server.port}", tls=trust.client) as http:
            assert await asked(http) == b"ok"
        assert len(proxy.lines) == 1


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("model.test", "model.test"),
        ("a.model.test", "other, .model.test"),
        ("a.model.test", "model.test"),
        ("model.test", "*"),
        ("model.test", "model.test:80"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("[fd00::1]", "fd00::/8"),
        ("127.0.0.1", ""),
        ("localhost", ""),
        ("[::1]", ""),
    ],
)
def test_no_proxy_and_this_machine_itself_are_gone_to_directly(
    host: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.parse import urlsplit

    from stdlib_modules.http.dialing import Proxy, proxy_for

    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(urlsplit(f"http://{host}/"), "environment") is None
    assert proxy_for(urlsplit("http://elsewhere.example/"), "environment") == (
        None if no_proxy == "*" else Proxy("proxy.test", 3128)
    )
    assert proxy_for(urlsplit(f"http://{host}/"), "http://one.test") == Proxy("one.test", 80)
    assert proxy_for(urlsplit(f"http://{host}/"), None) is None


async def test_a_proxy_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"The proxy socks5://one.test cannot be used") as caught:
        async with HTTPClient("http://model.test", proxy="socks5://me:secret@one.test"):
            pass
    assert "secret" not in str(caught.value)
