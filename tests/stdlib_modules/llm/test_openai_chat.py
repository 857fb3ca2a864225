"""`OpenAIChat` against a stand-in: what is sent, what is made of every kind of chunk, what errors say."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from ezflow import InputError, Turn, module
from ezflow.testing import collect
from ezflow.testing.backends import Fault, Reply
from ezflow.testing.backends.openai import ChatBody, OpenAIStandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused
from stdlib_modules.llm.openai import OpenAIChat
from stdlib_modules.text.think import Thought


def chat(server: OpenAIStandIn, **settings: Any) -> OpenAIChat:
    return OpenAIChat("small", url=server.url, **({"retries": 0} | settings))


async def events(flow: Any, *texts: str, **options: Any) -> list[Any]:
    """What the client gets and what goes on, in one session."""
    async with flow.open() as service, service.session("ann") as session:
        found: list[Any] = []
        for text in texts:
            found += [event async for event in session.turn(text, options=options)]
        return found


def items(found: list[Any]) -> list[Any]:
    return [event.item for event in found if event.item is not None]


async def fails(server: OpenAIStandIn, error: type[BackendError], told: str, **settings: Any) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(error, match=told)):
        await collect(chat(server, **settings), ["hi"])


async def test_only_what_is_set_is_sent() -> None:
    async with OpenAIStandIn().serving() as server:
        await collect(chat(server), ["hi"])
        await collect(chat(server, system_prompt="Be brief.", temperature=0.0, top_p=0.9, max_tokens=5), ["hi"])
        await collect(chat(server, max_tokens=5, limit_field="max_completion_tokens"), ["hi"])
    hi = {"role": "user", "content": "hi"}
    least = {"model": "small", "messages": [hi], "stream": True}
    system = {"role": "system", "content": "Be brief."}
    more = {"messages": [system, hi], "temperature": 0.0, "top_p": 0.9, "max_tokens": 5}
    sent = [request.json() for request in server.requests]
    assert sent == [least, least | more, least | {"max_completion_tokens": 5}]
    assert {request.headers["accept"] for request in server.requests} == {"text/event-stream"}


async def test_a_request_may_set_its_own_options() -> None:
    async with OpenAIStandIn().serving() as server:
        module = chat(server, temperature=1.0, system_prompt="Be brief.")
        options = {"temperature": 0, "top_p": 0.5, "max_tokens": 7, "system_prompt": "Be long."}
        await collect(module, ["hi"], LLM=options)
        with pytest.raises(InputError, match=r"^options\.LLM\.top_p: 'top_p' must be <= 1"):
            await module.collect(["hi"], options={"LLM": {"top_p": 2}})
    (body,) = server.chats
    assert (body.temperature, body.top_p, body.max_tokens) == (0.0, 0.5, 7)
    assert body.messages[0].content == "Be long."


async def test_the_conversation_is_in_the_prompt_as_far_as_it_may_be() -> None:
    async with OpenAIStandIn(lambda text: f"You said {text}.").serving() as server:
        await events(chat(server, history_bytes=150), "one", "two", "three", "four")
    assert [len(body.messages) for body in server.chats] == [1, 3, 5, 3]
    assert [message.content for message in server.chats[1].messages] == ["one", "You said one.", "two"]


async def test_white_space_alone_asks_nothing() -> None:
    async with OpenAIStandIn().serving() as server:
        assert await collect(chat(server), ["", " \n\t"]) == []
    assert server.requests == []


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_thoughts_go_to_the_client_and_not_on(name: str) -> None:
    deltas = [{name: "Hm, "}, {name: "well.", "content": None}, {name: None, "content": ""}]
    async with OpenAIStandIn(deltas=deltas).serving() as server:
        found = items(await events(chat(server), "hi"))
        assert await collect(chat(server), ["hi"]) == ["You", " said", " hi."]
    assert found == [Thought("Hm, "), Thought("well."), "You", " said", " hi."]


async def test_calls_of_tools_are_left_out_and_a_refusal_is_text() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    deltas = [{"tool_calls": [call]}, {"content": [{"type": "image"}]}, {"refusal": "No. "}]
    async with OpenAIStandIn(deltas=deltas).serving() as server:
        assert await collect(chat(server), ["hi"]) == ["No. ", "You", " said", " hi."]


@pytest.mark.parametrize("ends", ["as OpenAI", "with a finish_reason", "with [DONE]"])
async def test_each_end_mark_is_one_and_the_connection_is_used_again(ends: Any) -> None:
    async with OpenAIStandIn(ends=ends).serving() as server:
        async with chat(server).open() as service:
            for user in ("ann", "bob", "cid"):
                async with service.session(user) as session:
                    assert [event.reason async for event in session.turn("hi")][-1] == "done"
            assert server.connections == 1
        assert server.left == []


async def test_a_stream_that_stays_open_behind_its_end_is_not_waited_for() -> None:
    class Lingers(OpenAIStandIn):
        async def _chat(self, body: ChatBody, reply: Reply) -> None:
            await reply.begin(content_type="text/event-stream")
            await reply.send(self._chunk([{"delta": {"content": "Hi."}, "finish_reason": "stop"}]))
            await trio.sleep_forever()

    async with Lingers().serving() as server:
        with trio.fail_after(5):
            assert await collect(chat(server), ["hi", "ho"]) == ["Hi.", "Hi."]
            await server.until(lambda: len(server.left) == 2)


async def test_an_error_inside_the_stream_ends_the_answer_with_what_the_server_says() -> None:
    async with OpenAIStandIn(fails_after=2).serving() as server:
        found = await events(chat(server), "hi")
        assert items(found) == ["You", " said"]
        assert found[-2].error.name == "BackendRefused"
        assert found[-2].error.message == f"OpenAIChat at {server.url} answered: The model ran out of memory"


@pytest.mark.parametrize(
    ("data", "error", "told"),
    [
        ('{"object": "error", "message": "too many tokens", "code": 400}', BackendRefused, "too many tokens"),
        ('{"error": "no memory"}', BackendRefused, "no memory"),
        ('{"error": {"code": 7}}', BackendRefused, '{"error": {"code": 7}}'),
        ("{nonsense", BackendBroken, "no part of an answer"),
        ("[]", BackendBroken, "no part of an answer"),
        ('{"choices": [{"delta": "x"}]}', BackendBroken, "no part of an answer"),
        ('{"error": null, "choices": null}', BackendBroken, "ended before its answer was complete"),
        (
            '{"choices": [{"delta": null, "finish_reason": null}]}',
            BackendBroken,
            "ended before its answer was complete",
        ),
    ],
)
async def test_a_chunk_that_is_none_is_told(data: str, error: type[BackendError], told: str) -> None:
    class Odd(OpenAIStandIn):
        async def _chat(self, body: ChatBody, reply: Reply) -> None:
            await reply.begin(content_type="text/event-stream")
            await reply.send(f": a comment\n\ndata: {data}\n\n".encode())
            await reply.end()

    async with Odd().serving() as server:
        await fails(server, error, rf"^OpenAIChat at {server.url}\S* .*{told}")


async def test_the_key_is_read_when_it_opens_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    monkeypatch.setenv("OTHER_KEY", "sk-0123456789")
    async with OpenAIStandIn(key="sk-right").serving() as server:
        assert await collect(chat(server), ["hi"])
        found = await events(chat(server, api_key_env="OTHER_KEY"), "hi")
        message = found[-2].error.message
        assert "answered 401: Incorrect API key provided: ***: put the key into the environment" in message
        assert "sk-" not in repr(chat(server)) + message
        await fails(server, BackendRefused, "401: Incorrect API key provided: None", api_key_env=None)


async def test_a_model_that_the_server_does_not_have_is_told() -> None:
    async with OpenAIStandIn(model="another").serving() as server:
        await fails(server, BackendRefused, "answered 404: The model `small` does not exist: give a model that it has")


async def test_a_server_that_is_busy_is_asked_again() -> None:
    class Busy(OpenAIStandIn):
        async def _chat(self, body: ChatBody, reply: Reply) -> None:
            if len(self.requests) == 1:
                await self._error(reply, "Rate limit reached", 429)
            else:
                await super()._chat(body, reply)

    async with Busy().serving() as server:
        assert await collect(chat(server, retries=1), ["hi"]) == ["You", " said", " hi."]
        assert len(server.requests) == 2


async def test_a_probe_asks_for_the_models() -> None:
    async with OpenAIStandIn().serving() as server:
        llm = chat(server)
        async with llm.lifespan():
            await llm.probe()
            server.fault = Fault.REFUSES
            with pytest.raises(BackendRefused):
                await llm.probe()
    assert [request.path for request in server.requests] == ["/v1/models"] * 2


@module
class Sparing(OpenAIChat):
    """Asks for no thinking."""

    def body(self, text: str, turn: Turn) -> dict[str, Any]:
        return super().body(text, turn) | {"max_completion_tokens": 9}


async def test_a_derived_class_may_send_more() -> None:
    async with OpenAIStandIn().serving() as server:
        assert await collect(Sparing("small", url=server.url), ["hi"])
    assert server.chats[0].max_completion_tokens == 9


def test_settings_that_cannot_be_are_refused() -> None:
    for settings in ({"temperature": -1.0}, {"top_p": 1.5}, {"max_tokens": 0}, {"limit_field": "n"}):
        with pytest.raises(ValueError):
            OpenAIChat("small", **settings)
    assert attrs.fields_dict(OpenAIChat)["url"].default == "https://api.openai.com/v1"
