"""Seeing it run: `GET /metrics` for Prometheus, `GET /debug/tree` for a person (`ezflow top`)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import attrs
from quart import Blueprint, Response, request

from ..errors import InputError
from ..observe.lag import Lag
from ..observe.observer import Observer
from ..observe.status import Statuses
from ..observe.tree import sessions
from ..place import Places
from .edges import Edges
from .refusals import Refused
from .replies import answer

if TYPE_CHECKING:
    from ..observe.metrics import Metrics

__all__ = ["Watch", "watch"]

SESSIONS, MOST_SESSIONS = 100, 1000


@attrs.define(eq=False)
class Watch:
    """What sees a server run. Without an observer there are no metrics, and the tree knows no times of stages."""

    lag: Lag = attrs.field(factory=lambda: Lag(0.0))
    observer: Observer | None = None
    begun_at: float = attrs.field(factory=monotonic)


def watch(seen: Watch, places: Places, statuses: Statuses, edges: Edges) -> Blueprint:
    """The routes that show a server at work: figures to whoever may use it, users to its operator alone."""
    from .. import __version__

    routes = Blueprint("watch", __name__)
    metrics = _metrics(__version__, seen, places, statuses, edges)

    @routes.get("/metrics")
    async def get_metrics() -> Response:
        edges.admit_operator(for_all=False)
        if metrics is None:
            raise Refused("metrics are off: start the server with --metrics, or Settings(metrics=True).", 404)
        text, media_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(text, content_type=media_type)

    @routes.get("/debug/tree")
    async def get_tree() -> Response:
        edges.admit_operator(for_all=True)
        at_most = request.args.get("sessions", str(SESSIONS))
        if not (at_most.isascii() and at_most.isdecimal() and 1 <= int(at_most[:5]) <= MOST_SESSIONS):
            raise InputError("sessions", f"{at_most[:20]!r} was given, but 1 to {MOST_SESSIONS} is needed")
        threads = places.threads.statistics()
        return answer(
            {
                "version": __version__,
                "uptime_s": round(monotonic() - seen.begun_at, 3),
                "observed": seen.observer is not None,
                "stopping": edges.stopping,
                "loop": {
                    "lag_s": round(seen.lag.last_s, 6),
                    "max_lag_s": round(seen.lag.max_s, 6),
                    "blocks": seen.lag.blocks,
                },
                "threads": {
                    "busy": threads.borrowed_tokens,
                    "limit": threads.total_tokens,
                    "waiting": threads.tasks_waiting,
                },
                "modules": [attrs.asdict(status) for status in statuses()],
                "sessions": await sessions(places.all, seen.observer, int(at_most)),
            }
        )

    return routes


def _metrics(version: str, seen: Watch, places: Places, statuses: Statuses, edges: Edges) -> Metrics | None:
    if seen.observer is None:
        return None
    from ..observe.metrics import Metrics  # with prometheus-client, which a server without metrics need not have

    return Metrics(version, seen.observer, seen.lag, places, edges.refused, statuses)
