"""`ezflow new module NAME`: a preset and its test, which pass as they are written."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from .errors import EzflowError
from .events import snake_case

__all__ = ["write"]

PLAIN = '''\
"""`{name}`: say here what it is for."""

from collections.abc import AsyncIterator

from ezflow import Module, Turn, module

__all__ = ["{name}"]


@module
class {name}(Module[str, str]):
    """Gives each word of a text back in capitals, with a mark at its end."""

    mark: str = "!"

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        for word in text.split():
            yield word.upper() + self.mark
'''

PLAIN_TEST = """\
import trio
from {file} import {name}

from ezflow.testing import check_module, collect


def test_it_keeps_all_rules_of_the_conformance_suite():
    check_module({name}(), ["hello world", ""])


def test_each_word_is_given_back_in_capitals():
    assert trio.run(collect, {name}("?"), ["hello world"]) == ["HELLO?", "WORLD?"]
"""

HTTP = '''\
"""`{name}`: say here which server it speaks to."""

from typing import Any

import attrs
from stdlib_modules.http.stream import Ask, HTTPStream, Reads

from ezflow import Turn, module

__all__ = ["{name}"]


@module
class {name}(HTTPStream[str, str]):
    """Sends a text, and gives the pieces of the answer as they arrive. Raises: BackendError."""

    url: str = attrs.field(default="http://127.0.0.1:9000", kw_only=True)

    reads = Reads.NDJSON  # or SSE, BYTES, JSON

    def ask(self, text: str, turn: Turn) -> Ask:
        return Ask("/generate", {{"text": text}})

    def item(self, piece: Any, turn: Turn) -> str:
        return str(piece["text"])
'''

HTTP_TEST = """\
import json

from {file} import {name}

from ezflow.testing import check_module
from ezflow.testing.backends import StandIn


class {name}StandIn(StandIn):
    name = "{name}"

    async def answer(self, request, reply):
        assert (request.path, list(request.json())) == ("/generate", ["text"])
        await reply.begin()
        for word in request.json()["text"].split():
            await reply.send(json.dumps({{"text": word}}).encode() + b"\\n")
        await reply.end()


def test_it_keeps_all_rules_of_the_conformance_suite():
    with {name}StandIn().in_thread() as server:
        assert check_module({name}(url=server.url), ["hello world"], real=True).outputs == ("hello", "world")
"""


def write(name: str, where: Path, *, http: bool) -> list[Path]:
    """Write the two files. Raises: EzflowError for a name that is none, or a file that is there already."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
        raise EzflowError(f"{name!r} is no name for a module: write it as a class is written, like Shouter.")
    file = snake_case(name)
    texts = {f"{file}.py": HTTP if http else PLAIN, f"test_{file}.py": HTTP_TEST if http else PLAIN_TEST}
    for path in texts:
        if (where / path).exists():
            raise EzflowError(f"{where / path} is there already: choose another name, or another folder (--in).")
    where.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        (where / path).write_text(text.format(name=name, file=file), encoding="utf-8")
    return [where / path for path in texts]
