"""ezflow/testing/conformance.py: good modules pass; each way to be broken fails by its own rule."""

import itertools
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from ezflow import Audio, Inbox, Module, Outbox, Progress, Transcript, Turn, Utterance, batch, module
from ezflow.testing import (
    ConformanceError,
    FakeASR,
    FakeLLM,
    FakeTTS,
    FakeVAD,
    Pause,
    check_module,
)

SOUND = [Audio(bytes(320), 16000, text=text) for text in ("hello", "there", "")]


@module
class Shout(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        await turn.reply(Progress("shouting"))
        yield text.upper()
        yield "!"


@module
def upper(text: str) -> str:
    return text.upper()


@module
class Pairs(Module[str, tuple[str, ...]]):
    """Keeps its state in local variables, as it should."""

    async def run(self, inbox: Inbox[str], outbox: Outbox[tuple[str, ...]], turn: Turn) -> None:
        waiting: list[str] = []
        async for text in inbox:
            waiting.append(text)
            if len(waiting) == 2:
                await outbox.send(tuple(waiting))
                waiting.clear()


@module
class Careful(Module[str, str]):
    """Cleans up under the shield, within its deadline."""

    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep(1)
        finally:
            with turn.cleanup():
                await trio.sleep(0.5)
        return text


@module
class Holder(Module[str, str]):
    """Holds a descriptor, a thread and a task while it is open, and no longer."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        read, write = os.pipe()
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                yield
                nursery.cancel_scope.cancel()
        finally:
            stop.set()
            thread.join()
            os.close(read)
            os.close(write)

    async def process(self, text: str, turn: Turn) -> str:
        return text


@attrs.frozen
class Style:
    mark: str = "!"


@module(options=Style, key="STYLE")
class Marked(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text + turn.options[Style].mark


@pytest.mark.parametrize(
    ("good", "samples"),
    [
        (FakeASR(0.1), SOUND),
        (FakeASR(), [Utterance.of(*SOUND), SOUND[0]]),
        (FakeLLM("a b {}", 0.5, 0.1), ["x", "y"]),
        (FakeTTS(0.1), ["hello", "you"]),
        (FakeVAD(), SOUND),
        (Pause(1.0), [1, "a", None]),
        (Shout(), ["a", "b"]),
        (upper, ["a", "b"]),
        (Pairs(), ["a", "b", "c", "d"]),
        (Careful(), ["a", "b"]),
        (Holder(), ["a", "b"]),
        (batch(3, 0.1), ["a", "b", "c", "d"]),
    ],
    ids=repr,
)
def test_good_modules_pass(good, samples):
    result = check_module(good, samples)
    assert result.module is good
    assert result.points == result.steps > 0


def test_the_result_says_what_came_out_and_how_much_was_tried():
    result = check_module(Shout(), ["a", "b"])
    assert result.outputs == ("A", "!", "B", "!")
    assert check_module(Shout(), ["a"], points=3).points == 3


def test_options_are_given_to_the_module():
    assert check_module(Marked(), ["a"], options={"STYLE": {"mark": "?"}}).outputs == ("a?",)


def test_outputs_that_are_never_equal_can_be_compared_otherwise():
    numbers = itertools.count()

    @module
    class Numbered(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            return f"{text} {next(numbers)}"

    with pytest.raises(ConformanceError, match="sessions"):
        check_module(Numbered(), ["a"])
    check_module(Numbered(), ["a"], same=lambda a, b: a.split()[0] == b.split()[0])


def test_a_real_module_is_cancelled_at_no_more_than_20_points_on_the_real_clock():
    @module(blocking=True)
    class Threaded(Module[str, str]):
        def process(self, text: str, turn: Turn) -> str:
            return text

    result = check_module(Threaded(), [str(number) for number in range(3)], real=True)
    assert 0 < result.points <= 20
    assert result.outputs == ("0", "1", "2")


def test_without_samples_there_is_nothing_to_check():
    with pytest.raises(ValueError, match="at least one sample"):
        check_module(upper, [])


# ---- broken ones


@module
class NeverEnds(Module[str, str]):
    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        async for text in inbox:
            await outbox.send(text)
        await trio.sleep_forever()


@module
class NeverEndsEmpty(Module[str, str]):
    """Waits for what only a first item would bring."""

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        first = trio.Event()
        async with trio.open_nursery() as nursery:

            async def tick() -> None:
                await first.wait()

            nursery.start_soon(tick)
            async for text in inbox:
                first.set()
                await outbox.send(text)


@module
class LeavesLate(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)
        return text


@module
class NeverLeaves(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        return text


@module
class Retries(Module[str, str]):
    """The classic: a loop around `except BaseException`."""

    async def process(self, text: str, turn: Turn) -> str:
        while True:
            try:
                await trio.sleep(1)
                return text
            except BaseException:
                await trio.lowlevel.cancel_shielded_checkpoint()


@module
class FailsWhenCancelled(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        try:
            await trio.sleep(1)
        except BaseException:
            raise RuntimeError("something went wrong") from None
        return text


@module
class TakesAll(Module[str, str]):
    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        give, take = trio.open_memory_channel[str](10**9)

        async def pump() -> None:
            async for text in take:
                await outbox.send(text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump)
            async with give:
                async for text in inbox:
                    give.send_nowait(text)


SHARED: list[str] = []


@module
class Remembers(Module[str, str]):
    """Keeps what it was given for the next turn, whosoever it is."""

    async def process(self, text: str, turn: Turn) -> str:
        SHARED.append(text)
        return f"{text} after {len(SHARED) - 1}"


BETWEEN: dict[str, str] = {}


@module
class Mixes(Module[str, str]):
    """Right for one user at a time; two at once read each other's words."""

    async def process(self, text: str, turn: Turn) -> str:
        BETWEEN["text"] = text
        await trio.sleep(0.1)
        return BETWEEN["text"].upper()


@module
class LeaksThread(Module[str, str]):
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        threading.Thread(target=STOP.wait, daemon=True).start()
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class LeaksDescriptor(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        OPENED.append(os.open(os.devnull, os.O_RDONLY))
        return text


@module
class LeaksTask(Module[str, str]):
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class WrongType(Module[str, int]):
    async def process(self, text: str, turn: Turn) -> int:
        return text  # type: ignore[return-value]


@module
class WrongInside(Module[str, Transcript | list[str]]):
    async def process(self, text: str, turn: Turn) -> Transcript | list[str]:
        return [text, 5]  # type: ignore[list-item]


STOP = threading.Event()
OPENED: list[int] = []


@pytest.fixture(autouse=True)
def _clean() -> Any:
    SHARED.clear()
    BETWEEN.clear()
    STOP.clear()
    yield
    STOP.set()
    while OPENED:
        os.close(OPENED.pop())


def test_where_sound_is_cut_may_differ_from_turn_to_turn():
    cuts = itertools.cycle([2, 4, 6])

    @module
    class Says(Module[str, Audio]):
        async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
            cut = next(cuts)
            yield Audio(bytes(8)[:cut], 8000, text=text)
            yield Audio(bytes(8)[cut:], 8000)

    check_module(Says(), ["x", "y"])


@pytest.mark.parametrize(
    ("broken", "rule", "what"),
    [
        (NeverEnds(), "end of input", "no end 60 s after its input had ended"),
        (NeverEndsEmpty(), "end of input", "no end 60 s after its input had ended"),
        (LeavesLate(), "cancellation", "did not leave"),
        (NeverLeaves(), "cancellation", "did not leave"),
        (Retries(), "cancellation", "did not leave"),
        (FailsWhenCancelled(), "cancellation", "it failed"),
        (TakesAll(), "backpressure", "more items while nobody took what it gave"),
        (Remembers(), "sessions", "a later turn gave"),
        (Mixes(), "sessions", "beside another session it gave"),
        (LeaksThread(), "release", "1 threads more after it was closed"),
        (LeaksDescriptor(), "release", "descriptors more after it was closed"),
        (LeaksTask(), "release", "1 tasks more after it was closed"),
        (WrongType(), "types", "gave 'x'"),
        (WrongInside(), "types", "gave ['x', 5]"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Module) else "",
)
def test_a_broken_module_fails_by_its_own_rule(broken, rule, what):
    with pytest.raises(ConformanceError) as caught:
        check_module(broken, ["x", "y"])
    assert caught.value.rule == rule
    assert what in str(caught.value)
    assert str(caught.value).startswith(f"{type(broken).__name__}() breaks {rule!r}: ")
