"""A server's life: check, open, listen, and on a signal leave in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from ..errors import StageStuck, flat
from ..flow import Flow
from ..place import Place, Places
from ..service import open_flows
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
    async with open_flows(named, settings) as services:
        for name, service in services.items():
            say(f"{name}\n{service.report}" if len(services) > 1 else str(service.report))
        places = next(iter(services.values())).sessions  # those of all
        config = GuardedConfig(settings.bind)
        config.websocket_max_message_size = settings.max_message
        stopped = trio.Event() if stop is None else stop
        app = create_app(services, settings, stopped)
        try:
            async with trio.open_nursery() as nursery:
                if stop is None:
                    await nursery.start(_signals, stopped, say)

                async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
                    async def drained() -> None:
                        await stopped.wait()
                        end = trio.current_time() + settings.grace_s
                        with trio.move_on_at(end - min(LAST_WORDS_S, settings.grace_s / 2)):
                            await _released(places)
                        for place in places.values():
                            nursery.start_soon(_interrupt, place)
                        with trio.move_on_at(end):
                            await _released(places)
                        config.graceful_timeout = max(0.0, end - trio.current_time())

                    await serve(app, config, shutdown_trigger=drained, task_status=task_status)
                    nursery.cancel_scope.cancel()

                urls = await nursery.start(serving)
                say(f"Listening on {urls[0]} (Ctrl+C to stop)")
                task_status.started(urls[0])
        except ExceptionGroup as group:
            refused = [error for error in flat(group) if isinstance(error, OSError)]
            raise refused[0] if refused else group from None


async def _released(places: Places) -> None:
    """Wait until nobody holds a session: no turn runs whose client is still told of it."""
    while any(place.leases for place in places.values()):  # noqa: ASYNC110
        await trio.sleep(0.02)  # sessions come and go: there is no one event to wait for


async def _interrupt(place: Place) -> None:
    with suppress(StageStuck):  # it is logged
        await place.interrupt()


async def _signals(stopped: trio.Event, say: Callable[[str], None], task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for signum in signals:
            if stopped.is_set():
                # A second signal waits for nothing, neither for stages nor for threads: it is the system's own.
                say("Stopped at once")
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)
            say("Shutting down: running turns may finish (a second signal stops at once)")
            stopped.set()
