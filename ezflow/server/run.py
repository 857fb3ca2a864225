"""A server's life: check, open, listen, and on a signal leave in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from ..errors import StageStuck, flat
from ..flow import Flow
from ..service import Service, open_flows
from ..session import Session
from .app import create_app
from .config import Settings
from .guard import GuardedConfig, serve

__all__ = ["run"]

# The end of the grace, in which the turns that still run are ended, so that their clients are told.
LAST_WORDS_S = 1.0


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
        stopped = trio.Event() if stop is None else stop
        app = create_app(services, settings, stopped)
        try:
            async with trio.open_nursery() as nursery:
                if stop is None:
                    await nursery.start(_signals, stopped)

                async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
                    async def drained() -> None:
                        await stopped.wait()
                        end = trio.current_time() + settings.grace_s
                        with trio.move_on_at(end - min(LAST_WORDS_S, settings.grace_s / 2)):
                            await _released(services.values())
                        for session in _sessions(services.values()):
                            nursery.start_soon(_interrupt, session)
                        with trio.move_on_at(end):
                            await _released(services.values())
                        config.graceful_timeout = max(0.0, end - trio.current_time())

                    await serve(app, config, shutdown_trigger=drained, task_status=task_status)
                    nursery.cancel_scope.cancel()

                urls = await nursery.start(serving)
                say(f"Listening on {urls[0]} (Ctrl+C to stop)")
                task_status.started(urls[0])
        except ExceptionGroup as group:
            refused = [error for error in flat(group) if isinstance(error, OSError)]
            raise refused[0] if refused else group from None


def _sessions(services: Iterable[Service]) -> list[Session]:
    return [session for service in services for session in service.sessions.values()]


async def _released(services: Iterable[Service]) -> None:
    """Wait until nobody holds a session: no turn runs whose client is still told of it."""
    while any(session.leases for session in _sessions(services)):  # noqa: ASYNC110
        await trio.sleep(0.02)  # sessions come and go: there is no one event to wait for


async def _interrupt(session: Session) -> None:
    with suppress(StageStuck):  # it is logged
        await session.interrupt()


async def _signals(stopped: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stopped.is_set():
                raise KeyboardInterrupt  # a second signal does not wait
            stopped.set()
