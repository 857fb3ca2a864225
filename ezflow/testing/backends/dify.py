"""Dify's service API for a chat app: `POST /chat-messages` and what belongs to its conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs
import msgspec
import trio

from .standin import Fault, Reply, Request, StandIn

__all__ = ["DifyStandIn"]


@attrs.frozen
class File:
    type: Literal["document", "image", "audio", "video", "custom"]
    transfer_method: Literal["remote_url", "local_file"]
    url: str | None = None
    upload_file_id: str | None = None


@attrs.frozen
class ChatBody:
    inputs: dict[str, Any]
    query: str
    response_mode: Literal["streaming"]
    conversation_id: str
    user: str
    files: list[File]


@attrs.frozen
class UserBody:
    user: str


@attrs.frozen
class NameBody:
    name: str
    auto_generate: bool
    user: str


@attrs.define
class Talk:
    """A conversation."""

    id: str
    user: str
    name: str
    used: int
    messages: list[dict[str, Any]] = attrs.field(factory=list)


class DifyStandIn(StandIn):
    """Answers each question with `answer(question)`: a text, told word by word, or its events.

    An event is a mapping as Dify sends it, without what all have (task_id, conversation_id, message_id, created_at);
    a text among them is a `message`; "ping" is a bare ping. A `message_end` ends them unless they end otherwise.

    As Dify's, an answer is written on when its client has left: `writing` are the tasks of which nobody has asked to
    stop and that have not ended, `stopped` those that were. `talks` are the conversations by id, each its user's
    alone; with `lasting`, those that another stand-in began are there too, without their messages. `key` is the key it
    wants, if any. `requests` are the questions alone; the others are in `asides`, and are answered after `aside_s`.
    """

    name = "Dify"

    def __init__(
        self,
        answer: Callable[[str], str | Iterable[str | Mapping[str, Any]]] = "You said {}.".format,
        *,
        key: str | None = None,
        aside_s: float = 0.0,
        lasting: bool = False,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.answer_for = answer
        self.key = key
        self.aside_s = aside_s
        self.lasting = lasting
        self.chats: list[ChatBody] = []
        self.asides: list[Request] = []
        self.talks: dict[str, Talk] = {}
        self.writing: dict[str, str] = {}
        self.stopped: list[str] = []
        self._clock = 0

    def _url(self, port: int) -> str:
        return f"{super()._url(port)}/v1"

    async def answer(self, request: Request, reply: Reply) -> None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            await _fail(reply, 401, "unauthorized", "Access token is invalid")
            return
        if (request.method, request.path) == ("POST", "/v1/chat-messages"):
            await self._chat(self.expect(ChatBody, request.json()), reply)
            return
        self.asides.append(self.requests.pop())
        await trio.sleep(self.aside_s)
        place = [request.method, *request.path.removeprefix("/v1/").split("/")]
        match place:
            case ["GET", "info"]:
                self._query(request, set())
                await reply.json({"name": "stand-in", "description": "", "tags": [], "mode": "chat"})
            case ["POST", "chat-messages", task, "stop"]:
                await self._stop(task, self.expect(UserBody, request.json()).user, reply)
            case ["GET", "messages"]:
                self._query(request, {"user", "conversation_id", "first_id", "limit"})
                await self._messages(request.query, reply)
            case ["GET", "messages", message, "suggested"]:
                self._query(request, {"user"})
                await self._suggested(message, request.query.get("user", ""), reply)
            case ["GET", "conversations"]:
                self._query(request, {"user", "last_id", "limit", "sort_by"})
                await self._conversations(request.query, reply)
            case ["DELETE", "conversations", talk]:
                if await self._own(talk, self.expect(UserBody, request.json()).user, reply):
                    del self.talks[talk]
                    await reply.whole(b"", status=204)
            case ["POST", "conversations", talk, "name"]:
                named = self.expect(NameBody, request.json())
                if found := await self._own(talk, named.user, reply):
                    found.name = named.name
                    await reply.json(_shown(found))
            case _:
                self.problem(f"{request.method} {request.path} is no route of its")
                await _fail(reply, 404, "not_found", "The requested URL was not found on the server.")

    async def _chat(self, body: ChatBody, reply: Reply) -> None:
        self.chats.append(body)
        if not body.query or not body.user:
            self.problem("a question and its user are needed")
        self._clock += 1
        if body.conversation_id:
            talk = await self._own(body.conversation_id, body.user, reply)
            if talk is None:
                return
        else:
            talk = Talk(f"c-{len(self.talks) + 1}-{body.user}", body.user, "New conversation", 0)
            self.talks[talk.id] = talk
        talk.used = self._clock
        message = {"id": f"m-{self._clock}", "conversation_id": talk.id, "query": body.query, "answer": ""}
        talk.messages.append(message)
        task = f"t-{self._clock}"
        of = {"task_id": task, "conversation_id": talk.id, "message_id": message["id"], "created_at": self._clock}
        await reply.begin(content_type="text/event-stream")
        if self.fault is Fault.ERROR_BODY:
            error = {"event": "error", "status": 400, "code": "completion_request_error", "message": "no quota is left"}
            await reply.send(_event(error | of), end_mark=True)
            await reply.end()
            return
        self.writing[task] = body.user
        *events, last = self._events(body.query)
        for each in events:
            message["answer"] += each.get("answer", "") if isinstance(each, dict) else ""
            await reply.send(_event(each if isinstance(each, str) else each | of))
        await reply.send(_event(last if isinstance(last, str) else last | of), end_mark=True)
        self.writing.pop(task, None)
        await reply.end()

    def _events(self, query: str) -> list[Any]:
        """What an answer consists of, with its end; the last is what ends it."""
        given = self.answer_for(query)
        if isinstance(given, str):
            words = given.split(" ")
            given = [word if not place else f" {word}" for place, word in enumerate(words)]
        events: list[Any] = [
            each if each == "ping" else {"event": "message", "answer": each} if isinstance(each, str) else dict(each)
            for each in given
        ]
        ends = {"message_end", "error", "workflow_paused"}
        if not any(isinstance(each, dict) and each["event"] in ends for each in events):
            events.append({"event": "message_end", "metadata": {"usage": {"total_tokens": 7}}})
        return events

    async def _stop(self, task: str, user: str, reply: Reply) -> None:
        """As Dify: whoever may not stop it is told the same."""
        if self.writing.get(task, user) != user:
            self.problem(f"{user} may not stop what {self.writing[task]} asked for")
        elif self.writing.pop(task, None) is not None:
            self.stopped.append(task)
        self._note()
        await reply.json({"result": "success"})

    async def _messages(self, query: Mapping[str, str], reply: Reply) -> None:
        if found := await self._own(query.get("conversation_id", ""), query.get("user", ""), reply):
            await reply.json({"limit": int(query.get("limit", 20)), "has_more": False, "data": found.messages})

    async def _suggested(self, message: str, user: str, reply: Reply) -> None:
        mine = [each for talk in self.talks.values() if talk.user == user for each in talk.messages]
        if message in [each["id"] for each in mine]:
            await reply.json({"result": "success", "data": ["And then?"]})
        else:
            await _fail(reply, 404, "not_found", "Message Not Exists.")

    async def _conversations(self, query: Mapping[str, str], reply: Reply) -> None:
        mine = [talk for talk in self.talks.values() if talk.user == query.get("user")]
        mine.sort(key=lambda talk: -talk.used)
        ids = [talk.id for talk in mine]
        if last := query.get("last_id"):
            mine = mine[ids.index(last) + 1 :] if last in ids else []
        limit = int(query.get("limit", 20))
        page = [_shown(talk) for talk in mine[:limit]]
        await reply.json({"limit": limit, "has_more": len(mine) > limit, "data": page})

    async def _own(self, talk: str, user: str, reply: Reply) -> Talk | None:
        """A conversation of this user's; another is as if it were not there."""
        found = self.talks.get(talk)
        if found is None and self.lasting and talk.endswith(f"-{user}"):
            found = self.talks[talk] = Talk(talk, user, "New conversation", 0)
        if found is not None and found.user == user:
            return found
        await _fail(reply, 404, "not_found", "Conversation Not Exists.")
        return None

    def _query(self, request: Request, known: set[str]) -> None:
        if unknown := request.query.keys() - known:
            self.problem(f"{request.method} {request.path} knows no {', '.join(sorted(unknown))}")
        if "user" in known and not request.query.get("user"):
            self.problem(f"{request.method} {request.path} names no user")


def _shown(talk: Talk) -> dict[str, Any]:
    return {"id": talk.id, "name": talk.name, "inputs": {}, "status": "normal", "updated_at": talk.used}


def _event(told: str | Mapping[str, Any]) -> bytes:
    if isinstance(told, str):
        return f"event: {told}\n\n".encode()
    return b"data: " + msgspec.json.encode(told) + b"\n\n"


async def _fail(reply: Reply, status: int, code: str, message: str) -> None:
    await reply.json({"code": code, "message": message, "status": status}, status)
