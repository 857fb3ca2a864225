"""What is refused before a route does anything: strangers, the pages of foreign sites, too many requests, new turns
when the server shuts down.

A browser lets every page send requests to this machine. It says from which site in `Origin` and `Sec-Fetch-Site`;
and in `Host`, by which name a page reached the server, though its owner may have pointed that name at 127.0.0.1 (DNS
rebinding).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

import trio
from quart import Blueprint, Quart, Response, g, request, websocket
from quart.globals import request_ctx
from quart.wrappers import Request, Websocket

from ..errors import InputError
from . import tokens
from .bounds import USER
from .config import Settings, is_loopback
from .rates import Rates
from .refusals import Forbidden, ShuttingDown, TooManyRequests, Unauthorized

__all__ = ["Edges"]

# Whom a route is for. All: everybody. EZPipe: its clients too, which have no token. Socket: it refuses by its closing
# code. Own: who has a token, if there are any.
Audience = Literal["all", "ezpipe", "socket", "own"]

HEADERS = "Authorization, Content-Type, Accept, Last-Event-ID"
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Edges:
    """Stands before every route of an application; a route that knows its user asks it to `admit` them."""

    def __init__(self, app: Quart, settings: Settings, stopping: trio.Event) -> None:
        self._app = app
        self._settings = settings
        self._stopping = stopping
        self.refused: Counter[int] = Counter()  # by status
        self._rates = Rates(settings.rate_per_s, settings.rate_burst)
        self._audiences: dict[str, Audience] = {}
        app.before_request(self._refuse_request)
        app.before_websocket(self._refuse_websocket)
        app.after_request(self._finish)

    def register(self, routes: Blueprint, prefix: str, audience: Audience) -> None:
        """Add routes under a prefix, for that audience."""
        name = f"{prefix.strip('/')}_{routes.name}"
        self._app.register_blueprint(routes, url_prefix=f"{prefix}{routes.url_prefix or ''}" or None, name=name)
        self._audiences[name] = audience

    def admit(self, user: str, *, counts: bool = True) -> None:
        """Let a request through that is for this user.

        Raises: InputError for what is no user's name; Forbidden; TooManyRequests, if it `counts`.
        """
        if not isinstance(user, str) or not USER.least <= len(user) <= USER.most:
            raise InputError("user", f"a string of {USER.least} to {USER.most} characters is needed")
        token: tokens.Token | None = g.get("token")
        if token is not None and not token.stands_for(user):
            raise Forbidden(f"this token does not stand for user {user!r}.")
        if counts and (wait_s := self._rates.wait_s(user)):
            raise TooManyRequests(user, wait_s)

    def admit_named(self, user: str) -> None:
        """Let a request through whose body names this user. Its URL may say so too, for a proxy that goes by it.

        Raises: InputError also for a URL that names another; Forbidden; TooManyRequests.
        """
        if any(other != user for other in request.args.getlist("user")):
            raise InputError("user", "the URL names another user than the body")
        self.admit(user)

    def admit_all(self, users: Iterable[str], *, counts: bool = True) -> None:
        """As `admit`, for each of the users that a request names."""
        for user in users:
            self.admit(user, counts=counts)

    def admit_operator(self, *, for_all: bool) -> None:
        """Let a request through that asks how the server does, from whoever shows a token, or is on this machine.

        `for_all`: what it is told is of all users, so a token must stand for them all. Raises: Forbidden.
        """
        if for_all and self.is_restricted:
            raise Forbidden("this token stands for named users, and this route tells of all.")
        if not self._settings.tokens and not self._is_local():
            raise Forbidden("without tokens this route is for the server's own machine alone.")

    @property
    def is_restricted(self) -> bool:
        """Has the asker shown a token that stands for some users alone?"""
        token: tokens.Token | None = g.get("token")
        return token is not None and "*" not in token.users

    @property
    def stopping(self) -> bool:
        """Is the server shutting down?"""
        return self._stopping.is_set()

    @property
    def knows(self) -> bool:
        """Has the asker shown a token, or is none needed?"""
        return not self._settings.tokens or g.get("token") is not None

    def unauthorized(self, how: str) -> Unauthorized:
        """What to say to an asker whom it does not know; `how`: the way to show a token."""
        return Unauthorized("this token is none of the server's." if g.offered else f"a token is needed: {how}")

    @property
    def audience(self) -> Audience:
        """Whom the route is for that is asked for."""
        audience: Audience = g.get("audience", "own")
        return audience

    async def _refuse_request(self) -> Response | None:
        audience = self._identify(request)
        self._refuse_foreign(request)
        routes = request_ctx.url_adapter if request.method == "OPTIONS" else None
        if routes is not None and (methods := routes.allowed_methods()):
            options = Response(b"", 204, {"Allow": ", ".join(sorted(methods))})
            del options.headers["Content-Type"]
            return options
        if not (self.knows or audience == "all" or (audience == "ezpipe" and self._is_trusted())):
            raise self.unauthorized("send the header `Authorization: Bearer TOKEN`.")
        if audience == "own":
            self.admit_all(request.args.getlist("user"), counts=False)
        if self.stopping and request.method == "POST" and not request.path.endswith("/interrupt"):
            raise ShuttingDown
        return None

    async def _refuse_websocket(self) -> None:
        audience = self._identify(websocket)
        self._refuse_foreign(websocket)
        if audience != "socket":  # which says it by its closing code
            if not self.knows:
                raise self.unauthorized("send the header `Authorization: Bearer TOKEN`.")
            self.admit_all(websocket.args.getlist("user"))

    async def _finish(self, response: Response) -> Response:
        for name, value in SAFE.items():
            response.headers.setdefault(name, value)
        if self._settings.origins:
            response.vary.add("Origin")
            if (origin := request.headers.get("Origin")) in self._settings.origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"
                if request.method == "OPTIONS" and "Allow" in response.headers:
                    response.headers["Access-Control-Allow-Methods"] = response.headers["Allow"]
                    response.headers["Access-Control-Allow-Headers"] = HEADERS
                    response.headers["Access-Control-Max-Age"] = "600"
        return response

    def _identify(self, asked: Request | Websocket) -> Audience:
        """Remember whose request it is; say for whom the route is that it asks for."""
        scheme, _, secret = asked.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":  # a browser's WebSocket can send no such header
            offered = asked.headers.get("Sec-WebSocket-Protocol", "").split(",")
            secret = next((part.strip()[6:] for part in offered if part.strip().startswith("token.")), "")
        g.offered = bool(secret.strip())
        g.token = tokens.find(self._settings.tokens, secret.strip())
        g.audience = next((self._audiences[name] for name in asked.blueprints if name in self._audiences), "own")
        return self.audience

    def _refuse_foreign(self, asked: Request | Websocket) -> None:
        """Refuse the page of a foreign site, and a name that is not the server's. Raises: Forbidden."""
        host, origin = asked.headers.get("Host", ""), asked.headers.get("Origin")
        if host and not _is_ours(_name(host), self._settings):
            raise Forbidden(f"Host {host!r} is none of this server's names: list it in Settings.hosts (--allow-host).")
        is_own = host != "" and (origin or "").lower().partition("://")[2] == host.lower()
        if origin is not None and origin not in self._settings.origins and not is_own:
            raise Forbidden(f"a page of {origin!r} may not use this server: list its site in Settings.origins.")
        # Neither an image nor a link sends an Origin. A browser says that another site's page asks, or (to a server
        # without TLS that is not on this machine) only which page; a link to what can only be looked at does no harm.
        unsaid = origin is None and asked.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if origin is None and self.audience == "ezpipe" and "Sec-Fetch-Site" not in asked.headers:
            referer = urlsplit(asked.headers.get("Referer", ""))
            unsaid = referer.netloc.lower() not in ("", host.lower())
        if unsaid and (asked.headers.get("Sec-Fetch-Mode") != "navigate" or self.audience == "ezpipe"):
            raise Forbidden("another site's page may not use this route.")

    def _is_local(self) -> bool:
        """Does a program on this machine ask? A proxy is one too, but says that it asks for another."""
        passed_on = any(name in request.headers for name in FORWARDED) or not is_loopback(_name(request.host))
        return is_loopback(request.remote_addr or "") and not passed_on

    def _is_trusted(self) -> bool:
        """Does the connection come from a network whose EZPipe clients need no token?"""
        try:
            address = ipaddress.ip_address(request.remote_addr or "")
        except ValueError:
            return False  # a Unix socket has none
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._settings.trusted)


def _is_ours(name: str, settings: Settings) -> bool:
    if is_loopback(name) or name in (settings.host.lower(), *settings.hosts):
        return True
    try:  # 0.0.0.0 stands for every address of this machine, and an address cannot be rebound
        return ipaddress.ip_address(settings.host).is_unspecified and bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
