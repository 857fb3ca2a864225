"""`LocalLLM(url=...)` against a loopback stand-in that checks every request; no model is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ezflow import InputError, ModuleOpenError
from ezflow.history import Message
from ezflow.testing import check_module, collect
from ezflow.testing.backends import Reply, Request
from ezflow.testing.backends.openai import OpenAIStandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused, BackendUnreachable
from stdlib_modules.llm.chat import messages, prompt_bytes, recent
from stdlib_modules.llm.local import LocalLLM
from stdlib_modules.text.think import Thought


def server(answer: str = "Hello there.", **script: Any) -> OpenAIStandIn:
    return OpenAIStandIn(lambda _: answer, **({"model": "default"} | script))


class Short(OpenAIStandIn):
    """Refuses prompts of more than `limit` messages, as llama.cpp does those of too many tokens."""

    def __init__(self, limit: int) -> None:
        super().__init__(lambda _: "Hello there.", model="default")
        self.limit = limit

    async def answer(self, request: Request, reply: Reply) -> None:
        if len(request.json()["messages"]) > self.limit:
            message = "request (3000 tokens) exceeds the available context size (2048 tokens), try increasing it"
            error = {"code": 400, "type": "exceed_context_size_error", "message": message}
            await reply.json({"error": error}, 400)
        else:
            await super().answer(request, reply)


async def test_pieces_come_as_the_server_writes_them() -> None:
    async with server().serving() as llama:
        assert await collect(LocalLLM(url=llama.url, system_prompt="Be brief."), ["hi"]) == ["Hello", " there."]
    (request,) = llama.requests
    assert request.json() == {
        "model": "default",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 256,
        "temperature": 0.0,
    }
    assert "authorization" not in request.headers


async def test_options_of_a_request_replace_those_of_the_module() -> None:
    options = {"temperature": 0.5, "max_tokens": 7, "system_prompt": ""}
    async with server(model="some-model").serving() as llama:
        await collect(LocalLLM(url=llama.url, model="some-model"), ["hi"], LLM=options)
    (body,) = llama.chats
    assert (body.model, body.temperature, body.max_tokens) == ("some-model", 0.5, 7)
    assert [(message.role, message.content) for message in body.messages] == [("user", "hi")]


@pytest.mark.parametrize("options", [{"temperature": -0.5}, {"max_tokens": 0}, {"max_tokens": -1}])
async def test_options_that_no_model_can_follow_are_refused_before_it_is_asked(options: dict[str, Any]) -> None:
    (name,) = options
    async with server().serving() as llama:
        with pytest.raises(InputError, match=rf"^options\.LLM\.{name}: '{name}' must be >= "):
            await LocalLLM(url=llama.url).collect(["hi"], options={"LLM": options})
        assert llama.requests == []


async def test_white_space_alone_asks_nothing() -> None:
    async with server().serving() as llama:
        assert await collect(LocalLLM(url=llama.url), ["", " \n"]) == []
    assert llama.requests == []


async def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    async with server(key="s3cret").serving() as llama:
        llm = LocalLLM(url=llama.url, api_key_env="MY_KEY")
        assert await collect(llm, ["hi"])
    assert "s3cret" not in repr(llm)


async def test_the_history_of_the_session_is_in_the_prompt() -> None:
    async with server().serving() as llama:
        flow = LocalLLM(url=llama.url, system_prompt="")
        async with flow.open() as service, service.session("ann") as session:
            for text in ("one", "two"):
                said = [event.item async for event in session.turn(text) if event.type == "text"]
                assert said == ["Hello", " there."]
    assert llama.requests[1].json()["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "two"},
    ]


async def test_what_the_model_thinks_goes_to_the_client_and_not_on() -> None:
    async with server(deltas=[{"reasoning_content": "Hm."}]).serving() as llama:
        async with LocalLLM(url=llama.url).open() as service, service.session("ann") as session:
            items = [event.item async for event in session.turn("hi") if event.item is not None]
    assert items == [Thought("Hm."), "Hello", " there."]


async def test_cancelling_a_turn_closes_its_connection() -> None:
    async with server("on and " * 100, each_s=0.01).serving() as llama:
        async with LocalLLM(url=llama.url).open() as service, service.session("ann") as session:
            async with session.turn("hi") as events:
                async for event in events:
                    if event.type == "text":
                        break
            await llama.until(lambda: len(llama.left) == 1)


async def test_a_prompt_that_is_too_long_for_the_server_forgets_older_history() -> None:
    async with Short(4).serving() as llama:
        flow = LocalLLM(url=llama.url, system_prompt="")
        async with flow.open() as service, service.session("ann") as session:
            for number in range(3):
                assert [event.type async for event in session.turn(f"question {number}")].count("text") == 2
    sent = [request.json()["messages"] for request in llama.requests]
    assert list(map(len, sent)) == [1, 3, 5, 3]
    assert sent[-1][0] == {"role": "user", "content": "question 1"}


async def test_a_text_that_is_too_long_by_itself_says_what_to_do() -> None:
    async with Short(0).serving() as llama:
        await fails(LocalLLM(url=llama.url), BackendRefused, "larger n_ctx")
    assert len(llama.requests) == 1


async def test_a_context_that_is_full_in_mid_answer_is_no_reason_to_begin_again() -> None:
    class Full(OpenAIStandIn):
        def _chunk(self, choices: Any, **more: Any) -> bytes:
            if "there" in str(choices):
                return b'data: {"error": {"message": "context size exceeded"}}\n\n'
            return super()._chunk(choices, **more)

    async with Full(lambda _: "Hello there.", model="default").serving() as llama:
        async with LocalLLM(url=llama.url).open() as service, service.session("ann") as session:
            for _ in range(2):
                events = [event async for event in session.turn("hi")]
                assert [event.item for event in events if event.type == "text"] == ["Hello"]
                assert "larger n_ctx" in events[-2].error.message
    assert len(llama.requests) == 2


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        ({"key": "k"}, BackendRefused, "answered 401: Incorrect API key"),
        ({"refusal": (500, "no model")}, BackendRefused, "answered 500: no model"),
        ({"refusal": (502, {"message": "bad gateway"})}, BackendRefused, "answered 502: bad gateway"),
        ({"fails_after": 1}, BackendRefused, "answered: The model ran out of memory"),
    ],
    ids=["a key", "a text", "a message", "inside the stream"],
)
async def test_what_the_server_complains_of_is_the_error(
    script: dict[str, Any], error: type[BackendError], told: str
) -> None:
    async with server(**script).serving() as llama:
        await fails(LocalLLM(url=llama.url), error, rf"^LocalLLM at {llama.url}.* {told}")


@pytest.mark.parametrize("data", ["{nonsense", "[1]", '"a"', '{"choices": 5}', '{"choices": [[]]}', "[" * 5000])
async def test_what_is_no_answer_is_told(data: str) -> None:
    class Odd(OpenAIStandIn):
        def _chunk(self, choices: Any, **more: Any) -> bytes:
            return f"data: {data}\n\n".encode()

    async with Odd(model="default").serving() as llama:
        await fails(LocalLLM(url=llama.url), BackendBroken, "sent what is no part of an answer")


async def test_a_server_that_is_not_there_is_named() -> None:
    async with server().serving() as llama:
        pass
    await fails(LocalLLM(url=llama.url), BackendUnreachable, rf"^LocalLLM at {llama.url}/chat/.* another url")


async def fails(llm: LocalLLM, error: type[BackendError], told: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(error, match=told)):
        await collect(llm, ["hi"])


async def test_missing_weights_name_the_command_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZFLOW_CACHE", str(tmp_path))
    with pytest.raises(ModuleOpenError, match="ezflow models pull"):
        await collect(LocalLLM(), ["hi"])


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("no model")
    with pytest.raises(ModuleOpenError, match=r"notes\.gguf is no GGUF file"):
        await collect(LocalLLM(model=str(tmp_path / "notes.gguf")), ["hi"])
    with pytest.raises(ModuleOpenError, match=r"absent\.gguf \(No such file"):
        await collect(LocalLLM(model=str(tmp_path / "absent.gguf")), ["hi"])


def test_local_llm_keeps_the_rules_of_a_module() -> None:
    with server(each_s=0.002).in_thread() as llama:
        check_module(LocalLLM(url=llama.url), ["one", "two"], real=True)


def said(*texts: str) -> list[Message]:
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


def test_history_that_fits_is_kept_whole() -> None:
    history = said("a", "b", "c", "d")
    assert recent(history, 4 * prompt_bytes("a")) == history
    assert recent((), -5) == ()


def test_history_fits_and_keeps_its_beginning_for_many_turns() -> None:
    room = 20 * prompt_bytes("x" * 10)
    history: list[Message] = []
    beginnings: list[int] = []
    for number in range(100):
        history.append(Message("user", f"{number:10d}"))
        kept = recent(history, room)
        assert sum(prompt_bytes(message.content) for message in kept) <= room
        assert kept[-1] is history[-1]
        beginnings.append(len(history) - len(kept))
    assert len(set(beginnings)) == 9
    assert beginnings == sorted(beginnings)


def test_without_room_no_history_is_kept() -> None:
    assert list(recent(said("a", "b"), -100)) == []


def test_words_without_an_answer_join_the_next_ones() -> None:
    history = [*said("one", "uno"), Message("user", "two")]
    assert messages("", history, "three") == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "uno"},
        {"role": "user", "content": "two\nthree"},
    ]


def test_a_prompt_does_not_begin_with_an_answer() -> None:
    assert messages("S", said("one", "uno")[1:], "two") == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "two"},
    ]
