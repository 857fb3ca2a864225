"""Whom a task works for: the user, turn, run, flow and stage that every log record made in it can tell.

A context variable is set where a turn's task begins, and for as long as a stage runs. trio's tasks and worker threads
inherit it, so it holds for whatever they call, and nothing is done for an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

__all__ = ["Here", "bound", "here", "labels"]


class Here(Protocol):
    """A turn as the task sees it: `ezflow.Turn`."""

    @property
    def user(self) -> str: ...

    @property
    def id(self) -> int: ...

    @property
    def run(self) -> int | None: ...

    @property
    def flow(self) -> str: ...

    @property
    def stage(self) -> str: ...


NONE: Mapping[str, object] = {}

here: ContextVar[Here | None] = ContextVar("ezflow.here", default=None)
# What else the task's log records are to tell, such as the ids of its trace.
labels: ContextVar[Mapping[str, object]] = ContextVar("ezflow.labels", default=NONE)


def bound() -> dict[str, object]:
    """`user`, `turn`, `run`, `flow` and `stage` of the present task, as far as it has them, and its labels."""
    turn = here.get()
    if turn is None:
        return dict(labels.get())
    told = {"user": turn.user, "turn": turn.id, "run": turn.run, "flow": turn.flow, "stage": turn.stage}
    return {name: value for name, value in told.items() if value not in (None, "")} | dict(labels.get())
