"""Think: the thinking of a reasoning model, told to the client and kept out of what is spoken."""

from __future__ import annotations

import re

from ezflow import Inbox, Module, Outbox, Turn, module
from ezflow.events import event


@event
class Thought:
    """A piece of what the model thinks; the pieces of a turn, joined, are its whole thinking."""

    text: str


class ThinkSplitter:
    """Splits a growing text into thoughts and answer, the same ones however the text was cut into deltas.

    Blocks may repeat and nest; the answer is what stands outside all of them. Where the tags do not
    balance, the last closing tag ends the thinking: an answer after thoughts that merely mention `<think>`
    is not lost, but comes at the end. A block that never closes is thought to the end; a closing tag alone
    is dropped. White space around a block is dropped unless it parts two pieces of the answer.

    Held back: what may be the beginning of a tag, white space that may be dropped, and what follows the
    inner one of two nested blocks.
    """

    def __init__(self, open_tag: str = "<think>", close_tag: str = "</think>", starts_inside: bool = False) -> None:
        if not open_tag or not close_tag or open_tag in close_tag or close_tag in open_tag:
            raise ValueError(
                f"The tags are {open_tag!r} and {close_tag!r}: neither may be empty or a part of the other."
            )
        self._open_tag = open_tag
        self._close_tag = close_tag
        self._tag = re.compile(f"{re.escape(open_tag)}|{re.escape(close_tag)}")
        self._starts_inside = starts_inside
        self._clear()

    def _clear(self) -> None:
        self._parts: list[Thought | str] = []
        self._text = ""  # what may be the beginning of a tag
        self._depth = int(self._starts_inside)
        self._has_thought = False  # in this block
        self._has_closed = False  # an inner block of this block
        self._undecided = ""  # since then: thought if one more tag closes, else the answer
        self._space = ""  # before the answer's first word
        self._last = ""  # the answer's last character
        self._after_block = False

    def feed(self, delta: str) -> list[Thought | str]:
        """Take the next piece of text; give what is certain: thoughts and answer, in their order."""
        text = self._text + delta
        at = 0
        while tag := self._tag.search(text, at):
            self._add(text[at : tag.start()])
            if tag[0] == self._open_tag:
                self._open()
            else:
                self._close()
            at = tag.end()
        rest = text[at:]
        self._text = _tag_beginning(rest, self._open_tag, self._close_tag)
        self._add(rest.removesuffix(self._text))
        return self._take()

    def end(self) -> list[Thought | str]:
        """Give what is left, and be ready for another text."""
        self._add(self._text)
        self._after_block = self._after_block or bool(self._undecided)
        self._answer(self._undecided)
        self._give(self._space)
        parts = self._take()
        self._clear()
        return parts

    def _take(self) -> list[Thought | str]:
        parts, self._parts = self._parts, []
        return parts

    def _open(self) -> None:
        # A prompt's template has opened the block already, and the model does it again.
        if self._starts_inside and self._depth == 1 and not self._has_thought and not self._last:
            return
        self._depth += 1
        if self._depth == 1:
            self._has_thought, self._has_closed, self._space = False, False, ""

    def _close(self) -> None:
        if self._depth == 0:
            return
        self._think(self._undecided)
        self._undecided = ""
        self._depth -= 1
        self._has_closed = True
        self._after_block = self._depth == 0

    def _add(self, text: str) -> None:
        if self._depth == 0:
            self._answer(text)
        elif self._has_closed:
            self._undecided += text
        else:
            self._think(text)

    def _think(self, text: str) -> None:
        if not self._has_thought:
            text = text.lstrip()
        if text:
            self._has_thought = True
            self._give(Thought(text))

    def _answer(self, text: str) -> None:
        if not self._last or (self._after_block and self._last.isspace()):
            word = text.lstrip()
            if not word:
                self._space += "" if self._after_block else text
                return
            text = word if self._after_block else self._space + text
            self._space = ""
        if text:
            self._last, self._after_block = text[-1], False
            self._give(text)

    def _give(self, part: Thought | str) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(part, Thought) and isinstance(last, Thought):
            self._parts[-1] = Thought(last.text + part.text)
        elif isinstance(part, str) and isinstance(last, str):
            self._parts[-1] = last + part
        elif part:
            self._parts.append(part)


def _tag_beginning(text: str, *tags: str) -> str:
    """The longest end of `text` that may become a tag."""
    for length in range(min(len(text), max(map(len, tags)) - 1), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in tags):
            return text[-length:]
    return ""


@module
class Think(Module[str, str]):
    """Parts a model's thinking from its answer: thoughts go to the client as events, the answer goes on.

    Thoughts and answer leave in the order of the text, each as soon as it is certain.

    Takes: str, a model's deltas. Gives: str, the answer's deltas. Replies: Thought.
    `starts_inside`: for models whose prompt opens the block, so that only `</think>` is in what they say.
    Raises: ValueError for tags of which one is empty or a part of the other.
    Source: the tags of DeepSeek-R1, QwQ and Qwen3.
    """

    open_tag: str = "<think>"
    close_tag: str = "</think>"
    starts_inside: bool = False

    def __attrs_post_init__(self) -> None:
        ThinkSplitter(self.open_tag, self.close_tag)

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        splitter = ThinkSplitter(self.open_tag, self.close_tag, self.starts_inside)
        async for delta in inbox:
            await _pass_on(splitter.feed(delta), outbox, turn)
        await _pass_on(splitter.end(), outbox, turn)


async def _pass_on(parts: list[Thought | str], outbox: Outbox[str], turn: Turn) -> None:
    for part in parts:
        if isinstance(part, Thought):
            await turn.reply(part)
        else:
            await outbox.send(part)
