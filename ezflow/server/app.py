"""The application: each protocol's routes joined, for one flow or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio
from quart import Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import RequestRedirect

from ..instrument import Instrument
from ..observe.status import Statuses
from ..service import Service
from .asgi import HTTPConnection, WebSocketConnection
from .config import Settings
from .describe import describe, flow_description
from .edges import Edges
from .ezpipe import ezpipe, module_routes, refused
from .health import Probes, health
from .history import history
from .playground import playground
from .refusals import REFUSED, status_of
from .replies import answer, refusal
from .socket import Departures, socket
from .turns import turns
from .watch import Watch, watch

__all__ = ["create_app"]


def create_app(
    services: Mapping[str, Service],
    settings: Settings,
    stopping: trio.Event,
    nursery: trio.Nursery,
    seen: Watch | None = None,
) -> QuartTrio:
    """The ASGI application over opened services: each under its name, the first also without a prefix.

    When `stopping` is set, open sockets are closed, and new turns refused. `nursery`: where it asks the modules
    for their health, and looks after its sockets until `stopping` is set. `seen`: what watches it.
    """
    app = QuartTrio("ezflow", static_folder=None)
    app.asgi_http_class = HTTPConnection
    app.asgi_websocket_class = WebSocketConnection
    app.url_map.merge_slashes = False
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = None  # `max_body` is the limit
    edges = Edges(app, settings, stopping)
    _tell_of_requests(app, settings.instruments)
    probes = Probes(services.values(), settings.probe_s, nursery)
    departures = Departures(settings.quiet_s, stopping, nursery)
    first = next(iter(services))
    for name, service in services.items():
        description = flow_description(service, name, services)
        own = (turns(service, settings, edges), history(service.sessions.memory, edges), describe(description))
        others = (ezpipe(service, settings, edges, probes), *module_routes(service, settings, edges))
        live = socket(service, description, edges, departures)
        for prefix in {f"/{name}" if name else "", "" if name == first else f"/{name}"}:
            for routes in own:
                edges.register(routes, prefix, "own")
            for routes in others:
                edges.register(routes, prefix, "ezpipe")
            edges.register(live, prefix, "socket")
            of = [service] if prefix else services.values()
            edges.register(health(of, probes, edges), prefix, "all")
    places = services[first].sessions  # those of all
    edges.register(watch(seen or Watch(), places, Statuses(services.values()), edges), "", "own")
    if settings.playground:
        edges.register(playground(), "", "all")

    async def refuse(error: Exception) -> Response:
        edges.refused[status_of(error)] += 1
        return refused(error) if edges.audience == "ezpipe" else refusal(error)

    for kind in REFUSED:
        app.register_error_handler(kind, refuse)

    @app.errorhandler(HTTPException)
    async def fail(error: HTTPException) -> Response:
        edges.refused[error.code or 500] += 1
        message, headers = error.description or error.name, {}
        if isinstance(error, NotFound):
            flows = ", ".join(f"/{name}" for name in services if name)
            message = f"no route of this server{f'; its flows: {flows}' if flows else ''}."
        elif isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            message = f"this route takes {headers['Allow']} alone."
        elif isinstance(error, RequestRedirect):
            headers["Location"] = error.new_url
        body = {"error": error.name.replace(" ", ""), "message": message}
        return answer({"detail": message} if edges.audience == "ezpipe" else body, error.code or 500, **headers)

    return app


def _tell_of_requests(app: QuartTrio, instruments: Sequence[Instrument]) -> None:
    """Tell those that want to know of each request and handshake, in its task."""
    asked = [each.asked for each in instruments if type(each).asked is not Instrument.asked]
    if not asked:
        return

    async def tell() -> None:
        found = request if has_request_context() else websocket
        headers = {name.lower(): value for name, value in found.headers.items()}
        for instrument_asked in asked:
            instrument_asked(headers)

    app.before_request(tell)
    app.before_websocket(tell)
