"""`OpenAIChat` against llama.cpp's own OpenAI-compatible server, with a real model, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import attrs
import pytest
import trio

from ezflow.testing import check_module, collect
from ezflow.weights import find
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendRefused
from stdlib_modules.llm.openai import OpenAIChat

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="NOT TESTED: pip install -e '.[embedded]'"),
    pytest.mark.skipif(find() is None, reason="NOT TESTED: the weights are missing: ezflow models pull"),
]

KEY = "sk-0123456789"
CONTEXT = 1024


@attrs.frozen
class Llama:
    """A server of its own, with one slot."""

    url: str

    def chat(self, **settings: Any) -> OpenAIChat:
        given = {"url": f"{self.url}/v1", "api_key_env": "LLAMA_KEY", "temperature": 0.0, "retries": 0}
        return OpenAIChat("any", **(given | settings))

    async def busy(self) -> bool:
        """Whether it still writes."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with HTTPClient(self.url, headers=headers) as http, http.stream("GET", "/slots") as reply:
            return any(slot["is_processing"] for slot in await reply.json())

    async def until_idle(self) -> None:
        with trio.fail_after(10):
            while await self.busy():
                pass


@contextmanager
def serving() -> Iterator[Llama]:
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(find())
    params.n_parallel = 1
    params.n_ctx = CONTEXT
    params.api_keys = [KEY]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.verbosity = -1
    server = xllamacpp.Server(params)
    yield Llama(server.listening_address)
    del server


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Llama]:
    monkeypatch.setenv("LLAMA_KEY", KEY)
    with serving() as server:
        yield server


async def ask(session: Any, text: str) -> str:
    return "".join([event.item async for event in session.turn(text) if event.type == "text"])


async def test_it_answers_in_pieces_keeps_the_conversation_and_minds_its_options(llama: Llama) -> None:
    async with llama.chat(max_tokens=60).open() as service, service.session("ann") as session:
        assert "Paris" in await ask(session, "What is the capital of France?")
        assert "Rome" in await ask(session, "And of Italy?")
    pieces = await collect(llama.chat(), ["Tell me about the ocean."], LLM={"max_tokens": 5})
    assert 1 < len(pieces) <= 5
    pieces = await collect(llama.chat(limit_field="max_completion_tokens"), ["Hello"], LLM={"max_tokens": 1})
    assert len(pieces) == 1


async def test_an_interruption_ends_the_writing_at_once_and_the_next_turn_is_answered(llama: Llama) -> None:
    async with llama.chat(max_tokens=900).open() as service, service.session("ann") as session:
        for _ in range(3):
            async with session.turn("Count from one to one thousand, in words.") as events:
                async for event in events:
                    if event.type == "text":
                        break
                assert await llama.busy()
                await session.interrupt()
            await llama.until_idle()
        assert "Paris" in await ask(session, "What is the capital of France? Answer in one word.")


async def test_what_it_refuses_is_told(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match=r"answered 400: .*context size")):
        await collect(llama.chat(), ["word " * 2 * CONTEXT])
    monkeypatch.setenv("LLAMA_KEY", "wrong")
    with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match=r"answered 401: Invalid API Key: put the key")):
        await collect(llama.chat(), ["hi"])


async def test_it_can_be_probed(llama: Llama) -> None:
    llm = llama.chat()
    async with llm.lifespan():
        await llm.probe()


def test_it_keeps_the_rules_of_a_module_with_a_real_server(llama: Llama) -> None:
    # What an answer says depends on the conversation before it: here only that there is one counts.
    options = {"LLM": {"max_tokens": 2}}
    check_module(llama.chat(), ["Tell me a story."], real=True, same=lambda a, b: True, options=options)
