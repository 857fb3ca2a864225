"""What a request asks for: where it enters the flow, and the options of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .errors import EntryError, InputError
from .items import Audio, Utterance
from .stage import Stage

__all__ = ["Taken", "entry_index", "read_options", "takes"]

Taken = Literal["text", "audio", "json"]


def entry_index(entry: int | str, stages: Sequence[Stage]) -> int:
    """The index of an entry. Raises: EntryError naming the stages that there are."""
    names = [stage.name for stage in stages]
    if isinstance(entry, str) and entry in names:
        return names.index(entry)
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(names):
        return entry
    raise EntryError(entry, names)


def read_options(given: Mapping[str, Any], stages: Sequence[Stage]) -> dict[str, dict[type, Any]]:
    """A request's options, by stage: under the key that a module answers to, or the stage's own name.

    Where both are given, the stage's own counts. Raises: InputError with the path.
    """
    from .convert import structure

    read: dict[str, dict[type, Any]] = {}
    known: list[str] = []
    for stage in stages:
        cls = stage.module.options
        if cls is None:
            continue
        for key in (stage.module.options_key, stage.name):
            if key is not None and key not in known:
                known.append(key)
            if key is not None and key in given:
                read[stage.name] = {cls: structure(given[key], cls, f"options.{key}")}
    for key in given:
        if key not in known:
            raise InputError(f"options.{key}", f"no stage answers to it; known here: {', '.join(known) or 'none'}")
    return read


def takes(stage: Stage) -> Taken:
    """What a client gives a stage: text, sound, or any other JSON value."""
    from .convert import union_members

    types = union_members(stage.in_type)
    if Audio in types or Utterance in types:
        return "audio"
    return "text" if types == (str,) else "json"
