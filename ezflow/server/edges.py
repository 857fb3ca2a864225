"""What is refused before any route is asked: the page of a foreign site, and new turns when the server shuts down.

A browser lets every page send requests to this machine. It says from which site in `Origin`; and in `Host`, by
which name a page reached the server, though its owner may have pointed that name at 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import trio
from quart import Quart, Response, request, websocket
from werkzeug.datastructures import Headers

from .config import Settings, is_loopback
from .replies import answer

__all__ = ["refuse_at_the_edge"]


def refuse_at_the_edge(app: Quart, settings: Settings, stopping: trio.Event) -> None:
    """Have the application refuse these requests and WebSockets: 403, or 503 when `stopping` is set."""

    @app.before_request
    async def refuse_request() -> Response | None:
        return _foreign(request.headers, settings) or (_too_late() if stopping.is_set() else None)

    @app.before_websocket
    async def refuse_websocket() -> Response | None:
        return _foreign(websocket.headers, settings)


def _foreign(headers: Headers, settings: Settings) -> Response | None:
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if host and not _is_ours(_name(host), settings):
        return _forbidden(f"Host {host!r} is none of this server's names: list it in Settings.hosts.")
    if origin is None or origin in settings.origins or origin.lower().partition("://")[2] == host.lower() != "":
        return None
    return _forbidden(f"a page of {origin!r} may not use this server: list its site in Settings.origins.")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, settings: Settings) -> bool:
    if is_loopback(name) or name in (settings.host.lower(), *map(str.lower, settings.hosts)):
        return True
    try:  # 0.0.0.0 stands for every address of this machine, and an address cannot be rebound
        return ipaddress.ip_address(settings.host).is_unspecified and bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _too_late() -> Response | None:
    path = request.path
    if path.endswith("/health/ready") or (request.method == "POST" and not path.endswith("/interrupt")):
        return answer({"error": "ShuttingDown", "message": "the server is shutting down."}, 503, Retry_After="1")
    return None


def _forbidden(message: str) -> Response:
    return answer({"error": "Forbidden", "message": message}, 403)
