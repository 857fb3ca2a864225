"""Voices by the names that requests use: a YAML table, read strictly. An error names the file and the path in it.

neighbour:
  neutral: {ref_audio_path: voices/neighbour.wav, prompt_text: Good morning., prompt_lang: en}
  cheerful: …
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from ezflow import InputError

__all__ = ["Node", "chosen", "load", "usual"]

T = TypeVar("T")

# What EZPipe's tables hold beside a voice's emotions: the server's greeting, which is configured there.
GREETING = ("awake_text", "awake_audio")


@attrs.frozen
class Node:
    """A value in a file, and where it stands."""

    file: str
    path: str
    value: Any

    def fault(self, problem: str) -> ValueError:
        """The error to raise for this value."""
        return ValueError(f"{self.file}: {self.path + ': ' if self.path else ''}{problem}")

    def parts(self, what: str) -> dict[str, Node]:
        """What a mapping holds, which is one `what` at least. Raises: ValueError."""
        if not isinstance(self.value, dict) or not self.value:
            raise self.fault(f"{_brief(self.value)} stands where {what} are needed (name: …)")
        found = {}
        for name, value in self.value.items():
            if not isinstance(name, str) or not name:
                raise self.fault(f"the name {name!r} is no text: put it in quotes")
            found[name] = Node(self.file, f"{self.path}.{name}" if self.path else name, value)
        return found

    def emotions(self) -> dict[str, Node]:
        """What a voice holds, without its greeting."""
        found = {name: node for name, node in self.parts("emotions").items() if name not in GREETING}
        if not found:
            raise self.fault("has no emotion")
        return found

    def fields(
        self, types: Mapping[str, type | tuple[type, ...]], also: Mapping[str, str], needed: str
    ) -> dict[str, Any]:
        """A mapping's values by their names, each of its type; `also` are other names that are known for some."""
        found: dict[str, Any] = {}
        for name, node in self.parts("keys").items():
            key = also.get(name, name)
            if key not in types:
                raise node.fault(f"there is no such key; known here: {', '.join(types)}")
            if key in found:
                raise node.fault(f"{key} is said twice")
            found[key] = node.of(types[key])
        if not found.get(needed):
            raise self.fault(f"{needed} is missing")
        return found

    def of(self, kind: type | tuple[type, ...]) -> Any:
        """The value, if it is of that type. Raises: ValueError."""
        kinds = kind if isinstance(kind, tuple) else (kind,)
        value = self.value
        if kinds == (list,) and isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        if kinds == (list,) or type(value) not in kinds:
            needed = "a list of texts" if kinds == (list,) else kinds[-1].__name__
            raise self.fault(f"{_brief(value)} was given, but {needed} is needed")
        return value


def load(file: str) -> Node:
    """What a YAML file holds. Raises: ValueError, with the line, for one that cannot be read or says a thing twice."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        _once(file, "", yaml.compose(text, Loader=yaml.SafeLoader))
        return Node(file, "", yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        told = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{file}:{line} this is no YAML: {told}.") from error


def chosen(name: str, known: Mapping[str, T], what: str, of: str = "") -> T:
    """The voice or emotion that a request names. Raises: InputError, which lists those that there are."""
    if name not in known:
        raise InputError(f"TTS.{what}", f"there is no {what} {name!r}{of}; known here: {', '.join(known) or 'none'}")
    return known[name]


def usual(file: Node, table: Mapping[str, Iterable[str]], voice: str, emotion: str) -> None:
    """Raises: ValueError if the usual voice (by default the first) or its usual emotion is not in the table."""
    voice = voice or next(iter(table))
    if voice not in table:
        raise file.fault(f"there is no voice {voice!r}, which is to be the usual one; known here: {', '.join(table)}")
    if emotion and emotion not in table[voice]:
        known = ", ".join(table[voice]) or "none"
        raise file.fault(f"{voice} has no emotion {emotion!r}, which is to be the usual one; known: {known}")


def _once(file: str, path: str, node: Any) -> None:
    """Raises: ValueError for a key that a mapping has twice: YAML would silently take the last one."""
    if node is None or not isinstance(node.value, list):
        return
    names: set[str] = set()
    for part in node.value:
        if not isinstance(part, tuple):
            _once(file, path, part)
            continue
        key, value = part
        where = f"{path}.{key.value}" if path else str(key.value)
        if str(key.value) in names:
            raise ValueError(f"{file}: line {key.start_mark.line + 1}: {where} stands there twice.")
        names.add(str(key.value))
        _once(file, where, value)


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"
