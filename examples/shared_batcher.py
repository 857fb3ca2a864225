"""A model that takes many inputs about as fast as one, shared by all users: what they ask is gathered into batches.

    python examples/shared_batcher.py            forty questions at once (needs numpy: pip install -e ".[speech]")
    ezflow serve examples/shared_batcher.py

The module opens the model once, and beside it a task that forms the batches (`lifespan`). A turn asks, and waits: when
it is cancelled its question leaves the batch, and no other user notices; when a batch fails, those in it fail alone.
"""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import attrs
import numpy as np
import outcome
import trio

from ezflow import Module, Turn, module, ordered, resource

log = logging.getLogger("shared_batcher")
Q = TypeVar("Q")
A = TypeVar("A")

KNOWN = {
    "When are you open?": "We are open from nine to six.",
    "How do I reset my password?": "Choose 'forgotten password' where you log in.",
    "Where is my parcel?": "Your orders say where each parcel is.",
    "Do you take a credit card?": "Yes, every card.",
}


class BatchFailed(Exception):
    """The model failed on the batch that the question was in."""


@attrs.define(eq=False)
class Asked(Generic[Q, A]):
    """A question on its way through a batch."""

    question: Q
    answer: outcome.Outcome[A] | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)
    wanted: bool = True


class Batcher(Generic[Q, A]):
    """Has one call of `model` answer what several tasks ask: up to `size` questions that come within `within_s`.

    What is asked while the model is at work is the next batch. Something must `run` it.
    """

    def __init__(self, model: Callable[[list[Q]], Awaitable[list[A]]], size: int, within_s: float) -> None:
        self._model = model
        self._size = size
        self._within_s = within_s
        # It holds nothing: who is cancelled while the model is at work has not asked yet.
        self._ask, self._asked = trio.open_memory_channel[Asked[Q, A]](0)

    async def ask(self, question: Q) -> A:
        """Its answer, once its batch has been answered. Raises: BatchFailed."""
        asked = Asked[Q, A](question)
        await self._ask.send(asked)
        try:
            await asked.answered.wait()
        finally:
            asked.wanted = False
        assert asked.answer is not None
        answer: A = asked.answer.unwrap()
        return answer

    async def run(self) -> None:
        async for first in self._asked:
            batch = [first]
            with trio.move_on_after(self._within_s):
                while len(batch) < self._size:
                    batch.append(await self._asked.receive())
            if batch := [asked for asked in batch if asked.wanted]:
                await self._work_on(batch)

    async def _work_on(self, batch: list[Asked[Q, A]]) -> None:
        log.info("a batch of %d", len(batch))
        try:
            answers = await self._model([asked.question for asked in batch])
            for asked, answer in zip(batch, answers, strict=True):
                asked.answer = outcome.Value(answer)
        except Exception as error:  # whatever the model raises is for those who asked it
            log.error("a batch of %d failed", len(batch), exc_info=error)
            for asked in batch:
                asked.answer = outcome.Error(BatchFailed(f"the model failed on a batch of {len(batch)}: {error}"))
        for asked in batch:
            asked.answered.set()


class Desk:
    """Finds the nearest known question for each of many, with one product of matrices, as a GPU would."""

    def __init__(self) -> None:
        self._words = sorted({word for question in KNOWN for word in words(question)})
        self._known = self._embedded([*KNOWN])

    def answers(self, questions: list[str]) -> list[str]:
        nearest = np.argmax(self._embedded(questions) @ self._known.T, axis=1)
        return [[*KNOWN.values()][place] for place in nearest]

    def _embedded(self, texts: list[str]) -> "np.typing.NDArray[np.float32]":
        return np.array([[word in words(text) for word in self._words] for text in texts], np.float32)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@module
class HelpDesk(Module[str, str]):
    """Answers a question with the answer to the nearest known one. Up to `size` users share a call of the model."""

    size: int = 16
    within_s: float = 0.005
    batcher: Batcher[str, str] = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        desk = await trio.to_thread.run_sync(Desk)

        async def answers(questions: list[str]) -> list[str]:
            return await trio.to_thread.run_sync(desk.answers, questions)

        self.batcher = Batcher(answers, self.size, self.within_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.batcher.run)
            yield
            nursery.cancel_scope.cancel()

    async def process(self, question: str, turn: Turn) -> str:
        return await self.batcher.ask(question)


flow = HelpDesk()

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for answer in trio.run(ordered(flow, 40).collect, [*KNOWN] * 10):
        print(answer)
