"""Traces: a span for each turn, in it one for each stage, and in these one for each request to another server.

`ezflow serve --traces URL` sends them to a collector. A program that has OpenTelemetry set up gives its own tracer:

    async with flow.open(instruments=(Traces(trace.get_tracer("voice")),)) as service: ...

A turn's span is a child of the one that is current where the turn begins, or of the one that its request names in
`traceparent`. Inside of a stage its span is the current one, for libraries that make spans too; log records tell
`trace_id` and `span_id`. Texts and sounds are in no span, and users only if that is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from . import calls, context
from .errors import brief_error, flat
from .instrument import Instrument
from .redaction import SECRETS, Redactor, secrets_of_environment

__all__ = ["Traces"]

W3C = TraceContextTextMapPropagator()


@attrs.define
class _Open:
    """A span that has not ended, and how to leave its context."""

    span: Span
    undo: list[Callable[[], None]]
    taken: int = 0
    given: int = 0


class Traces(Instrument):
    """Makes spans of turns with this tracer (`opentelemetry.trace.Tracer`).

    `users`: each tells whose turn it is. Where errors tell of secrets, those are hidden that this process has taken,
    and what the environment shows to be one.
    """

    def __init__(self, tracer: Tracer, *, users: bool = False) -> None:
        self._tracer = tracer
        self._users = users
        SECRETS.update(secrets_of_environment())
        self._redactor = Redactor()
        self._open: dict[Any, _Open] = {}

    def asked(self, headers: Mapping[str, str]) -> None:
        attach(W3C.extract(headers, Context()))  # and not what an earlier request may have left

    def turn_started(self, turn: Any) -> None:
        name = f"turn {turn.flow}" if turn.flow else "turn"
        span = self._tracer.start_span(name, kind=SpanKind.SERVER, attributes=self._whose(turn))
        opened = self._open[turn] = _entered(span)
        observer = calls.observer.set(self._call)
        opened.undo.append(lambda: calls.observer.reset(observer))

    def turn_ended(self, turn: Any, reason: str) -> None:
        opened = self._open.pop(turn)
        opened.span.set_attribute("ezflow.reason", reason)
        if reason in ("error", "timeout"):
            opened.span.set_status(StatusCode.ERROR, reason)
        _left(opened)

    def run_ended(self, turn: Any, run: int, interrupted: bool) -> None:
        opened = self._open.get(turn)  # the last run of a turn may end after it, when its client has heard it
        if interrupted and opened is not None:
            opened.span.add_event("interrupted", {"ezflow.run": run})

    def stage_started(self, turn: Any, stage: str) -> None:
        within = set_span_in_context(self._open[turn.state].span)
        attributes = self._whose(turn)
        attributes["ezflow.stage"] = stage
        if turn.run is not None:
            attributes["ezflow.run"] = turn.run
        self._open[turn] = _entered(self._tracer.start_span(stage, within, attributes=attributes))

    def stage_ended(self, turn: Any, stage: str, error: BaseException | None) -> None:
        opened = self._open.pop(turn)
        opened.span.set_attributes({"ezflow.items_in": opened.taken, "ezflow.items_out": opened.given})
        if error is None and isinstance(sys.exception(), trio.Cancelled):
            opened.span.set_attribute("ezflow.cancelled", True)
        self._fail(opened.span, error)
        _left(opened)

    def item_in(self, turn: Any, stage: str, item: object) -> None:
        self._open[turn].taken += 1

    def waits_for_room(self, turn: Any, stage: str, item: object) -> None:
        opened = self._open[turn]
        if not opened.given:
            opened.span.add_event("first output")
        opened.given += 1

    def _whose(self, turn: Any) -> dict[str, Any]:
        whose = {"ezflow.turn": turn.id}
        if turn.flow:
            whose["ezflow.flow"] = turn.flow
        if self._users:
            whose["ezflow.user"] = turn.user
        return whose

    def _call(self, method: str, url: str) -> calls.Call:
        parts = urlsplit(url)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.full": url,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme in ("https", "wss") else 80),
        }
        name = f"{method} {parts.path or '/'}"
        return _Call(self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes), self._fail)

    def _fail(self, span: Span, error: BaseException | None) -> None:
        """Tell of an error, if it is one: being cancelled is none."""
        errors = [] if error is None else [leaf for leaf in flat(error) if not isinstance(leaf, trio.Cancelled)]
        if errors:
            span.set_attribute("error.type", type(errors[0]).__name__)
            told = "; ".join(map(brief_error, errors))
            span.set_status(Status(StatusCode.ERROR, self._redactor.text(told)))


class _Call(calls.Call):
    """A request's span; its headers say to the server that what it does belongs to it."""

    def __init__(self, span: Span, fail: Callable[[Span, BaseException | None], None]) -> None:
        self._span = span
        self._fail = fail
        headers: dict[str, str] = {}
        W3C.inject(headers, set_span_in_context(span))
        self.headers = headers

    def answered(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        self._span.add_event("first byte")

    def ended(self, error: BaseException | None) -> None:
        if isinstance(status := getattr(error, "status", None), int):
            self._span.set_attribute("http.response.status_code", status)
        self._fail(self._span, error)
        self._span.end()


def _entered(span: Span) -> _Open:
    """Make it the task's current span, and have its log records tell of it."""
    at = span.get_span_context()
    token = attach(set_span_in_context(span))
    labels = context.labels.set({"trace_id": f"{at.trace_id:032x}", "span_id": f"{at.span_id:016x}"})
    return _Open(span, [lambda: detach(token), lambda: context.labels.reset(labels)])


def _left(opened: _Open) -> None:
    for undo in reversed(opened.undo):
        undo()
    opened.span.end()
