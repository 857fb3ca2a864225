"""Stages that do what the text says that they are given, and a log of what they did: for the state machines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from ezflow import Audio, Flow, Latest, Module, Turn, module

SOUND_S = 0.4  # how long a word sounds
SPEAKS_S = 0.05  # how long it takes to make that sound
RATE_HZ = 8000


@attrs.frozen
class Question:
    """A question, and what answering it takes: `words` words, each after `each_s`; cancelled, it takes `linger_s` to
    leave; if it `fails`, it does so after the last word.
    """

    user: str
    number: int
    words: int = 2
    each_s: float = 0.1
    linger_s: float = 0.0
    fails: bool = False

    @property
    def name(self) -> str:
        return f"{self.user}q{self.number}"

    @property
    def text(self) -> str:
        return f"{self.name} {self.words} {self.each_s} {self.linger_s} {int(self.fails)}"

    @property
    def answer(self) -> list[str]:
        return [f"{self.name}w{place} " for place in range(self.words)]

    @classmethod
    def read(cls, text: str) -> Question:
        name, words, each_s, linger_s, fails = text.split(" ")
        user, _, number = name.rpartition("q")
        return cls(user, int(number), int(words), float(each_s), float(linger_s), fails == "1")


@attrs.define(eq=False)
class Log:
    """What stages did. Raises AssertionError where two turns or runs of a user are at work at once."""

    begun: dict[str, float] = attrs.field(factory=dict)  # when each question was, in seconds since its turn began
    turns: dict[str, int] = attrs.field(factory=dict)  # in which turn
    answered: set[str] = attrs.field(factory=set)
    at_work: dict[str, tuple[int, int | None]] = attrs.field(factory=dict)

    @contextmanager
    def work(self, question: Question, turn: Turn) -> Iterator[None]:
        assert question.user == turn.user, f"{question} of another user has come to {turn.user}"
        assert question.name not in self.begun, f"{question} is answered twice"
        assert turn.user not in self.at_work, f"{self.at_work} is still at work where {turn.id}, {turn.run} begins"
        self.begun[question.name] = turn.state.clock()
        self.turns[question.name] = turn.id
        self.at_work[turn.user] = (turn.id, turn.run)
        try:
            yield
            self.answered.add(question.name)
        finally:
            del self.at_work[turn.user]


@module
class Answers(Module[str, str]):
    """Answers a question as it asks to be answered, and remembers it."""

    log: Log

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        question = Question.read(text)
        with self.log.work(question, turn):
            turn.remember(text)
            try:
                for word in question.answer:
                    await trio.sleep(question.each_s)
                    yield word
                if question.fails:
                    raise ValueError(question.name)
            finally:
                if question.linger_s:
                    with turn.cleanup():
                        await trio.sleep(question.linger_s)


@module
class Speaks(Module[str, Audio]):
    """Says a word."""

    async def process(self, text: str, turn: Turn) -> Audio:
        await trio.sleep(SPEAKS_S)
        return Audio(bytes(2 * int(SOUND_S * RATE_HZ)), RATE_HZ, text=text)


def flows_with(log: Log) -> dict[str, Flow[str, Any]]:
    """With and without `Latest`, with text alone and with sound."""
    return {
        "text": Answers(log),
        "voice": Answers(log).shown() >> Speaks(),
        "latest": Latest(Answers(log)),
        "live": Latest(Answers(log).shown() >> Speaks()),
    }
