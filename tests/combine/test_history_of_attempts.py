"""What a failed or beaten attempt remembered does not belong into the conversation's history."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from ezflow import Flow, Module, Turn, fallback, module, race, retry


@module
class Answers(Module[str, str]):
    """Remembers the question, fails the first `fails` times, then answers after `after_s`."""

    name_: str = "it"
    fails: int = 0
    after_s: float = 0.0

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        turn.remember(text)
        tried = FAILED.setdefault(self.name_, [])
        if len(tried) < self.fails:
            tried.append(text)
            raise RuntimeError("not yet")
        await trio.sleep(self.after_s)
        yield f"{self.name_}: {text}"


FAILED: dict[str, list[str]] = {}


@pytest.mark.parametrize(
    "flow",
    [
        fallback(Answers("bad", fails=9), Answers()),
        race(Answers(), Answers("slow", after_s=1.0)),
        retry(Answers(fails=2), 3),
        retry(fallback(Answers("bad", fails=9), Answers(fails=1)), 3),
    ],
    ids=["fallback", "race", "retry", "retry of fallback"],
)
async def test_one_question_and_one_answer_are_remembered(flow: Flow[str, str], autojump_clock):
    FAILED.clear()
    async with flow.open() as service, service.session("ann") as session:
        reasons = [event.reason async for event in session.turn("hi")]
        said = [(message.role, message.content) for message in session.history.messages]
    assert reasons[-1] == "done"
    assert said == [("user", "hi"), ("assistant", "it: hi")]


async def test_flows_that_reply_more_than_is_held_still_finish_the_race(autojump_clock):
    @module
    async def chatty(text: str, turn: Turn) -> str:
        for number in range(3000):
            await turn.reply(number)
        return text

    async with race(chatty, chatty).open() as service, service.session("ann") as session:
        events = [event async for event in session.turn("hi")]
    assert [event.item for event in events[1:-1]] == [*range(3000), "hi"]
