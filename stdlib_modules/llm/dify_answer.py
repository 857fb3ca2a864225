"""What the events of one answer of Dify's mean: text for the next stage, events for the client. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ezflow import Progress
from ezflow.events import event

from ..text.think import Thought

__all__ = ["Answer", "AnswerFile", "AnswerReplaced", "Citations", "Conversation"]


@event
class Conversation:
    """Which conversation an answer belongs to, and which message of it it is; told once, before its first text.

    A client that sends `conversation_id` back goes on with this conversation.
    """

    conversation_id: str
    message_id: str


@event
class AnswerReplaced:
    """The app's moderation has replaced all of the answer so far: `answer` is to stand in its place."""

    answer: str


@event
class AnswerFile:
    """A file that the app has made for its answer, such as an image."""

    url: str
    type: str
    id: str = ""


@event
class Citations:
    """The pieces of the app's knowledge that an answer is drawn from, as Dify describes them."""

    resources: tuple[dict[str, Any], ...]


class Answer:
    """Reads the events of one answer, in their order.

    Every application type's: a chatbot and a chatflow send text as `message`, an agent as `agent_message`; an agent's
    closing `message` holds the whole answer once more, of which only what has not been given counts.
    """

    def __init__(self) -> None:
        self.given = ""
        self._is_known = False
        self._by_agent = False
        self._thoughts: dict[str, str] = {}
        self._tools: set[tuple[str, str]] = set()

    def read(self, told: Mapping[str, Any]) -> list[Any]:
        """What one event gives: `str` goes on, the rest is for the client.

        Raises: ValueError for one that is not made as Dify's are.
        """
        items = self._conversation(told)
        match told.get("event"):
            case "message":
                items += self._give(self._missing(told) if self._by_agent else _text(told, "answer"))
            case "agent_message":
                self._by_agent = True
                items += self._give(_text(told, "answer"))
            case "message_replace":
                items += self._replace(_text(told, "answer"))
            case "agent_thought":
                items += self._thought(told)
            case "reasoning_chunk":
                text = _text(_part(told, "data"), "reasoning")
                items += [Thought(text)] if text else []
            case "message_file":
                items.append(AnswerFile(_text(told, "url"), _text(told, "type"), _text(told, "id")))
            case "message_end":
                cited = _part(told, "metadata").get("retriever_resources") or []
                items += [Citations(tuple(cited))] if cited else []
        return items

    def _conversation(self, told: Mapping[str, Any]) -> list[Any]:
        if self._is_known or not told.get("conversation_id"):
            return []
        self._is_known = True
        return [Conversation(_text(told, "conversation_id"), _text(told, "message_id"))]

    def _give(self, text: str) -> list[Any]:
        self.given += text
        return [text] if text else []

    def _missing(self, told: Mapping[str, Any]) -> str:
        whole = _text(told, "answer")
        return whole.removeprefix(self.given) if whole.startswith(self.given) else ""

    def _replace(self, answer: str) -> list[Any]:
        """The rest of what stands now, if it goes on from what was given; else all of it, on a line of its own."""
        before, self.given = self.given, answer
        if answer.startswith(before):
            rest = answer.removeprefix(before)
            return [rest] if rest else []
        spoken = [] if before.startswith(answer) else [f"\n{answer}"]
        return [AnswerReplaced(answer), *spoken]

    def _thought(self, told: Mapping[str, Any]) -> list[Any]:
        """A step of an agent: it comes again as it grows, and repeats what was said aloud in it."""
        step, thought, tool = _text(told, "id"), _text(told, "thought"), _text(told, "tool")
        items: list[Any] = []
        known = self._thoughts.get(step, "")
        if thought.strip() and thought.strip() not in self.given:
            new = thought.removeprefix(known) if thought.startswith(known) else thought
            self._thoughts[step] = thought
            items += [Thought(new)] if new else []
        if tool and (step, tool) not in self._tools:
            self._tools.add((step, tool))
            items.append(Progress(f"uses {tool}"))
        return items


def _text(told: Mapping[str, Any], field: str) -> str:
    value = told.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"sent a {told.get('event', field)!r} whose {field} is no text")
    return value


def _part(told: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = told.get(field) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"sent a {told.get('event')!r} whose {field} is no object")
    return value
