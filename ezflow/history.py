"""What was said in a session: the messages that a language model may read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import attrs

__all__ = ["History", "Message"]


@attrs.frozen
class Message:
    """One side's words; `cut` where an interruption ended them early.

    `at`: when they were said, in seconds since 1970 (UTC); two messages that say the same are equal all the same.
    """

    role: Literal["user", "assistant"]
    content: str
    cut: bool = False
    at: float = attrs.field(factory=time.time, eq=False)


class History:
    """A session's conversation, oldest first, bounded: the oldest messages make room for new ones.

    Bounds: `max_messages` messages and `max_chars` characters in all.
    """

    __slots__ = ("_chars", "_messages", "changed", "changes", "cleared", "max_chars", "max_messages")

    def __init__(self, max_messages: int = 200, max_chars: int = 100_000) -> None:
        self.max_messages = max_messages
        self.max_chars = max_chars
        self.changes = 0  # how often `add` and `clear` were called,
        self.cleared = 0  # the last `clear` among them,
        self.changed: Callable[[], None] | None = None  # and whom to tell
        self._messages: list[Message] = []  # a deque takes half a KiB when it is empty, and most users are silent
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
            self._forget_oldest()
        self._count()

    def clear(self) -> None:
        """Forget all of it; where there is a store, there too."""
        self._messages.clear()
        self._chars = 0
        self._count()
        self.cleared = self.changes

    def since(self, changes: int) -> list[Message]:
        """What was added after so many changes, as far as it is still held."""
        count = min(self.changes - changes, len(self._messages))
        return self._messages[len(self._messages) - count :]

    def recall(self, older: Sequence[Message]) -> None:
        """Put messages before those that are held: the newest of them that there is room for.

        None, if what came after them has been forgotten already.
        """
        if self.changes - self.cleared > len(self._messages):
            return
        for message in reversed(older):
            chars = self._chars + len(message.content)
            if len(self._messages) >= self.max_messages or chars > self.max_chars:
                break
            self._messages.insert(0, message)
            self._chars = chars

    def expire(self, before: float) -> None:
        """Forget the oldest messages, up to the first that was said at that time or later."""
        while self._messages and self._messages[0].at < before:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self._chars -= len(self._messages.pop(0).content)

    def _count(self) -> None:
        self.changes += 1
        if self.changed is not None:
            self.changed()
