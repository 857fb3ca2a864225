"""What must happen within a budget: its critical path, and the time limits of the modules on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from .combine.around import Around
from .combine.budget import Budget, Limit
from .flow import Flow, Parallel, Series
from .stage import Stage, stages_of

__all__ = ["Path", "paths"]

# Fields by which a module bounds its own waits, in the order in which they are told.
OWN_LIMITS = ("connect_s", "read_s", "within_s", "timeout_s", "total_s")


@attrs.frozen
class Path:
    """What one limit of a budget is for.

    `flow` is the part of the budget's flow that must have done its work by then: for a `total_s` all of it; for a
    `first_reply_s` the stages that must each give a first output, up to the first whose output is shown to the
    client, or to the last. What a stage replies on its own account is not known beforehand.
    """

    limit: Limit
    seconds: float
    flow: Flow[Any, Any]

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages_of(self.flow)

    @property
    def own_limits(self) -> Mapping[str, Mapping[str, float]]:
        """By stage: the time limits of its own that its module has. One that is longer than `seconds` is never met."""
        found = {stage.name: dict(_own_limits(stage)) for stage in self.stages}
        return {name: limits for name, limits in found.items() if limits}


def paths(flow: Flow[Any, Any]) -> Iterator[Path]:
    """The paths of all budgets in a bound flow, the outer ones first."""
    if isinstance(flow, Budget):
        if isinstance(flow.first_reply_s, int | float):
            yield Path("first_reply_s", flow.first_reply_s, _first(flow.flow))
        if isinstance(flow.total_s, int | float):
            yield Path("total_s", flow.total_s, flow.flow)
    for part in flow.parts:
        yield from paths(part)


def _first(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    """What of a flow must give something before a first reply."""
    if isinstance(flow, Stage):
        return flow
    if not isinstance(flow, Series):
        return flow.with_parts([_first(part) for part in flow.parts])
    needed = []
    for part in flow.parts:
        needed.append(_first(part))
        if _replies(part):
            break
    return Series.of(*needed)


def _replies(flow: Flow[Any, Any]) -> bool:
    """Is the client told something, whichever way an item takes?"""
    if isinstance(flow, Stage):
        return flow.is_shown
    some = isinstance(flow, Series | Around | Parallel)
    return (any if some else all)(map(_replies, flow.parts))


def _own_limits(stage: Stage) -> Iterator[tuple[str, float]]:
    for field in OWN_LIMITS:
        value = getattr(stage.module, field, None)
        if isinstance(value, int | float):
            yield field, value
