"""What chat models share: a request's options, a prompt made of the history, an OpenAI-compatible stream."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from attrs.validators import optional

from ezflow import EzflowError

from ..http.decoding import events
from ..http.errors import BackendError, excerpt
from ..text.think import Thought

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezflow.history import Message

    from ..http.reply import Reply

__all__ = ["LLMError", "LLMOptions", "completion", "messages", "prompt_bytes", "recent", "too_long"]

_AROUND_BYTES = 24  # what a chat template puts around a message
_TOO_LONG = re.compile(r"context[ _](size|length|window)|maximum context", re.IGNORECASE)


class LLMError(EzflowError):
    """A language model could not be loaded."""


@attrs.frozen
class LLMOptions:
    """What a request may set for its turn: a `temperature` of 0 or more, `max_tokens` of 1 or more.

    None leaves what the module says.
    """

    temperature: float | None = attrs.field(default=None, validator=optional(attrs.validators.ge(0)))
    max_tokens: int | None = attrs.field(default=None, validator=optional(attrs.validators.ge(1)))
    system_prompt: str | None = None


def prompt_bytes(content: str) -> int:
    """The bytes of a message in a prompt, with what surrounds it there."""
    return len(content.encode()) + _AROUND_BYTES


def recent(history: Sequence[Message], room: int) -> Sequence[Message]:
    """The newest messages that fit in `room` bytes of a prompt.

    Older ones go in steps of half the room: the beginning stays the same for many turns, and with it the part
    of the prompt that a model has already read.
    """
    costs = [prompt_bytes(message.content) for message in history]
    excess = sum(costs) - room
    if excess <= 0:
        return history
    step = max(room // 2, 1)
    excess = -(-excess // step) * step
    start = 0
    while start < len(history) and excess > 0:
        excess -= costs[start]
        start += 1
    return history[start:]


def messages(system: str, history: Sequence[Message], text: str) -> list[dict[str, str]]:
    """A prompt in which user and assistant take turns, as the templates of many models demand.

    What a user said without an answer (the turn was cut) joins what the user said next.
    """
    prompt = [{"role": "user", "content": text}]
    for message in reversed(history):
        if message.role == prompt[0]["role"]:
            prompt[0]["content"] = f"{message.content}\n{prompt[0]['content']}"
        else:
            prompt.insert(0, {"role": message.role, "content": message.content})
    if prompt[0]["role"] != "user":
        del prompt[0]
    return [{"role": "system", "content": system}, *prompt] if system else prompt


class completion:  # noqa: N801  (used as a function: `async for piece in completion(reply, self.failure)`)
    """The pieces of an answer that `POST /chat/completions` streams: str, and Thought for what the model thinks.

    It is complete at `[DONE]`, or once a chunk has a finish_reason. Chunks without a choice (of usage), calls of tools
    and whatever else is no text are passed over; a refusal is text. An iterator rather than a generator, so that it can
    be left at any time. Raises: what `failed` makes of an error inside the stream; BackendBroken for one that ends too
    early or is of another shape; what reading raises.
    """

    def __init__(self, reply: Reply, failed: Callable[[str], Exception]) -> None:
        self._reply = reply
        self._failed = failed
        self._events = events(reply)
        self._ready: deque[str | Thought] = deque()
        self._complete = False

    def __aiter__(self) -> completion:
        return self

    async def __anext__(self) -> str | Thought:
        while not self._ready:
            if self._complete:
                await self._reply.finish()
                raise StopAsyncIteration
            event = await anext(self._events, None)
            if event is None:
                raise self._reply.broken("ended before its answer was complete")
            self._take(event.data)
        return self._ready.popleft()

    def _take(self, data: str) -> None:
        if data == "[DONE]":
            self._complete = True
            return
        try:
            chunk = msgspec.json.decode(data, type=_Chunk)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._reply.broken("sent what is no part of an answer", data.encode()) from error
        if chunk.error or chunk.object == "error":
            raise self._failed(excerpt(data.encode()))
        for choice in chunk.choices or ():
            self._ready.extend(_pieces(choice.delta or _Delta()))
            self._complete = self._complete or bool(choice.finish_reason)


class _Delta(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Any = None
    object: Any = None


def _pieces(delta: _Delta) -> Iterator[str | Thought]:
    thought = delta.reasoning_content or delta.reasoning
    if thought and isinstance(thought, str):
        yield Thought(thought)
    for text in (delta.content, delta.refusal):
        if text and isinstance(text, str):
            yield text


def too_long(error: BackendError) -> bool:
    """Whether a server says that a prompt exceeds the model's context."""
    return error.status in (None, 400, 413, 500) and _TOO_LONG.search(error.body) is not None
