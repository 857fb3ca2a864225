"""What was said in a session: the messages that a language model may read back."""

from __future__ import annotations

from collections import deque
from typing import Literal

import attrs

__all__ = ["History", "Message"]


@attrs.frozen
class Message:
    """One side's words; `cut` where an interruption ended them early."""

    role: Literal["user", "assistant"]
    content: str
    cut: bool = False


class History:
    """A session's conversation, oldest first, bounded: the oldest messages make room for new ones.

    Bounds: `max_messages` messages and `max_chars` characters in all.
    """

    def __init__(self, max_messages: int = 200, max_chars: int = 100_000) -> None:
        self.max_messages = max_messages
        self.max_chars = max_chars
        self._messages: deque[Message] = deque()
        self._chars = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    def add(self, message: Message) -> None:
        """Append a message; one that is longer than the bound keeps its end."""
        if len(message.content) > self.max_chars:
            message = attrs.evolve(message, content=message.content[-self.max_chars :])
        self._messages.append(message)
        self._chars += len(message.content)
        while len(self._messages) > self.max_messages or self._chars > self.max_chars:
            self._chars -= len(self._messages.popleft().content)

    def clear(self) -> None:
        self._messages.clear()
        self._chars = 0
