"""Operations as lines for a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["curls"]

# A longer text in an example is a sound, and comes from a file.
LONG = 80
WAV = "question.wav"


def curls(path: str, method: str, made: Mapping[str, Any], url: str, *, with_token: bool) -> Iterator[tuple[str, str]]:
    """For each example of an operation what it is, and the line; none for one whose body only its module knows.

    `url` stands between single quotes; `with_token`: the line takes a token from the shell's TOKEN.
    """
    parameters = made.get("parameters", ())
    if any(one["in"] == "path" for one in parameters):
        return
    asked = "&".join(f"{one['name']}={one['example']}" for one in parameters if "example" in one)
    content = made.get("requestBody", {}).get("content", {}).get("application/json", {})
    command = ["curl"]
    if any("x-itemSchema" in kind for kind in made["responses"].get("200", {}).get("content", {}).values()):
        command.append("-N")
    if method != "get" and not (method == "post" and content):
        command += ["-X", method.upper()]
    line = f"{' '.join(command)} '{url}{path}{f'?{asked}' if asked else ''}'"
    if with_token:
        line += ' -H "Authorization: Bearer $TOKEN"'
    if not content:
        yield "", line
    elif "example" in content:
        yield "", _sent(line, content["example"])
    for example in content.get("examples", {}).values():
        yield example["summary"], _sent(line, example["value"])


def _sent(line: str, body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False)
    sound = next((value for value in body.values() if isinstance(value, str) and len(value) > LONG), None)
    if sound is None:
        return f"{line} -d {shlex.quote(text)}"
    shape = shlex.quote(text.replace("%", "%%").replace(sound, "%s"))
    return f"printf {shape} \"$(base64 < {WAV} | tr -d '\\n')\" |\n  {line} -d @-"
