"""`OpenAIChat`: a language model behind any server that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import attrs
from attrs.validators import ge, in_, le, optional

from ezflow import Turn, module

from ..http.client import Reply
from ..http.stream import Ask, HTTPStream, Reads
from ..text.think import Thought
from .chat import LLMOptions, completion, messages, recent

__all__ = ["OpenAIChat", "OpenAIChatOptions"]

probability = [ge(0.0), le(1.0)]


@attrs.frozen
class OpenAIChatOptions(LLMOptions):
    """What a request may set for its turn; None leaves what the module says."""

    top_p: float | None = attrs.field(default=None, validator=optional(probability))


@module(options=OpenAIChatOptions, key="LLM")
class OpenAIChat(HTTPStream[str, str]):
    """Answers a text, in pieces as the model writes them, with the session's history in mind.

    For OpenAI, and for vLLM, llama.cpp, LM Studio and others: `url` is what comes before /chat/completions, `model` a
    name that the server knows, `api_key_env` the environment variable that holds its key, None where it wants none. Of
    the history the newest messages are sent, up to `history_bytes` of UTF-8. What is None is not sent: the server
    decides. OpenAI's newer models want `max_tokens` under the name `max_completion_tokens`: `limit_field` says which.

    What the model thinks before it answers, where the server tells it apart, goes to the client as `Thought` events and
    no further. No tools are offered; calls of tools that a model makes nevertheless are left out. For other fields of
    the request derive a class and extend `body`.

    Takes: what a user said; white space alone asks nothing. Gives: pieces of the answer, which concatenate to it.
    Raises: BackendError.
    Source: OpenAI's API reference, POST /chat/completions.
    """

    model: str
    url: str = attrs.field(default="https://api.openai.com/v1", kw_only=True)
    api_key_env: str | None = attrs.field(default="OPENAI_API_KEY", kw_only=True)
    system_prompt: str = ""
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0.0)))
    top_p: float | None = attrs.field(default=None, validator=optional(probability))
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    limit_field: str = attrs.field(default="max_tokens", validator=in_(["max_tokens", "max_completion_tokens"]))
    history_bytes: int = attrs.field(default=16_000, validator=ge(0))

    reads = Reads.SSE
    probes = "/models"
    advice: ClassVar = {
        401: "put the key into the environment variable that api_key_env names, before ezflow starts",
        404: "give a model that it has, and the url up to what stands before /chat/completions (it often ends in /v1)",
        "unreachable": "start it, or give another url",
    }

    def ask(self, text: str, turn: Turn) -> Ask | None:
        return Ask("/chat/completions", self.body(text, turn)) if text.strip() else None

    def body(self, text: str, turn: Turn) -> dict[str, Any]:
        """The request, as JSON."""
        asked = turn.options[OpenAIChatOptions]
        system = self.system_prompt if asked.system_prompt is None else asked.system_prompt
        prompt = messages(system, recent(turn.history.messages, self.history_bytes), text)
        turn.remember(text)
        settings = {
            "temperature": self.temperature if asked.temperature is None else asked.temperature,
            "top_p": self.top_p if asked.top_p is None else asked.top_p,
            self.limit_field: asked.max_tokens or self.max_tokens,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        return {"model": self.model, "messages": prompt, "stream": True} | given

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncIterator[str]:
        async for piece in completion(reply, self.failure):
            if isinstance(piece, Thought):
                await turn.reply(piece)
            else:
                yield piece
