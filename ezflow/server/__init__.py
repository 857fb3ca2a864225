"""The HTTP server: `serve` runs flows until it is told to stop. Quart and hypercorn are loaded when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..flow import Flow

__all__ = ["serve"]


def serve(
    flows: Flow[Any, Any] | Mapping[str, Flow[Any, Any]],
    *,
    host: str = "127.0.0.1",
    port: int = 3421,
    **settings: Any,
) -> None:
    """Open the flows and serve them over HTTP until SIGINT or SIGTERM.

    Takes one flow, or flows by name. `port=0` chooses a free one; the URL is printed. `settings` are the other
    fields of `ezflow.server.config.Settings`.
    Raises: FlowError with all faults; ModuleOpenError; OSError if the port is taken.
    """
    import trio

    from .config import Settings
    from .run import run

    trio.run(run, flows, Settings(host=host, port=port, **settings))
