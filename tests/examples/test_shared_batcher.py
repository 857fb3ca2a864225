"""examples/shared_batcher.py: what several users ask at once is one call of the model."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from programs import example, run, serving, texts, turn

pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")

from ezflow.testing import check_module, collect

program = example("shared_batcher")

MODEL_S = 0.1


class Model:
    """Answers a batch in capitals, after its time; fails on one with "bad" in it, and forgets "forgotten"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def __call__(self, questions: list[str]) -> list[str]:
        self.batches.append(questions)
        await trio.sleep(MODEL_S)
        if "bad" in questions:
            raise RuntimeError("out of memory")
        return [question.upper() for question in questions if question != "forgotten"]


class Users:
    """Tasks that ask, each at its time."""

    def __init__(self, nursery: trio.Nursery, batcher: Any) -> None:
        self._nursery = nursery
        self._batcher = batcher
        self.answers: dict[str, Any] = {}
        self.times: dict[str, float] = {}

    def ask(self, question: str, at: float = 0.0) -> trio.CancelScope:
        """Have somebody ask; they leave when the scope is cancelled."""
        scope = trio.CancelScope()
        self._nursery.start_soon(self._ask, question, at, scope)
        return scope

    async def _ask(self, question: str, at: float, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep_until(at)
            try:
                self.answers[question] = await self._batcher.ask(question)
            except program.BatchFailed as error:
                self.answers[question] = error
            self.times[question] = round(trio.current_time(), 6)


@asynccontextmanager
async def batching(model: Model, size: int = 8, within_s: float = 0.005) -> AsyncIterator[Users]:
    """A batcher and its users, who have all been answered, or have left, when this is left."""
    batcher = program.Batcher(model, size, within_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        async with trio.open_nursery() as users:
            yield Users(users, batcher)
        nursery.cancel_scope.cancel()


async def test_many_users_share_few_batches_and_each_gets_their_own_answer(autojump_clock):
    model = Model()
    async with batching(model, size=8) as users:
        for number in range(20):
            users.ask(f"question {number}")
    assert [len(batch) for batch in model.batches] == [8, 8, 4]
    assert users.answers == {f"question {number}": f"QUESTION {number}" for number in range(20)}


async def test_a_question_waits_for_others_as_long_as_it_was_told_and_no_longer(autojump_clock):
    model = Model()
    async with batching(model, within_s=0.005) as users:
        users.ask("first")
        users.ask("soon", at=0.004)
        users.ask("later", at=0.3)
    assert model.batches == [["first", "soon"], ["later"]]
    assert users.times == {"first": 0.105, "soon": 0.105, "later": 0.405}


async def test_a_full_batch_waits_for_nobody(autojump_clock):
    model = Model()
    async with batching(model, size=2, within_s=60) as users:
        users.ask("one")
        users.ask("two", at=0.01)
    assert users.times == {"one": 0.11, "two": 0.11}


async def test_what_is_asked_while_the_model_works_is_the_next_batch(autojump_clock):
    model = Model()
    async with batching(model) as users:
        users.ask("first")
        users.ask("second", at=0.02)
        users.ask("third", at=0.08)
    assert [set(batch) for batch in model.batches] == [{"first"}, {"second", "third"}]


@pytest.mark.parametrize(
    ("asked_s", "left_s"),
    [(0.0, 0.002), (0.02, 0.05), (0.02, 0.107)],
    ids=["while its batch forms", "while another is at work", "while its batch forms after another"],
)
async def test_the_question_of_a_user_who_leaves_is_in_no_batch(autojump_clock, asked_s, left_s):
    model = Model()
    async with batching(model) as users:
        users.ask("first")
        users.ask("beside it", at=asked_s)
        leaves = users.ask("left", at=asked_s)
        await trio.sleep_until(left_s)
        leaves.cancel()
    assert "left" not in [question for batch in model.batches for question in batch]
    assert users.answers == {"first": "FIRST", "beside it": "BESIDE IT"}


async def test_who_leaves_while_the_model_works_leaves_at_once_and_the_others_get_their_own(autojump_clock):
    model = Model()
    async with batching(model) as users:
        for question in ["one", "two", "three"]:
            users.ask(question)
        leaves = users.ask("left")
        await trio.sleep_until(0.05)
        assert len(model.batches[0]) == 4
        leaves.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert leaves.cancelled_caught
        assert users.answers == {}
    assert users.answers == {"one": "ONE", "two": "TWO", "three": "THREE"}
    assert len(model.batches) == 1


async def test_a_batch_of_which_everybody_has_left_is_not_worked_on(autojump_clock):
    model = Model()
    async with batching(model) as users:
        leaves = users.ask("left")
        await trio.sleep_until(0.002)
        leaves.cancel()
        users.ask("next", at=1.0)
    assert model.batches == [["next"]]


@pytest.mark.parametrize("wrong", ["bad", "forgotten"])
async def test_a_batch_that_fails_fails_those_in_it_alone(autojump_clock, wrong):
    model = Model()
    async with batching(model, size=3) as users:
        for question in ["one", wrong, "two"]:
            users.ask(question)
        users.ask("next", at=0.01)
    failed = [users.answers.pop(question) for question in ["one", wrong, "two"]]
    assert all(isinstance(error, program.BatchFailed) for error in failed)
    assert len({id(error) for error in failed}) == 3  # an exception belongs to one turn, which adds its notes to it
    assert users.answers == {"next": "NEXT"}


class Slow:
    """A desk that answers when it is let, in a thread as the real one does."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.working, self.let = threading.Event(), threading.Event()

    def answers(self, questions: list[str]) -> list[str]:
        self.batches.append(questions)
        self.working.set()
        assert self.let.wait(10)
        return [question.upper() for question in questions]


async def test_an_interrupted_turn_is_over_at_once_while_another_users_goes_on(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(program, "Desk", lambda: slow)
    got: dict[str, list[str]] = {"ann": [], "bob": []}

    async def ask(user: str) -> None:
        async with service.session(user) as session:
            async for event in session.turn(f"I am {user}"):
                got[user].append(event.item if event.type == "text" else event.type)
                if event.reason is not None:
                    got[user].append(event.reason)

    async with program.HelpDesk(size=2, within_s=60).open() as service, service.session("bob") as bob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "ann")
            nursery.start_soon(ask, "bob")
            await trio.to_thread.run_sync(slow.working.wait)
            assert await bob.interrupt() == 1
            slow.let.set()
    assert sorted(slow.batches[0]) == ["I am ann", "I am bob"]
    assert got["ann"] == ["turn.started", "I AM ANN", "turn.ended", "done"]
    assert got["bob"][-1] == "interrupted"


def test_the_module_keeps_the_rules_of_modules():
    check_module(program.HelpDesk(), ["When are you open?", "Where is my parcel, please?"], real=True)


async def test_a_question_in_other_words_finds_its_answer():
    asked = ["I forgot my password", "has my parcel been sent?", "do you take my card"]
    password, parcel, card = await collect(program.HelpDesk(), asked)
    assert "forgotten password" in password
    assert "parcel" in parcel
    assert "card" in card


def test_forty_questions_at_once_are_answered_in_a_few_batches(tmp_path):
    done = run("shared_batcher", cwd=tmp_path)
    sizes = [int(size) for size in re.findall(r"a batch of (\d+)", done.stderr)]
    assert sum(sizes) == 40
    assert max(sizes) <= 16
    assert len(sizes) <= 20  # three, where the machine has nothing else to do
    assert done.stdout.splitlines() == [*program.KNOWN.values()] * 10


def test_served_it_answers_a_user():
    with serving("shared_batcher") as url:
        assert texts(turn(url, user="ann", input="When are you open?")) == ["We are open from nine to six."]
