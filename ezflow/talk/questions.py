"""Which stage a question is for, and what it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from ..errors import SettingsError
from ..items import Audio

__all__ = ["Stage", "addressed"]


@attrs.frozen
class Stage:
    """What a server says of a stage, as far as it matters here; `takes` is text, audio or json."""

    index: int
    name: str
    takes: str


def addressed(question: str | Audio, entry: int | str | None, stages: Sequence[Stage]) -> tuple[int | str, Any]:
    """The stage that a question is for, and what it is sent.

    By default that is the first stage that takes sound, or text; else the first that takes any JSON. A JSON object or
    array goes to the flow's first stage, if that takes JSON.
    Raises: SettingsError if there is none.
    """
    kind = "audio" if isinstance(question, Audio) else "text"
    asked = [stage for stage in stages if entry in (stage.index, stage.name)]
    if entry is not None and not asked:
        return entry, question  # whoever runs the flow says which there are
    if entry is None and stages[:1] and stages[0].takes == "json" and isinstance(_json(question), dict | list):
        asked = [*stages[:1]]
    fits = asked or [stage for word in (kind, "json") for stage in stages if stage.takes == word]
    if not fits:
        drawn = " -> ".join(stage.name for stage in stages)
        raise SettingsError(f"no stage of {drawn} takes {'sound' if kind == 'audio' else 'text'}.")
    stage = fits[0]
    return stage.index, _json(question) if stage.takes == "json" else question


def _json(question: str | Audio) -> Any:
    """A line as the JSON that it is, or as the text that it is; sound as it is."""
    if isinstance(question, Audio):
        return question
    try:
        return msgspec.json.decode(question)
    except msgspec.DecodeError:
        return question
