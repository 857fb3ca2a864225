"""The application: each protocol's routes joined, for one flow or several."""

from __future__ import annotations

from collections.abc import Mapping

import trio
from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ..service import Service
from .config import Settings
from .describe import describe
from .edges import refuse_at_the_edge
from .ezpipe import ezpipe, module_routes
from .replies import answer
from .socket import socket
from .turns import turns

__all__ = ["create_app"]


def create_app(services: Mapping[str, Service], settings: Settings, stopping: trio.Event) -> QuartTrio:
    """The ASGI application over opened services: each under its name, the first also without a prefix.

    When `stopping` is set, open sockets are closed, and new turns refused.
    """
    app = QuartTrio("ezflow")
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = None  # `max_body` is the limit
    refuse_at_the_edge(app, settings, stopping)
    first = next(iter(services))
    for name, service in services.items():
        for prefix in {f"/{name}" if name else "", "" if name == first else f"/{name}"}:
            own = (turns(service, settings), describe(service, settings.request), socket(service, stopping))
            for routes in (*own, ezpipe(service, settings), *module_routes(service)):
                _register(app, routes, prefix)

    @app.errorhandler(HTTPException)
    async def refuse(error: HTTPException) -> Response:
        body = {"error": error.name.replace(" ", ""), "message": error.description or error.name}
        return answer(body, error.code or 500)

    @app.after_request
    async def safe(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return app


def _register(app: QuartTrio, routes: Blueprint, prefix: str) -> None:
    app.register_blueprint(routes, url_prefix=prefix or None, name=f"{prefix.strip('/')}_{routes.name}")
