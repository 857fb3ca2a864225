"""`Ollama`: a language model that an Ollama server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import attrs
import msgspec
from attrs.validators import ge, optional

from ezflow import Turn, module

from ..http.client import Reply
from ..http.decoding import lines
from ..http.stream import Ask, HTTPStream, Reads
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

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncIterator[str]:
        async for told in lines(reply):
            try:
                line = _LINES.decode(told)
            except msgspec.ValidationError as error:
                raise reply.broken(f"sent what is no line of a chat: {told!r:.80}") from error
            except (ValueError, RecursionError) as error:
                raise reply.broken("sent what is not JSON", told.encode(errors="replace")) from error
            if line.error is not msgspec.UNSET:
                raise self.failure(str(line.error))
            message = line.message
            if message is None:
                raise reply.broken(f"sent what is no line of a chat: {told!r:.80}")
            if message.thinking and isinstance(message.thinking, str):
                await turn.reply(Thought(message.thinking))
            if message.content:
                yield message.content
            if line.done:
                await reply.finish()
                return
        raise reply.broken("ended before its answer was complete")


class _Message(msgspec.Struct):
    content: str
    thinking: Any = None


class _Line(msgspec.Struct):
    """One line of an answer. Read as this it costs a third less than as a dict."""

    message: _Message | None = None
    done: Any = False
    error: Any = msgspec.UNSET


_LINES = msgspec.json.Decoder(_Line)
