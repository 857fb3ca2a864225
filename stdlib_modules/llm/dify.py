"""`Dify`: a chat application (chatbot, agent or chatflow) that a Dify server, or its cloud, runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote

import attrs
import trio

from ezflow import Turn, module, resource

from ..http.client import Reply
from ..http.errors import BackendError, BackendRefused, excerpt
from ..http.stream import HTTPStream, Reads, decoded
from .dify_answer import Answer, Conversation

if TYPE_CHECKING:
    from quart import Blueprint

__all__ = ["Dify", "DifyFile", "DifyOptions"]

log = logging.getLogger("ezflow")

END_S = 0.25  # for what follows a complete answer: the end of a chatflow's run, which Dify saves as it is read
STOP_S = 2.0  # for telling Dify that nobody wants an answer any more
OVER = {"message_end", "error", "workflow_paused"}  # after these Dify writes no more of an answer


@attrs.frozen
class DifyFile:
    """A file that goes with a question: at a `url`, or uploaded to Dify before (`upload_file_id`)."""

    type: Literal["document", "image", "audio", "video", "custom"] = "image"
    transfer_method: Literal["remote_url", "local_file"] = "remote_url"
    url: str | None = None
    upload_file_id: str | None = None


@attrs.frozen
class DifyOptions:
    """What a request may set for its turn.

    `conversation_id`: the conversation to go on with, as a `Conversation` event told it; "" begins a new one (in a live
    turn, at each utterance); None is the session's own. `inputs` are values for the app's variables, over those of the
    module.
    """

    conversation_id: str | None = None
    inputs: dict[str, Any] | None = None
    files: tuple[DifyFile, ...] | None = None


@module(options=DifyOptions, key="LLM")
class Dify(HTTPStream[str, str]):
    """Answers a text by a Dify app, in pieces as it writes them. The app is the one whose key is in DIFY_API_KEY.

    Dify remembers conversations, by user. Which one an answer belongs to is told as a `Conversation` event, to be sent
    back as `conversation_id`. A request that names none goes on with the one that its session had with this app last;
    with `continues=False` it begins a new one. So what a microphone says, turn after turn, is one conversation.

    When a turn is cancelled, its connection is closed at once; Dify would write on, so it is told to stop, beside
    whatever comes next. What was given cannot be taken back: if moderation replaces an answer, the client is told
    `AnswerReplaced`, and the replacement is given on a line of its own, to be said after what has been said.
    The client is also told what an agent or a reasoning model thinks (`Thought`) and which tool it uses (`Progress`),
    and of `AnswerFile`s and `Citations`; Dify's own speech and the steps of a workflow are left out.

    For EZPipe's clients it brings /conversations and /messages (`dify_routes.py`). Dify pings while it works, so
    `read_s` finds out that it is gone, and only `total_s` bounds an answer.
    Takes: what a user said. Gives: pieces of the answer, which concatenate to it.
    Raises: BackendError; also for a run that waits for a person (a Human Input node).
    Source: Dify's service API, POST /chat-messages (documentation of Dify 1.14 to 1.16).
    """

    url: str = attrs.field(default="https://api.dify.ai/v1", kw_only=True)
    api_key_env: str | None = attrs.field(default="DIFY_API_KEY", kw_only=True)
    inputs: tuple[tuple[str, str | int | float | bool], ...] = ()
    continues: bool = True
    errands: trio.Nursery = resource()

    reads = Reads.SSE
    probes = "/info"
    advice: ClassVar = {
        401: "set the environment variable DIFY_API_KEY (or api_key_env's) to the key of the app",
        404: "see whether the url is right (it ends in /v1), and the conversation one of this user's",
        "unreachable": "start it, or give another url (https://HOST/v1)",
    }

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        async with super().lifespan(), trio.open_nursery() as self.errands:
            yield

    def routes(self) -> Blueprint:
        """EZPipe's routes for conversations."""
        from .dify_routes import conversations

        return conversations(self.http)

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        if not text.strip():
            return
        asked = turn.options[DifyOptions]
        body = {
            "inputs": dict(self.inputs) | (asked.inputs or {}),
            "query": text,
            "response_mode": "streaming",
            "conversation_id": self._conversation(asked.conversation_id, turn),
            "user": turn.user,
            "files": [attrs.asdict(file, filter=_is_given) for file in asked.files or ()],
        }
        turn.awaits = self.http.awaited
        ask = self.http.stream("POST", "/chat-messages", json=body, expect=Reads.SSE.value, user=turn.user)
        try:
            async with ask as reply, aclosing(self.answers(reply, text, turn)) as found:
                turn.remember(text)
                async for piece in found:
                    yield piece
        except BackendRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:  # it has been deleted: the next turn begins another
                turn.session.kept.pop(self, None)
            raise

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncGenerator[str, None]:
        answer = Answer()
        task, kind, failed = "", "", ""
        try:
            async for told in decoded(reply, self.reads):
                if not isinstance(told, Mapping) or not isinstance(told.get("event"), str):
                    raise reply.broken("sent what is no event of Dify's")
                kind, task = told["event"], str(told.get("task_id") or task)
                if kind == "error":
                    raise self._refusal(told)
                if kind == "workflow_paused":
                    raise self._refusal({"message": "its run waits for a person's input, which cannot be given here"})
                failed = _failure(told) or failed
                try:
                    items = answer.read(told)
                except ValueError as error:
                    raise reply.broken(str(error)) from error
                for item in items:
                    if isinstance(item, str):
                        yield item
                    else:
                        if isinstance(item, Conversation):
                            turn.session.kept[self] = item.conversation_id
                        await turn.reply(item)
                if kind == "message_end":
                    with trio.move_on_after(END_S), suppress(BackendError):
                        await reply.read()
                    return
            task = ""  # it has ended by itself
            raise self._refusal({"message": failed}) if failed else reply.broken("ended before its answer was complete")
        finally:
            if task and kind not in OVER:
                reply.close()
                self.errands.start_soon(self._stop, task, turn.user)

    def _conversation(self, named: str | None, turn: Turn) -> str:
        """The conversation to go on with; "" for a new one."""
        if named is not None or not self.continues:
            return named or ""
        return str(turn.session.kept.get(self, ""))

    async def _stop(self, task: str, user: str) -> None:
        """Tell Dify that an answer is not wanted any more: it goes on when a connection is closed."""
        path = f"/chat-messages/{quote(task, safe='')}/stop"
        with trio.move_on_after(STOP_S) as patience:
            try:
                async with self.http.stream("POST", path, json={"user": user}, urgent=True) as reply:
                    await reply.read()
            except BackendError as error:
                log.warning("an answer goes on that nobody wants: %s", error)
        if patience.cancelled_caught:
            log.warning("an answer goes on that nobody wants: Dify at %s did not stop it", self.http.url)

    def _refusal(self, told: Mapping[str, Any]) -> BackendRefused:
        key = self.headers().get("Authorization", "").removeprefix("Bearer ")
        what = excerpt(str(told.get("message") or told.get("code")).encode(errors="replace"), [key])
        code, status = told.get("code"), told.get("status")
        return BackendRefused(
            type(self).__name__,
            self.http.url,
            f"answered: {what}" + (f" ({code})" if isinstance(code, str) and code not in what else ""),
            advice=self.advice.get(status, "") if isinstance(status, int) else "",
            status=status if isinstance(status, int) else None,
            body=what,
        )


def _failure(told: Mapping[str, Any]) -> str:
    """Why a chatflow's run has failed, if this event says so."""
    match told:
        case {"event": "workflow_finished", "data": {"status": "failed", "error": str(why)}}:
            return why
        case {"event": "workflow_finished", "data": {"status": "failed"}}:
            return "its run has failed"
    return ""


def _is_given(_: object, value: object) -> bool:
    return value is not None
