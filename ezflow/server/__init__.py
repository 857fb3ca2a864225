"""The HTTP server: `serve` runs flows until it is told to stop. Quart and hypercorn are loaded when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..flow import Flow

if TYPE_CHECKING:
    from .config import Settings
    from .inherited import Inherited

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
    Raises: FlowError with all faults; ModuleOpenError; SettingsError; OSError if the port is taken.
    """
    from .config import Settings
    from .secrets import take_secrets

    made = Settings(host=host, port=port, **settings)
    if made.is_supervised:
        raise SettingsError("a program is one process: for more write ezflow serve FILE --workers N.")
    named = {"": flows} if isinstance(flows, Flow) else dict(flows)
    take_secrets(named, settings.get("tokens", ()))
    with _logging(made):
        serve_as(flows, made)


def serve_as(
    flows: Flow[Any, Any] | Mapping[str, Flow[Any, Any]], settings: Settings, inherited: Inherited | None = None
) -> None:
    """The same with settings that are made, and with the log as it is; `inherited`: as a worker."""
    import trio

    from .run import run

    trio.run(partial(run, flows, settings, inherited=inherited))


def _logging(settings: Settings) -> AbstractContextManager[None]:
    """The log as it was asked for, if it was."""
    if settings.log_format is None and settings.log_level is None:
        return nullcontext()
    from ..rendering import rendered

    return rendered(settings.log_format or "console", settings.log_level or "warning")
