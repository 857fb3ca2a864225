"""A Dify app behind a real server: EZPipe's clients, their conversations, and Dify's routes for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ezflow.testing import FakeTTS
from ezflow.testing.backends import Fault
from ezflow.testing.backends.dify import DifyStandIn
from ezflow.testing.backends.livetalking import LiveTalkingStandIn
from stdlib_modules.avatar.livetalking import LiveTalking
from stdlib_modules.llm.dify import Dify
from stdlib_modules.text.sentences import Sentences

NO_USER = {"detail": "必须提供用户ID"}
TOKENS = {"tokens": ["ann-token-0123456789 ann", "bob-token-0123456789 bob"]}
ANN = {"Authorization": "Bearer ann-token-0123456789"}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("DIFY_API_KEY", raising=False)


@pytest.fixture
def together(serving):
    """A stand-in for Dify, and a server whose flow asks it."""

    @asynccontextmanager
    async def both(settings: dict[str, Any] | None = None, **script: Any) -> AsyncIterator[tuple[Any, DifyStandIn]]:
        async with DifyStandIn(**script).serving() as dify:
            flow = Dify(url=dify.url, read_s=0.5, retries=0).shown() >> FakeTTS()
            async with serving(flow, **(settings or {})) as server:
                yield server, dify

    return both


async def said(server: Any, **body: Any) -> dict[str, Any]:
    """The last text line of a turn."""
    async with server.request("POST", "/input", json.dumps(body).encode()) as response:
        assert response.status == 200, await response.read()
        lines = [line async for line in response.events()]
    errors = [line["chunk"] for line in lines if line["type"] == "error"]
    assert not errors, errors
    last: dict[str, Any] = json.loads([line["chunk"] for line in lines if line["type"] == "text"][-1])
    return last


async def test_a_client_of_ezpipe_learns_its_conversation_and_goes_on_with_it(together):
    async with together() as (server, dify):
        first = await said(server, user="ann", Input="one", conversation_id="", message_id="")
        assert first["response"] == "You said one."
        assert (first["conversation_id"], first["message_id"]) == ("c-1-ann", "m-1")
        second = await said(server, user="ann", Input="two", conversation_id=first["conversation_id"])
        assert (second["conversation_id"], second["message_id"]) == ("c-1-ann", "m-2")
        third = await said(server, user="ann", Input="three", LLM={"conversation_id": "c-1-ann", "streamly": True})
        assert third["message_id"] == "m-3"
        assert (await said(server, user="ann", Input="new", conversation_id=""))["conversation_id"] == "c-2-ann"
        assert [chat.conversation_id for chat in dify.chats] == ["", "c-1-ann", "c-1-ann", ""]


async def test_two_users_at_once_keep_their_conversations_apart(together):
    async with together(each_s=0.002) as (server, dify):
        ended: dict[str, str] = {}

        async def talk(user: str) -> None:
            conversation = ""
            for number in range(5):
                last = await said(server, user=user, Input=f"{user} {number}", conversation_id=conversation)
                assert last["response"] == f"You said {user} {number}."
                conversation = conversation or last["conversation_id"]
                assert last["conversation_id"] == conversation
            ended[user] = conversation

        async with trio.open_nursery() as nursery:
            for user in ("ann", "bob"):
                nursery.start_soon(talk, user)
        for user, conversation in ended.items():
            status, listed = await server.json("GET", f"/conversations?user={user}")
            assert (status, [each["id"] for each in listed["data"]]) == (200, [conversation])
            _, told = await server.json("GET", f"/messages?user={user}&conversation_id={conversation}")
            assert [message["query"] for message in told["data"]] == [f"{user} {number}" for number in range(5)]
            assert {chat.user for chat in dify.chats if chat.conversation_id == conversation} == {user}
        path = f"/messages?user=bob&conversation_id={ended['ann']}"
        assert (await server.json("GET", path))[0] == 404


async def test_conversations_are_listed_a_page_at_a_time(together):
    async with together() as (server, dify):
        for text in ("one", "two", "three"):
            await said(server, user="ann", Input=text, conversation_id="")
        status, listed = await server.json("GET", "/conversations?user=ann&last_id=&limit=2")
        assert status == 200
        assert ([each["id"] for each in listed["data"]], listed["has_more"]) == (["c-3-ann", "c-2-ann"], True)
        _, rest = await server.json("GET", "/conversations?user=ann&last_id=c-2-ann")
        assert ([each["id"] for each in rest["data"]], rest["limit"]) == (["c-1-ann"], 20)
        assert (await server.json("GET", "/conversations?user=nobody"))[1]["data"] == []
        assert dify.asides[0].query == {"user": "ann", "limit": "2"}


async def test_a_conversation_is_renamed_asked_about_and_deleted(together):
    async with together() as (server, dify):
        await said(server, user="ann", Input="one")
        own = {"user": "ann", "conversation_id": "c-1-ann"}
        status, named = await server.json("POST", "/conversations/rename", own | {"name": "旅行"})
        assert (status, named["name"]) == (200, "旅行")
        assert dify.asides[-1].json() == {"name": "旅行", "auto_generate": False, "user": "ann"}
        status, asked = await server.json("GET", "/messages/suggested?user=ann&message_id=m-1")
        assert (status, asked) == (200, {"result": "success", "data": ["And then?"]})
        data = json.dumps(own).encode()
        async with server.request("DELETE", "/conversations/delete", data) as response:
            assert (response.status, await response.read()) == (204, b"")
        assert dify.talks == {}
        not_there = {"code": "not_found", "message": "Conversation Not Exists.", "status": 404}
        assert await server.json("DELETE", "/conversations/delete", own) == (404, not_there)


async def test_what_belongs_to_another_user_is_not_there(together):
    async with together() as (server, dify):
        await said(server, user="ann", Input="a secret")
        stolen = {"user": "bob", "conversation_id": "c-1-ann"}
        assert (await server.json("DELETE", "/conversations/delete", stolen))[0] == 404
        assert (await server.json("POST", "/conversations/rename", stolen | {"name": "x"}))[0] == 404
        assert (await server.json("GET", "/messages/suggested?user=bob&message_id=m-1"))[0] == 404
        assert dify.talks["c-1-ann"].name == "New conversation"


async def test_a_token_for_one_user_sees_no_other_ones_conversations(together):
    async with together(TOKENS) as (server, dify):
        for method, path, body in (
            ("GET", "/conversations?user=bob", b""),
            ("GET", "/messages?user=bob&conversation_id=c-1-bob", b""),
            ("GET", "/conversations?user=ann&user=bob", b""),
            ("DELETE", "/conversations/delete", b'{"user":"bob","conversation_id":"c-1-bob"}'),
            ("DELETE", "/conversations/delete?user=ann", b'{"user":"bob","conversation_id":"c-1-bob"}'),
            ("POST", "/conversations/rename", b'{"user":"bob","conversation_id":"c-1-bob","name":"x"}'),
        ):
            async with server.request(method, path, body, **ANN) as response:
                assert response.status == 403, (method, path)
        async with server.request("GET", "/conversations?user=ann", **ANN) as response:
            assert response.status == 200
        async with server.request("GET", "/conversations?user=ann") as response:
            assert response.status == 401
        assert len(dify.asides) == 1


async def test_a_request_that_names_no_user_is_refused_as_ezpipe_does(together):
    async with together() as (server, dify):
        for method, path, body in (
            ("GET", "/conversations", None),
            ("GET", "/messages?conversation_id=c", None),
            ("GET", "/messages/suggested?message_id=m", None),
            ("DELETE", "/conversations/delete", {"conversation_id": "c"}),
            ("POST", "/conversations/rename", {"conversation_id": "c", "name": "x"}),
        ):
            assert await server.json(method, path, body) == (400, NO_USER), (method, path)
        assert (await server.json("GET", "/conversations?user="))[0] == 422
        assert dify.asides == []


@pytest.mark.parametrize(
    "odd", ["..", ".", "../../conversations", "c/../../x", "%2e%2e", "a b", "c?user=bob", "c#", "", "é", "x" * 65, 7]
)
async def test_an_id_that_could_be_a_path_is_refused(together, odd):
    async with together() as (server, dify):
        own = {"user": "ann", "conversation_id": odd}
        for method, path, body in (
            ("DELETE", "/conversations/delete", own),
            ("POST", "/conversations/rename", own | {"name": "x"}),
        ):
            status, told = await server.json(method, path, body)
            assert (status, told["detail"].partition(":")[0]) == (422, "conversation_id")
        if isinstance(odd, str) and odd.isascii() and not set(odd) & set(" ?#%"):
            status, told = await server.json("GET", f"/messages/suggested?user=ann&message_id={odd}")
            assert (status, told["detail"].partition(":")[0]) == (422, "message_id")
        assert dify.asides == []


async def test_a_query_reaches_dify_as_it_is_and_only_what_is_known(together):
    async with together() as (server, dify):
        path = "/messages?user=ann&conversation_id=..%2F..%2Fx%26user%3Dbob&limit=5&first_id=m-1&api=1"
        assert (await server.json("GET", path))[0] == 404
        [request] = dify.asides
        assert request.path == "/v1/messages"
        assert request.query == {
            "user": "ann", "conversation_id": "../../x&user=bob", "limit": "5", "first_id": "m-1",
        }  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'"x"', b'{"user": "ann"}', b'{"user": 5}'])
async def test_a_body_that_does_not_fit_is_refused(together, body):
    async with together() as (server, dify):
        for method, path in (("DELETE", "/conversations/delete"), ("POST", "/conversations/rename")):
            status, told = await server.json(method, path, body)
            assert status == 422
            assert told["detail"]
        assert dify.asides == []


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (Fault.REFUSES, 500, "the model is broken"),
        (Fault.SILENT, 504, "Dify at"),
        (Fault.GARBAGE, 502, "Dify at"),
        (Fault.CUT, 502, "Dify at"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_what_dify_does_wrong_is_told(together, fault, status, said):
    async with together() as (server, dify):
        dify.fault = fault
        found, told = await server.json("GET", "/conversations?user=ann")
        assert found == status
        assert said in json.dumps(told, ensure_ascii=False)
        dify.fault = Fault.NONE
        assert (await server.json("GET", "/conversations?user=ann"))[0] == 200


async def test_a_page_in_place_of_json_is_not_passed_on(together):
    async with together() as (server, dify):

        async def page(query: Any, reply: Any) -> None:
            await reply.whole(b"<html>hello</html>", "text/html", 200)

        dify._conversations = page
        status, told = await server.json("GET", "/conversations?user=ann")
        assert (status, "not JSON" in told["detail"]) == (502, True)


async def test_a_dify_that_is_not_there_is_told(serving):
    async with serving(Dify(url="http://127.0.0.1:9/v1", retries=0)) as server:
        status, told = await server.json("GET", "/conversations?user=ann")
        assert status == 502
        assert told["detail"].startswith("Dify at http://127.0.0.1:9/v1/conversations")


async def test_an_interrupted_client_of_ezpipe_is_stopped_at_dify(together):
    async with together(each_s=3600.0) as (server, dify):
        body = json.dumps({"user": "ann", "Input": "tell me all"}).encode()
        async with server.request("POST", "/input", body) as response:
            line = await response.event()
            assert json.loads(line["chunk"])["conversation_id"] == "c-1-ann"
            status, told = await server.json("GET", "/interrupt_talk?user=ann")
            assert (status, told["status"]) == (200, "success")
            await dify.until(lambda: dify.stopped == ["t-1"])


async def test_dify_to_livetalking_as_ezpipes_clients_use_it(serving):
    tts = {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}
    async with DifyStandIn().serving() as dify, LiveTalkingStandIn(sessions=(319652, 7)).serving() as avatar:
        flow = Dify(url=dify.url).shown() >> Sentences() >> LiveTalking(url=avatar.url, quiet_s=0.05)
        async with serving(flow) as server:
            last = await said(server, user="ann", Input="你好", streamly=True, temperature=1, TTS=tts)
            assert (last["response"], last["conversation_id"]) == ("You said 你好.", "c-1-ann")
            await said(server, user="bob", Input="hello", sessionid=7, voice="other")
    told = [(each.sessionid, each.text, each.tts.voice, each.tts.emotion) for each in avatar.said]
    assert told == [("319652", "You said 你好.", "邻家女孩", "中立"), ("7", "You said hello.", "other", None)]


async def test_interrupting_by_ezpipes_route_silences_an_avatar_that_has_all_its_text(serving):
    async with DifyStandIn().serving() as dify, LiveTalkingStandIn(speaks_s=60.0).serving() as avatar:
        flow = Dify(url=dify.url).shown() >> Sentences() >> LiveTalking(url=avatar.url)
        async with serving(flow) as server:
            body = json.dumps({"user": "ann", "Input": "hello"}).encode()
            async with server.request("POST", "/input", body) as response:
                await response.event()
                await avatar.until(lambda: avatar.is_speaking("0"))
                await server.json("GET", "/interrupt_talk?user=ann")
                assert not avatar.is_speaking("0")
                lines = [line async for line in response.events()]
    assert json.loads(lines[-1]["chunk"])["Is_End"]


async def test_the_schema_shows_what_a_request_may_set(together):
    async with together() as (server, _):
        status, schema = await server.json("GET", "/schema")
        assert status == 200
        options = schema["$defs"]["DifyOptions"]["properties"]
        assert set(options) == {"conversation_id", "inputs", "files"}
        assert (await server.json("GET", "/flow"))[0] == 200
        files = [{"url": "https://host/a.png", "type": "image"}]
        await said(server, user="ann", Input="look", LLM={"files": files, "inputs": {"n": 1}})


async def test_the_heartbeat_and_readiness_ask_dify(together):
    async with together() as (server, dify):
        assert await server.json("GET", "/heartbeat?user=ann") == (200, None)
        assert [request.path for request in dify.asides] == ["/v1/info"]
        assert (await server.json("GET", "/health/ready"))[0] == 200
