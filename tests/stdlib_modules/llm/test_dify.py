"""Dify's events, conversations, options and errors, and that an answer nobody wants is stopped there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio

from ezflow import Latest, Progress, route
from ezflow.history import Message
from ezflow.testing import collect
from ezflow.testing.backends import Fault, Reply, Request
from ezflow.testing.backends.dify import DifyStandIn
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused
from stdlib_modules.llm.dify import Dify
from stdlib_modules.llm.dify_answer import Answer, AnswerFile, AnswerReplaced, Citations, Conversation
from stdlib_modules.text.think import Thought

KEY = "app-4f9c1d2e3b5a"
IDS = {"conversation_id": "c-1", "message_id": "m-1", "task_id": "t-1"}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("DIFY_API_KEY", raising=False)


def told(*events: Mapping[str, Any] | str) -> list[Any]:
    """What these events of one answer give, beside its conversation."""
    answer = Answer()
    items = [item for event in events for item in answer.read(says(event) if isinstance(event, str) else event)]
    return [item for item in items if not isinstance(item, Conversation)]


def says(text: str, event: str = "message") -> dict[str, Any]:
    return {"event": event, "answer": text, **IDS}


async def turn(session: Any, text: str, **options: Any) -> list[Any]:
    """All events of a turn."""
    return [event async for event in session.turn(text, options={"LLM": options} if options else None)]


def text_of(events: list[Any]) -> str:
    return "".join(event.item for event in events if event.type == "text")


def errors_of(group: Any) -> list[BaseException]:
    return list(group.value.exceptions)


# ---------------------------------------------------------------- what is asked


async def test_a_question_is_sent_as_dify_documents_it(monkeypatch):
    monkeypatch.setenv("DIFY_API_KEY", KEY)
    async with DifyStandIn(key=KEY).serving() as server:
        assert "".join(await collect(Dify(url=server.url), ["你好"])) == "You said 你好."
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat-messages")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == "text/event-stream"
    assert request.json() == {
        "inputs": {},
        "query": "你好",
        "response_mode": "streaming",
        "conversation_id": "",
        "user": "script",
        "files": [],
    }


async def test_a_text_with_nothing_in_it_is_not_sent():
    async with DifyStandIn().serving() as server:
        assert await collect(Dify(url=server.url), ["", " \n"]) == []
        assert server.requests == server.asides == []


async def test_a_request_sets_variables_and_files():
    async with DifyStandIn().serving() as server:
        options = {
            "conversation_id": "",
            "inputs": {"city": "Rome", "tags": ["a"]},
            "files": [{"url": "https://host/a.png"}, {"transfer_method": "local_file", "upload_file_id": "f-1"}],
        }
        module = Dify(url=server.url, inputs=(("city", "Paris"), ("days", 3)))
        await collect(module, ["x"], LLM=options)
        [chat] = server.chats
    assert chat.inputs == {"city": "Rome", "days": 3, "tags": ["a"]}
    assert [(file.type, file.transfer_method, file.url, file.upload_file_id) for file in chat.files] == [
        ("image", "remote_url", "https://host/a.png", None),
        ("image", "local_file", None, "f-1"),
    ]


async def test_a_wrong_key_is_never_shown_and_the_error_says_where_it_comes_from(monkeypatch):
    monkeypatch.setenv("DIFY_API_KEY", KEY)
    async with DifyStandIn(key="another").serving() as server:
        module = Dify(url=server.url)
        with pytest.RaisesGroup(BackendRefused) as group:
            await collect(module, ["x"])
    [error] = errors_of(group)
    assert error.status == 401
    assert "DIFY_API_KEY" in str(error)
    assert KEY not in str(error)
    assert KEY not in repr(module)


async def test_a_key_that_a_server_repeats_in_an_event_is_not_shown(monkeypatch):
    monkeypatch.setenv("DIFY_API_KEY", KEY)
    error = {"event": "error", "code": "x", "message": f"the key {KEY} is used up", "status": 400}
    async with DifyStandIn(lambda _: [error], key=KEY).serving() as server:
        with pytest.RaisesGroup(BackendRefused) as group:
            await collect(Dify(url=server.url), ["x"])
    [error] = errors_of(group)
    assert str(error) == f"Dify at {server.url} answered: the key *** is used up (x)"


# ---------------------------------------------------------------- conversations


async def test_a_client_is_told_its_conversation_once_and_before_the_text():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            events = await turn(session, "hello")
    kinds = [event.type for event in events]
    assert kinds == ["turn.started", "conversation", "text", "text", "text", "turn.ended"]
    assert events[1].item == Conversation("c-1-ann", "m-1")


async def test_a_client_that_sends_its_conversation_back_goes_on_with_it():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await turn(session, "one", conversation_id="")
            await turn(session, "two", conversation_id="")
            await turn(session, "three", conversation_id="c-1-ann")
        assert [chat.conversation_id for chat in server.chats] == ["", "", "c-1-ann"]
        assert server.asides == []  # nobody asked Dify which one it is


async def test_without_one_a_session_goes_on_with_its_own():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as ann, service.session("bob") as bob:
            for text in ("one", "two"):
                await turn(ann, text)
                await turn(bob, text)
            await turn(ann, "another", conversation_id="")
            await turn(ann, "and on")
        assert [(chat.user, chat.conversation_id) for chat in server.chats] == [
            ("ann", ""),
            ("bob", ""),
            ("ann", "c-1-ann"),
            ("bob", "c-2-bob"),
            ("ann", ""),
            ("ann", "c-3-ann"),
        ]


async def test_a_new_session_of_a_user_begins_a_new_conversation():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        for _ in range(2):
            async with service.session("ann") as session:
                await turn(session, "hello")
        assert [chat.conversation_id for chat in server.chats] == ["", ""]


async def test_one_that_does_not_go_on_begins_a_new_conversation_each_time():
    async with DifyStandIn().serving() as server, Dify(url=server.url, continues=False).open() as service:
        async with service.session("ann") as session:
            await turn(session, "one")
            await turn(session, "two")
        assert [chat.conversation_id for chat in server.chats] == ["", ""]
        assert server.asides == []


async def test_what_is_said_into_one_microphone_is_one_conversation():
    async with DifyStandIn().serving() as server:
        flow = Latest(Dify(url=server.url))
        async with flow.open() as service, service.session("ann") as session, session.live() as live:
            for text in ("one", "two", "three"):
                await live.send(text)
                heard = ""
                async for event in live:
                    heard += event.item if event.type == "text" else ""
                    if heard == f"You said {text}.":
                        break
            await live.end()
        assert [chat.conversation_id for chat in server.chats] == ["", "c-1-ann", "c-1-ann"]


async def test_a_conversation_of_another_user_is_not_there():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await turn(session, "a secret")
        async with service.session("bob") as session:
            events = await turn(session, "what did she say?", conversation_id="c-1-ann")
    [error] = [event.error for event in events if event.type == "error"]
    assert error.name == "BackendRefused"
    assert "answered 404: Conversation Not Exists." in error.message
    assert "conversation" in error.message.rpartition(": ")[2]


async def test_the_sessions_history_holds_what_was_said():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await turn(session, "hello")
            assert session.history.messages == (Message("user", "hello"), Message("assistant", "You said hello."))


# ---------------------------------------------------------------- the kinds of events


def test_text_of_a_chatbot_and_of_an_agent_goes_on():
    assert told("Hel", "", "lo") == ["Hel", "lo"]
    assert told(says("Hel", "agent_message"), says("lo", "agent_message")) == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("whole", "more"), [("Hello", []), ("Hello there", [" there"]), ("Something else", []), ("", [])]
)
def test_an_agents_closing_message_repeats_nothing(whole, more):
    assert told(says("Hello", "agent_message"), says(whole)) == ["Hello", *more]


@pytest.mark.parametrize(
    ("before", "answer", "given"),
    [
        ([], "I may not say that.", ["I may not say that."]),
        (["Hello"], "Hello", []),
        (["Hello"], "Hello there", [" there"]),
        (["Hello there"], "Hello", [AnswerReplaced("Hello")]),
        (["The bomb"], "No.", [AnswerReplaced("No."), "\nNo."]),
    ],
    ids=["nothing-said", "the-same", "more", "less", "another"],
)
def test_a_replaced_answer_says_what_has_not_been_said(before, answer, given):
    assert told(*before, says(answer, "message_replace")) == [*before, *given]


def test_the_thoughts_of_an_agent_are_told_once_and_not_what_it_said_aloud():
    def step(**parts: Any) -> dict[str, Any]:
        return {"event": "agent_thought", "id": "s-1", "position": 1, "observation": "", **parts, **IDS}

    assert told(
        step(thought=""),
        step(thought="I look"),
        step(thought="I look it up", tool="search", tool_input="{}"),
        step(thought="I look it up", tool="search", observation="12 °C"),
        says("It is cold.", "agent_message"),
        step(thought="It is cold.", tool=None) | {"id": "s-2"},
    ) == [Thought("I look"), Thought(" it up"), Progress("uses search"), "It is cold."]


def test_files_citations_and_reasoning_are_told():
    cited = {"position": 1, "document_name": "a.pdf", "content": "…"}
    assert told(
        {"event": "reasoning_chunk", "data": {"reasoning": "hm", "is_final": False}, **IDS},
        {"event": "reasoning_chunk", "data": {"reasoning": "", "is_final": True}, **IDS},
        {"event": "message_file", "id": "f", "type": "image", "belongs_to": "assistant", "url": "https://h/c", **IDS},
        {"event": "message_end", "metadata": {"usage": {}, "retriever_resources": [cited]}, **IDS},
    ) == [Thought("hm"), AnswerFile("https://h/c", "image", "f"), Citations((cited,))]


@pytest.mark.parametrize(
    "kind",
    ["workflow_started", "node_started", "node_finished", "node_retry", "agent_log", "tts_message", "ping", "new_one"],
)
def test_other_events_say_nothing(kind):
    assert told({"event": kind, "audio": "UklGRg==", "data": {"title": "LLM", "outputs": {"x": 1}}, **IDS}) == []


@pytest.mark.parametrize(
    "event",
    [{"answer": 5}, {"event": "message", "answer": ["x"]}, {"event": "reasoning_chunk", "data": "x"}, [], "x"],
    ids=str,
)
async def test_an_event_that_is_none_of_difys_ends_the_turn(event):
    class Odd(DifyStandIn):
        async def answer(self, request: Request, reply: Reply) -> None:
            await reply.begin(content_type="text/event-stream")
            await reply.send(b"data: " + msgspec.json.encode(event) + b"\n\n")
            await reply.end()

    async with Odd().serving() as server:
        with pytest.RaisesGroup(BackendBroken) as group:
            await collect(Dify(url=server.url), ["x"])
    [error] = errors_of(group)
    assert str(error).startswith(f"Dify at {server.url}/chat-messages sent ")


async def test_a_chatflow_answers_with_everything_in_its_stream():
    data = {"id": "n", "title": "LLM", "status": "succeeded"}
    events = [
        {"event": "workflow_started", "workflow_run_id": "w", "data": data},
        {"event": "node_started", "workflow_run_id": "w", "data": data},
        "ping",
        "It is ",
        {"event": "tts_message", "audio": "UklGRg=="},
        "cold.",
        {"event": "node_finished", "workflow_run_id": "w", "data": data},
        {"event": "message_end", "metadata": {}},
        {"event": "workflow_finished", "workflow_run_id": "w", "data": data},
        {"event": "tts_message_end", "audio": ""},
    ]
    async with DifyStandIn(lambda _: events).serving() as server:
        assert await collect(Dify(url=server.url), ["x", "y"]) == ["It is ", "cold."] * 2
        assert server.stopped == []


async def test_speech_that_follows_an_answer_is_not_waited_for():
    speech = [{"event": "message_end", "metadata": {}}, *[{"event": "tts_message", "audio": ""}] * 100]
    async with DifyStandIn(lambda _: ["Hi", *speech], each_s=0.05).serving() as server:
        with trio.fail_after(2):
            assert await collect(Dify(url=server.url), ["x"]) == ["Hi"]
        assert server.stopped == []


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            ["Hel", {"event": "error", "status": 400, "code": "provider_quota_exceeded", "message": "no quota"}],
            "answered: no quota (provider_quota_exceeded)",
        ),
        (
            [
                {"event": "workflow_finished", "data": {"status": "failed", "error": "node LLM failed"}},
                {"event": "error", "status": 400, "code": "invalid_param", "message": "run failed"},
            ],
            "answered: run failed (invalid_param)",
        ),
        (
            [
                {"event": "human_input_required", "data": {"form_token": "tok"}},
                {"event": "workflow_paused", "data": {"paused_nodes": ["n"]}},
            ],
            "answered: its run waits for a person's input, which cannot be given here",
        ),
    ],
    ids=["error", "failed", "paused"],
)
async def test_a_failure_within_an_answer_is_told_in_difys_words(events, message):
    async with DifyStandIn(lambda _: events).serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            seen = await turn(session, "x")
        await server.until(lambda: not server.writing)
        assert server.stopped == []
    [error] = [event.error for event in seen if event.type == "error"]
    assert error.name == "BackendRefused"
    assert error.message == f"Dify at {server.url} {message}"


async def test_a_failed_run_without_an_error_event_is_a_failure():
    events = [{"event": "workflow_finished", "data": {"status": "failed", "error": "node LLM failed"}}]
    async with DifyStandIn(lambda _: events, fault=Fault.NO_END).serving() as server:
        with pytest.RaisesGroup(BackendRefused) as group:
            await collect(Dify(url=server.url), ["x"])
        [error] = errors_of(group)
        assert str(error) == f"Dify at {server.url} answered: node LLM failed"


async def test_two_apps_in_one_flow_each_have_their_own_conversation():
    async with DifyStandIn().serving() as one, DifyStandIn().serving() as two:
        async with Dify(url=two.url).open() as service, service.session("ann") as session:
            await turn(session, "yesterday")
        either = route(lambda text: text[0], {"a": Dify(url=one.url), "b": Dify(url=two.url)})
        async with either.open() as service, service.session("ann") as session:
            for text in ("a1", "b1", "a2", "b2"):
                await turn(session, text)
        assert [(chat.query, chat.conversation_id) for chat in one.chats] == [("a1", ""), ("a2", "c-1-ann")]
        assert [(chat.query, chat.conversation_id) for chat in two.chats[1:]] == [("b1", ""), ("b2", "c-2-ann")]


async def test_after_a_conversation_has_been_deleted_the_next_turn_but_one_begins_another():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await turn(session, "one")
            server.talks.clear()
            assert [event.type for event in await turn(session, "two")][-2:] == ["error", "turn.ended"]
            await turn(session, "three")
        assert [chat.conversation_id for chat in server.chats] == ["", "c-1-ann", ""]


# ---------------------------------------------------------------- interruption


async def begun(server: DifyStandIn, session: Any) -> Any:
    """A turn whose answer has begun to come."""
    running = session.turn("hello")
    async for event in running:
        if event.type == "text":
            return running
    raise AssertionError("no text came")


async def test_an_interrupted_answer_is_stopped_at_dify():
    async with DifyStandIn(each_s=3600.0).serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await begun(server, session)
            assert list(server.writing) == ["t-1"]
            await session.interrupt()
            await server.until(lambda: server.stopped == ["t-1"])
            assert server.writing == {}
            assert len(server.left) == 1


async def test_telling_dify_to_stop_delays_nothing():
    async with DifyStandIn(each_s=3600.0, aside_s=0.5).serving() as server:
        async with Dify(url=server.url, continues=False).open() as service, service.session("ann") as session:
            await begun(server, session)
            await session.interrupt()
            server.each_s = 0.0
            events = await turn(session, "again")
            assert text_of(events) == "You said again."
            assert server.stopped == []  # it is still being told
        assert server.stopped == ["t-1"]  # but was, before the module was released


async def test_a_dify_that_does_not_stop_holds_nobody_up_and_is_in_the_log(caplog):
    class Deaf(DifyStandIn):
        async def _stop(self, task: str, user: str, reply: Any) -> None:
            await reply.json({"code": "x", "message": "no"}, 500)

    caplog.set_level(logging.WARNING, "ezflow")
    async with Deaf(each_s=3600.0).serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await begun(server, session)
            await session.interrupt()
        await server.until(lambda: bool(server.asides))
    assert "an answer goes on that nobody wants: Dify at" in caplog.text


async def test_an_answer_that_is_whole_is_not_stopped():
    async with DifyStandIn().serving() as server, Dify(url=server.url).open() as service:
        async with service.session("ann") as session:
            await turn(session, "hello")
    assert server.asides == []


async def test_an_answer_that_breaks_off_is_stopped():
    async with DifyStandIn(fault=Fault.CUT).serving() as server, Dify(url=server.url, retries=0).open() as service:
        async with service.session("ann") as session:
            await turn(session, "hello")
        await server.until(lambda: bool(server.stopped) or bool(server.asides))


# ---------------------------------------------------------------- health


async def test_health_asks_for_the_app_and_needs_the_key(monkeypatch):
    async with DifyStandIn(key=KEY).serving() as server:
        monkeypatch.setenv("DIFY_API_KEY", KEY)
        async with Dify(url=server.url).open() as service:
            await service.stages[0].module.probe()
        assert [request.path for request in server.asides] == ["/v1/info"]
        monkeypatch.setenv("DIFY_API_KEY", "another")
        async with Dify(url=server.url).open() as service:
            with pytest.raises(BackendError, match="401"):
                await service.stages[0].module.probe()
