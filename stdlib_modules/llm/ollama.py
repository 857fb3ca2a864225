"""`Ollama`: a language model that an Ollama server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import ClassVar

import attrs
import trio
from attrs.validators import ge, optional

from ezflow import Turn, module

from ..http.client import Reply
from ..http.errors import BackendError
from ..http.stream import SOON_S, Ask, HTTPStream, Reads, decoded
from ..text.think import Thought
from .chat import LLMOptions, messages, recent

__all__ = ["Ollama", "OllamaOptions"]


@attrs.frozen
class OllamaOptions(LLMOptions):
    """What a request may set for its turn; None leaves what the module says."""

    top_k: int | None = attrs.field(default=None, validator=optional(ge(1)))
    top_p: float | None = attrs.field(default=None, validator=optional(ge(0.0)))


@module(options=OllamaOptions, key="LLM")
class Ollama(HTTPStream[str, str]):
    """Answers a text, in pieces as the model writes them, with the session's history in mind.

    `model` is a name that `ollama list` shows. Of the history the newest messages are sent, up to `history_bytes` of
    UTF-8. What the model thinks before it answers, where it says so, is told to the client as `Thought` events and goes
    no further. For sampling parameters that are None the model's own hold.

    Takes: what a user said. Gives: pieces of the answer, which concatenate to it.
    Raises: BackendError.
    Source: Ollama's API, POST /api/chat.
    """

    model: str
    url: str = attrs.field(default="http://127.0.0.1:11434", kw_only=True)
    system_prompt: str = ""
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0.0)))
    top_k: int | None = attrs.field(default=None, validator=optional(ge(1)))
    top_p: float | None = attrs.field(default=None, validator=optional(ge(0.0)))
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    history_bytes: int = attrs.field(default=16_000, validator=ge(0))

    reads = Reads.NDJSON
    probes = "/api/version"
    advice: ClassVar = {
        404: "pull the model first (ollama pull NAME)",
        "unreachable": "start it (ollama serve), or give another url",
    }

    def ask(self, text: str, turn: Turn) -> Ask:
        asked = turn.options[OllamaOptions]
        system = self.system_prompt if asked.system_prompt is None else asked.system_prompt
        prompt = messages(system, recent(turn.history.messages, self.history_bytes), text)
        turn.remember(text)
        options = {
            "temperature": self.temperature if asked.temperature is None else asked.temperature,
            "top_k": asked.top_k or self.top_k,
            "top_p": self.top_p if asked.top_p is None else asked.top_p,
            "num_predict": asked.max_tokens or self.max_tokens,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return Ask("/api/chat", {"model": self.model, "messages": prompt, "stream": True, "options": given})

    async def answers(self, reply: Reply, turn: Turn) -> AsyncIterator[str]:
        async for line in decoded(reply, self.reads):
            match line:
                case {"error": told}:
                    raise self.failure(str(told))
                case {"message": {"content": str(content), **more}}:
                    if isinstance(thinking := more.get("thinking"), str) and thinking:
                        await turn.reply(Thought(thinking))
                    if content:
                        yield content
                case _:
                    raise reply.broken(f"sent what is no line of a chat: {line!r:.80}")
            if line.get("done"):
                with trio.move_on_after(SOON_S), suppress(BackendError):
                    await reply.read()  # the end, so that the connection is free again
                return
        raise reply.broken("ended before its answer was complete")
