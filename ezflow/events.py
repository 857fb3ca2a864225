"""What a client receives: one set of typed events, whatever the protocol."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar, dataclass_transform

import attrs

from .errors import DefinitionError
from .items import Audio, Transcript
from .redaction import Redactor

__all__ = ["Event", "Fault", "Progress", "Reason", "event", "event_type"]

Reason = Literal["done", "interrupted", "error", "timeout"]
C = TypeVar("C", bound=type)

REDACTOR = Redactor()

# The types that the protocol itself uses: an event class may not be called like one.
OWN_TYPES = frozenset({"text", "transcript", "audio", "json", "stage", "error", "interrupted", "ready", "pong"})
OWN_TYPES |= {"turn.started", "turn.ended"}


def _shown(message: str) -> str:
    return REDACTOR.whole(message)


@attrs.frozen
class Fault:
    """What went wrong: the error's class name, and a message for people, without the secrets of this process."""

    name: str
    message: str = attrs.field(converter=_shown)

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        return cls(type(error).__name__, str(error) or type(error).__name__)


@attrs.frozen(kw_only=True)
class Event:
    """One thing that a turn tells its client.

    `type` is the protocol's word: `turn.started`, `text`, `transcript`, `audio`, `json`, the name of a declared
    event class, `stage` (in a turn with a timeline: `item` is what the stage is doing), `error`, `interrupted`,
    `turn.ended`. `seq` counts a turn's events from 0 without gaps, in the
    order in which the client takes them; `t` is the time it came about, in seconds since the turn began.
    """

    type: str
    turn: int
    seq: int
    t: float
    stage: str | None = None
    run: int | None = None
    item: Any = None
    error: Fault | None = None
    reason: Reason | None = None


def snake_case(name: str) -> str:
    """`LocalLLM` is `local_llm`, `SileroVAD` is `silero_vad`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def event(cls: C) -> C:
    """Declare an attrs class as an event: `await turn.reply(Mood("glad"))` reaches the client as `mood`.

    The class becomes frozen; its wire type is its name in snake case, its fields stand under `data`.
    Raises: DefinitionError if the protocol uses that type itself.
    """
    name = snake_case(cls.__name__)
    if name in OWN_TYPES:
        raise DefinitionError(f"{cls.__name__}: the protocol has a type {name!r} of its own: choose another name.")
    declared: C = attrs.frozen(cls)
    declared.__ezflow_event__ = name  # type: ignore[attr-defined]
    return declared


@event
class Progress:
    """A word on what a stage is doing, for people."""

    message: str


def event_type(item: object) -> str:
    """The wire type of a replied item."""
    if isinstance(item, str):
        return "text"
    if isinstance(item, Audio):
        return "audio"
    if isinstance(item, Transcript):
        return "transcript"
    declared: str = getattr(type(item), "__ezflow_event__", "json")
    return declared
