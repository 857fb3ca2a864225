"""A stage that fails has not ended: what gathers its outputs gives nothing that looks whole."""

import pytest
import trio

from ezflow import Inbox, Latest, Module, Outbox, Turn, fallback, module, ordered, race, retry, timeout
from ezflow.testing import Pause


@module
class Gathers(Module[str, str]):
    """Gives all its inputs as one text when they have ended."""

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        await outbox.send(" ".join([text async for text in inbox]))


@module
class Fails(Module[str, str]):
    """Takes its time, and fails."""

    async def process(self, text: str, turn: Turn) -> str:
        await trio.sleep(0.01)
        raise RuntimeError("broken")


FAILING = [
    Fails(),
    Fails() >> Pause(0),
    Fails() | Fails(),
    Latest(Fails()),
    ordered(Fails(), 2),
    retry(Fails(), 1),
    timeout(Fails(), 5),
    fallback(Fails(), Fails()),
    race(Fails(), Fails()),
]
# Which task goes first is trio's choice, so what must never happen is looked for some times.
TIMES = 20


@pytest.mark.parametrize("failing", FAILING, ids=str)
async def test_what_gathers_behind_a_failure_gives_nothing(failing, autojump_clock):
    async with ordered(failing >> Gathers(), 2).open() as service, service.session("ann") as session:
        for _ in range(TIMES):
            events = [event async for event in session.turn("one")]
            assert [event.type for event in events if event.type == "text"] == []
            assert (events[-2].type, events[-1].reason) == ("error", "error")


@pytest.mark.parametrize("flow", [Latest(Pause(1)), race(Pause(5), Pause(1)), fallback(Fails(), Pause(1))], ids=str)
async def test_what_gathers_behind_an_abandoned_run_still_sees_the_end(flow, autojump_clock):
    async with (flow >> Gathers()).open() as service, service.session("ann") as session:
        async with session.live() as live:
            await live.send("one")
            await trio.sleep(0.5)
            await live.send("two")
            await live.end()
            texts = [event.item async for event in live if event.type == "text"]
    assert texts in (["one two"], ["two"])
