"""What chat models share: a request's options, a prompt made of the history, an OpenAI-compatible stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import trio
from attrs.validators import optional

from ezflow import EzflowError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from httpx2 import AsyncClient

    from ezflow.history import Message

__all__ = ["LLMError", "LLMOptions", "completion", "messages", "prompt_bytes", "recent"]

_AROUND_BYTES = 24  # what a chat template puts around a message


class LLMError(EzflowError):
    """A language model could not be loaded, or its server failed; `kind` is the server's own word for it.

    `TOO_LONG` is the kind of a prompt that exceeds the context.
    """

    TOO_LONG = "exceed_context_size_error"

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


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


async def completion(http: AsyncClient, body: dict[str, Any]) -> AsyncGenerator[str, None]:
    """The pieces of a text that `POST chat/completions` streams; leaving it closes the connection.

    Takes: the request's body, without `stream`.
    Raises: LLMError for a refusal, an error inside the stream, a server that is not there.
    """
    import httpx2

    try:
        async with http.stream("POST", "chat/completions", json=body | {"stream": True}) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise _refusal(await answer.aread(), answer.status_code)
            lines = answer.aiter_lines()
            try:
                async for line in lines:
                    if piece := _piece(line):
                        yield piece
            finally:
                await _end(lines)
    except httpx2.TransportError as error:
        raise LLMError(
            f"No answer from the model server at {http.base_url} ({type(error).__name__}: {error}): "
            "start it, or give another url."
        ) from error


async def _end(lines: AsyncIterator[str]) -> None:
    """End every generator beneath a stream that is left early, by a Cancelled that passes through them all.

    httpx2 does not close its inner ones: the garbage collector would, with a ResourceWarning.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        async for _ in lines:
            pass


def _piece(line: str) -> str | None:
    """The text in one line of the stream. Raises: LLMError where the line says that the server failed."""
    field, _, value = line.partition(":")
    if field not in ("data", "error") or value.strip() in ("", "[DONE]"):
        return None
    try:
        data = json.loads(value)
    except ValueError as error:
        raise LLMError(f"The model server sent a line that is not JSON: {line[:80]!r}") from error
    if field == "error" or "error" in data:
        raise _failure(data)
    choices = data.get("choices")
    content = choices[0].get("delta", {}).get("content") if choices else None
    return content if isinstance(content, str) else None


def _refusal(body: bytes, status: int) -> LLMError:
    try:
        return _failure(json.loads(body))
    except ValueError:
        shown = body[:200].decode(errors="replace")
        return LLMError(f"The model server answered {status}: {shown}", str(status))


def _failure(data: Any) -> LLMError:
    """What `{"error": …}` holds, as an error that says what to do."""
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return LLMError(f"The model server failed: {error}")
    kind = str(error.get("type", ""))
    told = str(error.get("message", error))
    if kind == LLMError.TOO_LONG:
        told += ": shorten the text or the system prompt, or give the model a larger n_ctx"
    return LLMError(f"The model server failed: {told}", kind)
