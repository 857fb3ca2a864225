"""The way to a server: TCP, a proxy if one is to be used, TLS."""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import ssl
import sys
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs
import h11
import trio

from .errors import NoWay

__all__ = ["Proxy", "Route", "credentials", "dial", "proxy_for", "trust"]

PORTS = {"http": 80, "https": 443}


@attrs.frozen
class Proxy:
    """An HTTP proxy; `authorization` is what it wants in `Proxy-Authorization`, if anything."""

    host: str
    port: int
    tls: bool = False
    authorization: str = attrs.field(default="", repr=False)

    @classmethod
    def from_url(cls, url: str) -> Proxy:
        """Raises: ValueError for what is no HTTP proxy (SOCKS is not spoken)."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in PORTS or not parts.hostname:
            shown = f"{parts.scheme}://{parts.hostname or ''}"
            raise ValueError(f"The proxy {shown} cannot be used: give the http:// or https:// URL of an HTTP proxy.")
        port = parts.port or PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme == "https", credentials(parts))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@attrs.frozen
class Route:
    """Where a server is, and how to get there; with `tls` all that is said to it is encrypted."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def credentials(url: SplitResult) -> str:
    """The `Authorization` of `user:password@` in a URL; empty without one."""
    if url.username is None:
        return ""
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def proxy_for(url: SplitResult, said: str | None) -> Proxy | None:
    """The proxy for a server: the one that is `said`, or with "environment" what the variables say.

    These are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, which may name networks (10.0.0.0/8). Their proxy is not
    used for this machine itself.
    """
    host = url.hostname or ""
    if said != "environment":
        return Proxy.from_url(said) if said else None
    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or _local(host) or _in_networks(host, proxies.get("no", "")):
        return None
    return None if proxy_bypass(f"{host}:{url.port or PORTS[url.scheme]}") else Proxy.from_url(found)


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _in_networks(host: str, no_proxy: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for said in no_proxy.split(","):
        try:
            if address in ipaddress.ip_network(said.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def trust() -> ssl.SSLContext:
    """A context that trusts whom this machine trusts, or SSL_CERT_FILE and SSL_CERT_DIR. Reads files: use a thread."""
    if sys.platform in ("darwin", "win32") and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return ssl.create_default_context()


async def dial(route: Route) -> tuple[trio.SocketStream, trio.abc.Stream]:
    """Connect. Cancelled or failed at any point, it leaves no socket open.

    Gives: the TCP stream, whose closing ends it all, and the stream to talk through.
    Raises: NoWay.
    """
    proxy = route.proxy
    if proxy:
        tcp = await _connect(proxy.host, proxy.port, f"the proxy {proxy}: ")
    else:
        tcp = await _connect(route.host, route.port)
    try:
        stream: trio.abc.Stream = tcp
        if proxy and proxy.tls:
            stream = await _encrypt(tcp, await trio.to_thread.run_sync(trust), proxy.host)
        if proxy and route.tls:
            await _tunnel(stream, proxy, route)
        if route.tls:
            stream = await _encrypt(stream, route.tls, route.host)
    except BaseException:
        tcp.socket.close()
        raise
    return tcp, stream


async def _connect(host: str, port: int, what: str = "") -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        cause = error.__cause__ or error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        known = isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno
        words = os.strerror(known) if known else getattr(cause, "strerror", None) or str(cause)
        raise NoWay(f"cannot be reached: {what}{words}", transient=not isinstance(cause, socket.gaierror)) from error


async def _encrypt(stream: trio.abc.Stream, context: ssl.SSLContext, host: str) -> trio.abc.Stream:
    secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = f"is not trusted: its certificate is not valid for {host}: {cause.verify_message}"
            raise NoWay(problem, "give tls= an ssl.SSLContext that trusts it, or set SSL_CERT_FILE") from error
        reason = cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else "the connection was closed"
        raise NoWay(f"does not speak TLS: {reason}", "is the URL's https:// right, and its port?") from error
    return secure


async def _tunnel(stream: trio.abc.Stream, proxy: Proxy, route: Route) -> None:
    """Have a proxy pass bytes on to the server."""
    headers = [("Host", route.authority)]
    if proxy.authorization:
        headers.append(("Proxy-Authorization", proxy.authorization))
    talk = h11.Connection(h11.CLIENT)
    try:
        asked = talk.send(h11.Request(method="CONNECT", target=route.authority, headers=headers))
        await stream.send_all((asked or b"") + (talk.send(h11.EndOfMessage()) or b""))
        event = talk.next_event()
        while not isinstance(event, h11.Response):
            if event is h11.NEED_DATA:
                talk.receive_data(bytes(await stream.receive_some()))
            event = talk.next_event()
    except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
        raise NoWay(f"cannot be reached: the proxy {proxy} broke off", transient=True) from error
    if not 200 <= event.status_code < 300:
        said = f"{event.status_code} {event.reason.decode('latin-1')}".strip()
        advice = "put the name and password in the proxy's URL" if event.status_code == 407 else ""
        problem = f"cannot be reached: the proxy {proxy} answered {said}"
        raise NoWay(problem, advice, transient=event.status_code in (502, 503, 504))
    if talk.trailing_data[0]:
        raise NoWay(f"cannot be reached: the proxy {proxy} sent more than it should")
