"""A server's life: check, open, listen, and on a signal leave in order."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import attrs
import trio

from ..errors import MissingDependency, SettingsError, StageStuck, flat
from ..flow import Flow
from ..memory import PATIENCE_S
from ..modules import Module
from ..observe.lag import Lag
from ..observe.observer import Observer
from ..place import Place, Places
from ..service import open_flows
from .accepting import told_sparingly
from .app import create_app
from .config import Settings
from .ending import Ending
from .guard import GuardedConfig, serve
from .tracing import ENDS_S, traced, wanted
from .watch import Watch

__all__ = ["run"]

log = logging.getLogger("ezflow.server")

# A flow's name is a part of its URLs.
FLOW_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# What connections have to close in, however short the grace.
CLOSING_S = 0.5
# The end of the grace, in which the turns that still run are ended, so that their clients are told.
LAST_WORDS_S = 1.0
# New objects until the youngest are looked through for garbage (Python's own number is 700).
GARBAGE = 10_000


def _aloud(line: str) -> None:
    """Say it on standard output. Where that is gone or full, the server goes on without."""
    try:
        print(line, flush=True)  # noqa: T201  (this is what a server says to who started it)
    except OSError as error:
        log.warning("what the server says is heard by nobody from here on: %s", error)
        # Python has kept what it could not write, would try again at its end, and make that the exit code.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


async def run(
    flows: Flow[Any, Any] | Mapping[str, Flow[Any, Any]],
    settings: Settings,
    *,
    say: Callable[[str], None] = _aloud,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGINT or SIGTERM, or until `stop` is set. Reports its URL when every module is open.

    Raises: FlowError; ModuleOpenError; SettingsError for a flow's name; OSError if the address is taken.
    """
    named = {"": flows} if isinstance(flows, Flow) else dict(flows)
    for name in named:
        if not (re.fullmatch(FLOW_NAME, name) or named.keys() == {""}):
            raise SettingsError(f"a flow is called {name!r}, but its name is part of its URL: {FLOW_NAME} is needed.")
    stopped = trio.Event() if stop is None else stop
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        opening, listening = trio.CancelScope(), trio.Event()
        if stop is None:  # around all of it, so that no signal tears the release of a module apart
            ending = Ending(_leaves_within_s(named, settings), say)
            await nursery.start(_signals, ending, stopped, opening, listening, say)
        try:
            with opening:
                async with traced(named, settings) as traced_settings:
                    how = (stopped, listening, say, task_status)
                    await _serve(named, traced_settings, *how, owns_process=stop is None)
        except Exception as error:  # noqa: BLE001  (raised again below, outside the nursery, as it is)
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _serve(
    flows: Mapping[str, Flow[Any, Any]],
    settings: Settings,
    stopped: trio.Event,
    listening: trio.Event,
    say: Callable[[str], None],
    task_status: trio.TaskStatus[str],
    *,
    owns_process: bool,
) -> None:
    seen = _watch(flows, settings)
    limits = settings
    if seen.observer is not None:
        limits = attrs.evolve(settings, instruments=(*settings.instruments, seen.observer))
    async with open_flows(flows, limits) as services:
        for name, service in services.items():
            say(f"{name}\n{service.report}" if len(services) > 1 else str(service.report))
        places = next(iter(services.values())).sessions  # those of all
        config = GuardedConfig(settings.bind)
        config.websocket_max_message_size = settings.max_message
        try:
            async with trio.open_nursery() as nursery:
                app = create_app(services, settings, stopped, nursery, seen)
                nursery.start_soon(seen.lag.run)

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
                        config.graceful_timeout = max(CLOSING_S, end - trio.current_time())

                    with told_sparingly():
                        await serve(app, config, shutdown_trigger=drained, task_status=task_status)
                    nursery.cancel_scope.cancel()

                urls = await nursery.start(serving)
                if owns_process:
                    _spare_collector()
                listening.set()
                say(f"Listening on {urls[0]} (Ctrl+C to stop)")
                if settings.playground:
                    say(f"Playground: {urls[0]}/")
                task_status.started(urls[0])
        except ExceptionGroup as group:
            refused = [error for error in flat(group) if isinstance(error, OSError)]
            if not refused:
                raise group from None
            why = refused[0]
            raise OSError(
                why.errno, f"cannot listen on {settings.bind} ({why.strerror}): choose another --port"
            ) from None


def _spare_collector() -> None:
    """Leave the program itself out of garbage collection, and look for garbage less often.

    A full collection over all that was imported and opened takes some 30 ms, in which every turn stands still. What
    is left is small, and is looked through whole often enough that the garbage of thousands of turns does not gather.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 3)


def _watch(flows: Mapping[str, Flow[Any, Any]], settings: Settings) -> Watch:
    """What sees it run. Raises: MissingDependency if metrics are wanted that cannot be told."""
    if not settings.metrics:
        return Watch(Lag(settings.block_s))
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise MissingDependency("--metrics", "prometheus-client", "observe") from error
    stages = {name: [stage.name for stage in flow.stages] for name, flow in flows.items()}
    return Watch(Lag(settings.block_s), Observer(stages))


async def _released(places: Places) -> None:
    """Wait until nobody holds a session: no turn runs whose client is still told of it."""
    while any(place.leases for place in places.values()):  # noqa: ASYNC110
        await trio.sleep(0.02)  # sessions come and go: there is no one event to wait for


async def _interrupt(place: Place) -> None:
    with suppress(StageStuck):  # it is logged
        await place.interrupt()


async def _signals(
    ending: Ending,
    stopped: trio.Event,
    opening: trio.CancelScope,
    listening: trio.Event,
    say: Callable[[str], None],
    task_status: trio.TaskStatus[None],
) -> None:
    with ending.heeded():
        task_status.started()
        await ending.asked.wait()
        say("Shutting down: running turns may finish (a second signal stops at once)")
        stopped.set()
        if not listening.is_set():
            opening.cancel()
        await trio.sleep_forever()  # until all have left


def _leaves_within_s(flows: Mapping[str, Flow[Any, Any]], settings: Settings) -> float:
    """How long after a signal all has left that keeps to its time: turns, stages, one module after the other, what
    was said, traces.
    """
    modules = {stage.module for flow in flows.values() for stage in flow.stages}
    held = [module for module in modules if type(module).lifespan is not Module.lifespan]
    last_s = (PATIENCE_S if settings.store is not None else 0.0) + (ENDS_S if wanted(settings) else 0.0)
    return settings.grace_s + (1 + len(held)) * (settings.cleanup_s + 1) + last_s
