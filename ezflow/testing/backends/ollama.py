"""Ollama's `POST /api/chat` and `GET /api/version`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import msgspec

from .standin import Fault, Reply, Request, StandIn

__all__ = ["OllamaStandIn"]


@attrs.frozen
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str


@attrs.frozen
class ChatOptions:
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_predict: int | None = None


@attrs.frozen
class ChatBody:
    model: str
    messages: list[ChatMessage]
    stream: bool
    options: ChatOptions = ChatOptions()


class OllamaStandIn(StandIn):
    """Answers each chat with the words of `answer(question)`, and what it thought first with `thinking`.

    Knows one `model`; another is a 404, as Ollama's.
    """

    name = "Ollama"

    def __init__(
        self,
        answer: Callable[[str], str] = "You said {}.".format,
        *,
        model: str = "qwen2.5",
        thinking: Sequence[str] = (),
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.answer_for = answer
        self.model = model
        self.thinking = thinking
        self.chats: list[ChatBody] = []

    async def answer(self, request: Request, reply: Reply) -> None:
        if (request.method, request.path) == ("GET", "/api/version"):
            await reply.json({"version": "0.12.0"})
        elif (request.method, request.path) == ("POST", "/api/chat"):
            await self._chat(self.expect(ChatBody, request.json()), reply)
        else:
            self.problem(f"{request.method} {request.path} is no route of its")
            await reply.json({"error": "not found"}, 404)

    async def _chat(self, body: ChatBody, reply: Reply) -> None:
        self.chats.append(body)
        if not body.stream:
            self.problem("stream is false")
        if body.model != self.model:
            await reply.json({"error": f'model "{body.model}" not found, try pulling it first'}, 404)
            return
        if self.fault is Fault.ERROR_BODY:
            await reply.json({"error": "llama runner process has terminated"})
            return
        await reply.begin(content_type="application/x-ndjson")
        for thought in self.thinking:
            await reply.send(self._line({"role": "assistant", "content": "", "thinking": thought}))
        answer = self.answer_for(body.messages[-1].content)
        for place, word in enumerate(answer.split(" ")):
            await reply.send(self._line({"role": "assistant", "content": word if not place else f" {word}"}))
        end = {"done": True, "done_reason": "stop", "total_duration": 5_000_000, "eval_count": len(answer)}
        await reply.send(self._line({"role": "assistant", "content": ""}, **end), end_mark=True)
        await reply.end()

    def _line(self, message: dict[str, str], **end: Any) -> bytes:
        head = {"model": self.model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}
        return msgspec.json.encode(head | end) + b"\n"
