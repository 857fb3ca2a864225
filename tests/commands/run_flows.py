"""Flows that tests run with `ezflow run`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from ezflow import Audio, EzflowError, Latest, Module, Progress, Transcript, Turn, module, setting
from ezflow.testing import Failing, FakeLLM, FakeTTS

print("the file prints")


@module
class Hears(Module[Audio, str]):
    """Hears a question in any sound; says on standard output when it is opened."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        print("hears opens")
        yield
        print("hears closes")

    async def process(self, sound: Audio, turn: Turn) -> str:
        await turn.reply(Transcript("a question"))
        return f"{sound.samples} samples"


@module
class Sums(Module[list[int], int]):
    async def process(self, numbers: list[int], turn: Turn) -> int:
        await turn.reply(Progress("adding"))
        return sum(numbers)


@module
def in_words(number: int) -> str:
    return f"a sum of {number}"


@attrs.frozen
class Manner:
    loud: bool = False


@module(options=Manner)
class Mannered(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text.upper() if turn.options[Manner].loud else text


@module
class Prints(Module[str, str]):
    """Says what it does in ways that are not the reply."""

    async def process(self, text: str, turn: Turn) -> str:
        print("printed half", end="")
        print(" and whole")
        logging.getLogger("mine").warning("warned")
        return text


@module
class Waits(Module[str, str]):
    """Says a word, and then no more until its turn is ended; takes its time to close, if it is told to."""

    opens_s: float = 0.0
    closes_s: float = 0.0

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        print("waits opens")
        try:
            await trio.sleep(self.opens_s)
            yield
        finally:
            print("waits closes")
            with trio.CancelScope(shield=True):
                await trio.sleep(self.closes_s)

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "hello "
        await trio.sleep_forever()


@module
class Ponders(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply(Progress("pondering"))
        await trio.sleep_forever()
        return text


@module
class Stubborn(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("taken ")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
        return text


@module
class Blocks(Module[str, str]):
    """Holds up the event loop itself, as a module does that forgot `blocking=True`."""

    async def process(self, text: str, turn: Turn) -> str:
        print("blocking", flush=True)
        time.sleep(3600)  # noqa: ASYNC251  (that is the mistake)
        return text


class NotThere(EzflowError):
    """The server of a model is not there."""

    expected = True


@module
class Remote(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        raise NotThere("http://127.0.0.1:11434 does not answer: is it running?")


@module
class CannotOpen(Module[str, str]):
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        raise ValueError("no weights")
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text


voice = Hears() >> FakeLLM(reply="You said {}.").shown() >> FakeTTS()
wrong = FakeTTS() >> FakeLLM()
cannot_open = FakeLLM() >> CannotOpen()
slow_to_close = Waits(closes_s=3600)
served = {"counts": FakeLLM(reply="{n} before"), "remote": Remote(), "ponders": Ponders()}
CHINESE = "今天天气很好我们一起去公园散步吧" * 4
flows = {
    "voice": voice,
    "live": Latest(voice),
    "sums": Sums(),
    "summary": Sums() >> in_words >> FakeLLM(),
    "mannered": Hears() >> Mannered(),
    "counts": served["counts"],
    "settable": FakeLLM(reply=setting("REPLY", "hello")),
    "prints": Prints(),
    "waits": Mannered() >> Waits(),
    "opens_slowly": Waits(opens_s=3600),
    "closes_slowly": slow_to_close,
    "stubborn": Stubborn(),
    "blocks": Blocks(),
    "failing": FakeLLM().shown() >> Failing("no more"),
    "remote": served["remote"],
    "cannot_open": cannot_open,
    "long": FakeLLM(reply="word " * 20_000),
    "wraps": FakeLLM(reply=f"{CHINESE} and then {CHINESE}\nthe end"),
    "steers": FakeLLM(reply="\x1b[2Jboo\x07"),
    "silent": FakeLLM(reply=""),
}
