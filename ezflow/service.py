"""A service: an opened flow, with a session for each of its users."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .errors import FlowError, TurnClosedError, TurnFailed, flat
from .flow import Flow
from .limits import Limits
from .memory import remembering
from .open_turn import OpenTurn
from .opening import opened
from .place import Places
from .session import Session
from .stage import Stage, bind, map_stages, stages_of
from .store import Bounds, open_store

if TYPE_CHECKING:
    from .check import Report

__all__ = ["Limits", "Service", "Session", "collect", "open_flow", "open_flows"]


class Service:
    """An opened flow: `async with flow.open() as service`.

    It works on its own copies of the modules, so one flow may be opened twice. Sessions end with it, before the
    modules are released.
    """

    def __init__(
        self, name: str, flow: Flow[Any, Any], report: Report, sessions: Places, *, debug: bool = False
    ) -> None:
        self.name = name
        self.flow = flow
        self.report = report
        self.stages: tuple[Stage, ...] = stages_of(flow)
        self.sessions = sessions
        self._debug = debug
        self._guards: dict[int, Callable[[object], None]] = {}

    @asynccontextmanager
    async def session(self, user: str) -> AsyncGenerator[Session, None]:
        """The user's session: made when there is none, shared by all who hold it at the same time.

        It ends `idle_s` after the last of them has left, its running turn with it; earlier, when its room is
        needed. Raises: SessionsFull when all sessions are held; SessionBusy when too many hold this one.
        """
        async with self.sessions.lease(user) as place:
            yield Session(place, self.flow, self.name, self.stages, self._guard)

    def _guard(self, stage: Stage) -> Callable[[object], None]:
        """What checks the items that are fed to a stage."""
        made = self._guards.get(stage.index)
        if made is None:
            from .check import guard

            made = self._guards[stage.index] = guard(stage, by_typeguard=self._debug)
        return made


@asynccontextmanager
async def open_flow(flow: Flow[Any, Any], **limits: Any) -> AsyncGenerator[Service, None]:
    """Check one flow and open it. Raises: FlowError; ModuleOpenError."""
    async with open_flows({"": flow}, Limits(**limits)) as services:
        yield services[""]


@asynccontextmanager
async def open_flows(
    flows: Mapping[str, Flow[Any, Any]], limits: Limits, *, replies: bool = True
) -> AsyncGenerator[dict[str, Service], None]:
    """Check the flows and open them together: modules that are equal are opened once, also across flows.

    A user has one place in all of them: one turn at a time, one history.
    `replies`: what the last stages give is replied to the client.
    Raises: FlowError for the first flow with faults; StoreError; ModuleOpenError.
    """
    from .check import (  # with typeguard, which a program that only imports ezflow need not load
        check,
        guards,
        out_guards,
    )

    reports = {name: check(flow) for name, flow in flows.items()}
    for report in reports.values():
        if not report.ok:
            raise FlowError(report)
    modules = [stage.module for report in reports.values() for stage in report.stages]
    body_error: Exception | None = None
    bounds = Bounds(limits.history_messages, limits.history_chars, limits.store_bytes)
    async with (
        open_store(limits.store, bounds) as store,  # the first, since it is soon known to be wrong
        opened(modules, limits.cleanup_s) as copies,
        remembering(store, limits.history_messages, limits.history_chars, limits.history_days) as memory,
    ):
        async with trio.open_nursery() as nursery:
            memory.start(nursery)
            services, sessions = {}, Places(limits, nursery, memory)
            for name, report in reports.items():
                checks = guards(report, limits.debug)
                outs = out_guards(report) if limits.debug else {}
                bound = map_stages(
                    bind(report.flow.shown() if replies else report.flow),
                    lambda stage, checks=checks, outs=outs: attrs.evolve(  # type: ignore[misc]
                        stage,
                        module=copies[stage.module],
                        guard=checks.get(stage.index),
                        out_guard=outs.get(stage.index),
                    ),
                )
                services[name] = Service(name, bound, report, sessions, debug=limits.debug)
            try:
                yield services
            except Exception as error:  # noqa: BLE001  (raised again below, outside the nursery, as it is)
                body_error = error
            nursery.cancel_scope.cancel()
        if body_error is not None:
            raise body_error


async def collect(
    flow: Flow[Any, Any],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    options: Mapping[str, Any] | None = None,
    **limits: Any,
) -> list[Any]:
    """Open a flow for one turn on these items, and return all that comes out, in order.

    Raises: FlowError; ModuleOpenError; InputError; TurnFailed with what the stages raised.
    """
    outputs: list[Any] = []
    async with (
        open_flows({"": flow}, Limits(**limits), replies=False) as services,
        services[""].session("script") as session,
    ):
        turn = session.collecting(options, outputs)
        reason = None
        try:
            async with turn, trio.open_nursery() as nursery:
                nursery.start_soon(_feed, turn, items)
                async for event in turn:
                    reason = event.reason
                nursery.cancel_scope.cancel()  # a flow may end before its input does
        except ExceptionGroup as group:
            raise flat(group)[0] from None  # of one: what the items, or the feeding of them, raised
    if turn.errors:
        raise TurnFailed("the turn failed", [error for error in turn.errors if isinstance(error, Exception)])
    if reason == "timeout":
        raise TurnFailed("the turn took too long", [TimeoutError(f"no end after {session.place.limits.turn_s:g} s")])
    return outputs


async def _feed(turn: OpenTurn, items: Iterable[Any] | AsyncIterable[Any]) -> None:
    try:
        if isinstance(items, AsyncIterable):
            async for item in items:
                await turn.send(item)
        else:
            await turn.send_all(items)
    except TurnClosedError:
        return  # the flow has taken all it wanted
    await turn.end()
