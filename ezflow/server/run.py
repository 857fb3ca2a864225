"""A server's life: check, open, listen, and on a signal leave in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from ..errors import flat
from ..flow import Flow
from ..service import open_flows
from .app import create_app
from .config import Settings
from .guard import GuardedConfig, serve

__all__ = ["run"]


async def run(
    flows: Flow[Any, Any] | Mapping[str, Flow[Any, Any]],
    settings: Settings,
    *,
    say: Callable[[str], None] = partial(print, flush=True),
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGINT or SIGTERM, or until `stop` is set. Reports its URL when every module is open.

    Raises: FlowError; ModuleOpenError; OSError if the address is taken.
    """
    named = {"": flows} if isinstance(flows, Flow) else dict(flows)
    async with open_flows(named, settings.limits) as services:
        for name, service in services.items():
            say(f"{name}\n{service.report}" if len(services) > 1 else str(service.report))
        config = GuardedConfig(settings.bind)
        config.graceful_timeout = settings.grace_s
        stopped = trio.Event() if stop is None else stop
        app = create_app(services, settings, stopped)
        try:
            async with trio.open_nursery() as nursery:
                if stop is None:
                    await nursery.start(_signals, stopped)

                async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
                    await serve(app, config, shutdown_trigger=stopped.wait, task_status=task_status)
                    nursery.cancel_scope.cancel()

                urls = await nursery.start(serving)
                say(f"Listening on {urls[0]} (Ctrl+C to stop)")
                task_status.started(urls[0])
        except ExceptionGroup as group:
            refused = [error for error in flat(group) if isinstance(error, OSError)]
            raise refused[0] if refused else group from None


async def _signals(stopped: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stopped.is_set():
                raise KeyboardInterrupt  # a second signal does not wait
            stopped.set()
