"""`LocalLLM` with its real model, on the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from ezflow import ModuleOpenError
from ezflow.testing import check_module
from ezflow.weights import find
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.llm.chat import completion
from stdlib_modules.llm.local import LocalLLM

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="NOT TESTED: pip install -e '.[embedded]'"),
    pytest.mark.skipif(find() is None, reason="NOT TESTED: the weights are missing: ezflow models pull"),
]


async def ask(session: Any, text: str, **options: Any) -> list[str]:
    """The pieces of the answer in one turn."""
    pieces = []
    async for event in session.turn(text, options={"LLM": options}):
        assert event.type != "error", event.error
        if event.type == "text":
            pieces.append(event.item)
    return pieces


async def answer(llm: LocalLLM, body: dict[str, Any]) -> Any:
    """What llama.cpp answers when nothing is streamed."""
    async with llm.http.stream("POST", "/chat/completions", json=body) as reply:
        return await reply.json()


async def test_it_answers_in_pieces_and_keeps_the_conversation_in_mind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with LocalLLM().open() as service:
        async with service.session("ann") as session:
            pieces = await ask(session, "How many legs does a spider have?")
            assert len(pieces) > 3
            assert "eight" in "".join(pieces)
            assert "insects" in "".join(await ask(session, "And what do they eat?"))
            assert len(session.history.messages) == 4
        async with service.session("bob") as session:
            assert "Rome" in "".join(await ask(session, "What is the capital of Italy?"))
            assert len(await ask(session, "Tell me about the ocean in five sentences.")) > 30
            assert len(await ask(session, "Tell me about the ocean.", max_tokens=5)) <= 5
            shouted = "".join(
                await ask(session, "hello", system_prompt="Repeat the user's words.\n\nUser: yes\n\nAssistant: yes")
            )
            assert "hello" in shouted.lower()
    assert capfd.readouterr() == ("", "")


async def test_two_users_at_once_get_their_own_answers() -> None:
    answers: dict[str, str] = {}

    async def one(service: Any, user: str, text: str) -> None:
        async with service.session(user) as session:
            answers[user] = "".join(await ask(session, text))

    async with LocalLLM().open() as service, trio.open_nursery() as nursery:
        nursery.start_soon(one, service, "ann", "What is the capital of Italy?")
        nursery.start_soon(one, service, "bob", "How many wheels does a car have?")
        nursery.start_soon(one, service, "cid", "What is the largest planet?")
    assert "Rome" in answers["ann"]
    assert "four" in answers["bob"]
    assert "Jupiter" in answers["cid"]


async def test_cancelling_a_turn_frees_its_slot() -> None:
    llm = LocalLLM(n_parallel=1, n_ctx=6144, max_tokens=5000)
    async with llm.open() as service:
        async with service.session("ann") as ann, service.session("bob") as bob:
            async with ann.turn("Count from one to one thousand.") as events:
                async for event in events:
                    if event.type == "text":
                        break
            # Writing on would take minutes, and there is no other slot.
            with trio.fail_after(30):
                assert "Paris" in "".join(await ask(bob, "What is the capital of France?"))


async def test_leaving_a_stream_frees_its_slot_and_the_system_prompt_has_been_read() -> None:
    llm = LocalLLM(n_parallel=1, n_ctx=6144)
    async with llm.lifespan():
        question = [
            {"role": "system", "content": llm.system_prompt},
            {"role": "user", "content": "Count to 1000."},
        ]
        body = {"messages": question, "max_tokens": 5000, "temperature": 0}
        async with llm.http.stream("POST", "/chat/completions", json=body | {"stream": True}) as reply:
            async for _ in completion(reply, RuntimeError):
                break
        with trio.fail_after(30):
            usage = (await answer(llm, body | {"max_tokens": 1}))["usage"]
        root, key = llm.http.url.removesuffix("/v1"), llm.http._headers["authorization"]
        async with HTTPClient(root, headers={"Authorization": key}) as http, http.stream("GET", "/slots") as reply:
            assert [(slot["n_ctx"], slot["is_processing"]) for slot in await reply.json()] == [(6144, False)]
        assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] < 5


async def test_the_first_question_finds_the_system_prompt_read_in_every_slot() -> None:
    llm = LocalLLM(n_parallel=2)
    unread: list[int] = []

    async def once(text: str) -> None:
        prompt = [{"role": "system", "content": llm.system_prompt}, {"role": "user", "content": text}]
        usage = (await answer(llm, {"messages": prompt, "max_tokens": 8}))["usage"]
        unread.append(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])

    async with llm.lifespan():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(once, "What is the capital of Spain?")
            nursery.start_soon(once, "What is the largest planet?")
    assert max(unread) < 25


async def test_a_conversation_longer_than_the_context_goes_on() -> None:
    async with LocalLLM(n_ctx=384, max_tokens=48, n_parallel=1).open() as service:
        async with service.session("ann") as session:
            for number in range(8):
                digits = " ".join(str(7919 * number + place) for place in range(12))  # many tokens, few bytes
                assert await ask(session, f"Remember {digits}. What is the capital of Italy?", max_tokens=8)
            assert len(session.history.messages) == 16


async def test_closing_leaves_no_thread_and_it_opens_again() -> None:
    async def threads_after_a_turn() -> int:
        async with LocalLLM(n_parallel=1).open() as service, service.session("ann") as session:
            await ask(session, "Hello", max_tokens=1)
        return len(os.listdir("/proc/self/task"))

    # The first time llama.cpp starts a thread for its log, which the process keeps.
    assert await threads_after_a_turn() >= await threads_after_a_turn()


async def test_a_system_prompt_beyond_the_context_is_an_error_at_the_start() -> None:
    with pytest.raises(ModuleOpenError, match="larger n_ctx"):
        async with LocalLLM(system_prompt="word " * 2000, n_ctx=512, n_parallel=1).open():
            pass


async def test_a_broken_model_is_an_error_at_the_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(ModuleOpenError, match=r"cannot load .*broken\.gguf"):
        async with LocalLLM(model=str(tmp_path / "broken.gguf")).open():
            pass
    assert capfd.readouterr() == ("", "")


def test_local_llm_keeps_the_rules_of_a_module_with_its_model() -> None:
    # What an answer says depends on the conversation before it: here only that there is one counts.
    options = {"LLM": {"max_tokens": 2}}
    result = check_module(LocalLLM(), ["Tell me a story."], real=True, same=lambda a, b: True, options=options)
    assert len(result.outputs) == 2
