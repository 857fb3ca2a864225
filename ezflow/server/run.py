"""A server's life: check, open, listen, and on a signal leave in order."""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
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
from .guard import FIRST_REQUEST_S, GuardedConfig, serve
from .inherited import Inherited
from .tracing import ENDS_S, traced, wanted
from .watch import Watch

__all__ = ["SHUTTING_DOWN", "aloud", "cannot_listen", "run", "say_where"]

log = logging.getLogger("ezflow.server")

# A flow's name is a part of its URLs.
FLOW_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# What connections have to close in, however short the grace.
CLOSING_S = 0.5
# The end of the grace, in which the turns that still run are ended, so that their clients are told.
LAST_WORDS_S = 1.0
SHUTTING_DOWN = "Shutting down: running turns may finish (a second signal stops at once)"
# What is wrong with an address whose host this machine does not have.
NO_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
# New objects until the youngest are looked through for garbage (Python's own number is 700).
GARBAGE = 10_000


def aloud(line: str) -> None:
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
    say: Callable[[str], None] = aloud,
    stop: trio.Event | None = None,
    inherited: Inherited | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGINT or SIGTERM, or until `stop` is set. Reports its URL when every module is open.

    `inherited`: what it has of a supervisor, if this process is a worker. That one says what is to be said, but for
    the report of the flows.

    Raises: FlowError; ModuleOpenError; SettingsError for a flow's name; OSError if the address is taken.
    """
    named = {"": flows} if isinstance(flows, Flow) else dict(flows)
    for name in named:
        if not (re.fullmatch(FLOW_NAME, name) or named.keys() == {""}):
            raise SettingsError(f"a flow is called {name!r}, but its name is part of its URL: {FLOW_NAME} is needed.")
    life = _Life(trio.Event() if stop is None else stop, inherited)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        if stop is None:  # around all of it, so that no signal tears the release of a module apart
            ending = Ending(_leaves_within_s(named, settings), say, is_worker=inherited is not None)
            await nursery.start(_signals, ending, life, say)
        if inherited is not None:
            follow = partial(inherited.follow, replaced=life.replaced.set, forsaken=life.end_by_signal)
            nursery.start_soon(follow, life.listening)
        try:
            with life.opening:
                async with traced(settings) as traced_settings:
                    await _serve(named, traced_settings, life, say, task_status, owns_process=stop is None)
        except Exception as error:  # noqa: BLE001  (raised again below, outside the nursery, as it is)
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Life:
    """From the opening of the modules to the end."""

    def __init__(self, stopped: trio.Event, inherited: Inherited | None) -> None:
        self.stopped = stopped
        self.inherited = inherited
        self.opening = trio.CancelScope()
        self.listening = trio.Event()
        self.replaced = trio.Event()

    def end(self) -> None:
        """Leave in order; while modules still open, end that."""
        self.stopped.set()
        if not self.listening.is_set():
            self.opening.cancel()

    def end_by_signal(self) -> None:
        """The same, and in the time that a signal leaves."""
        signal.raise_signal(signal.SIGTERM)

    async def leaving(self) -> None:
        """Wait until it ends, or another takes its place."""
        async with trio.open_nursery() as nursery:

            async def either(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(either, self.stopped)
            nursery.start_soon(either, self.replaced)


async def _serve(
    flows: Mapping[str, Flow[Any, Any]],
    settings: Settings,
    life: _Life,
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
        if life.inherited is None or life.inherited.reports:
            for name, service in services.items():
                say(f"{name}\n{service.report}" if len(services) > 1 else str(service.report))
        places = next(iter(services.values())).sessions  # those of all
        config = GuardedConfig(*([settings.bind] if life.inherited is None else life.inherited.binds))
        config.websocket_max_message_size = settings.max_message
        try:
            async with trio.open_nursery() as nursery:
                app = create_app(services, settings, life.stopped, nursery, seen)
                nursery.start_soon(seen.lag.run)

                async def serving(task_status: trio.TaskStatus[list[str]]) -> None:
                    async def drained() -> None:
                        end = trio.current_time() + settings.grace_s
                        with trio.move_on_at(end - min(LAST_WORDS_S, settings.grace_s / 2)):
                            await _released(places)
                        for place in places.values():
                            nursery.start_soon(_interrupt, place)
                        with trio.move_on_at(end):
                            await _released(places)
                        config.graceful_timeout = max(CLOSING_S, end - trio.current_time())

                    async def replaced() -> None:
                        await trio.sleep(FIRST_REQUEST_S)  # who has come before the other is still served here
                        life.end_by_signal()
                        await drained()

                    async def until_no_more_is_accepted() -> None:
                        await life.leaving()
                        if life.replaced.is_set():  # whoever comes now is for the worker that has taken its place
                            config.graceful_timeout = FIRST_REQUEST_S + settings.grace_s + CLOSING_S
                            nursery.start_soon(replaced)
                        else:
                            await drained()

                    with told_sparingly():
                        await serve(app, config, shutdown_trigger=until_no_more_is_accepted, task_status=task_status)
                    nursery.cancel_scope.cancel()

                urls = await nursery.start(serving)
                if owns_process:
                    _spare_collector()
                life.listening.set()
                if life.inherited is None:
                    say_where(say, urls[0], settings)
                task_status.started(urls[0])
        except ExceptionGroup as group:
            refused = [error for error in flat(group) if isinstance(error, OSError)]
            if life.listening.is_set() or not refused:
                raise group from None
            raise cannot_listen(settings.bind, refused[0]) from None


def say_where(say: Callable[[str], None], url: str, settings: Settings) -> None:
    """Say that it can be used, and by which URL."""
    say(f"Listening on {url} (Ctrl+C to stop)")
    if settings.playground:
        say(f"Playground: {url}/")


def cannot_listen(address: str, why: OSError, port_option: str = "--port") -> OSError:
    """What to say of an address that is not to be had, and by which option another one is chosen."""
    advice = ""
    if isinstance(why, socket.gaierror) or why.errno in NO_HOST:
        advice = ": choose another --host"
    elif why.errno == errno.EADDRINUSE:
        advice = f": choose another {port_option}"
    elif why.errno == errno.EACCES:
        advice = f": choose another {port_option}, those below 1024 are not for everybody"
    return OSError(why.errno, f"cannot listen on {address} ({why.strerror}){advice}")


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


async def _signals(ending: Ending, life: _Life, say: Callable[[str], None], task_status: trio.TaskStatus[None]) -> None:
    with ending.heeded():
        task_status.started()
        await ending.asked.wait()
        if life.inherited is None:
            say(SHUTTING_DOWN)
        life.end()
        await trio.sleep_forever()  # until all have left


def _leaves_within_s(flows: Mapping[str, Flow[Any, Any]], settings: Settings) -> float:
    """How long after a signal all has left that keeps to its time: turns, stages, one module after the other, what
    was said, traces.
    """
    modules = {stage.module for flow in flows.values() for stage in flow.stages}
    held = [module for module in modules if type(module).lifespan is not Module.lifespan]
    last_s = (PATIENCE_S if settings.store is not None else 0.0) + (ENDS_S if wanted(settings) else 0.0)
    return settings.grace_s + (1 + len(held)) * (settings.cleanup_s + 1) + last_s
