"""What the history holds after live turns, attempts and hang-ups: each answer beside its own question."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from ezflow import Audio, Flow, Inbox, Latest, Module, Outbox, Service, Turn, fallback, module, retry
from ezflow.testing import Failing, FakeLLM, FakeTTS


@module
class Answers(Module[str, str]):
    """Answers in two pieces, the second after `pause_s`."""

    name_: str = "it"
    pause_s: float = 0.0

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        turn.remember(text)
        yield f"{self.name_} says"
        await trio.sleep(self.pause_s)
        yield f" {text}"


def said(session) -> list[tuple[str, bool]]:
    return [(message.content, message.cut) for message in session.history.messages]


async def live(flow: Flow[str, object], *texts: str, hang_up_after_s: float) -> list[tuple[str, bool]]:
    """The history after a live turn in which each text is given once the one before has been answered."""
    async with flow.open() as service, service.session("ann") as session:
        async with session.live() as turn, trio.open_nursery() as nursery:

            async def read() -> None:
                async for _ in turn:
                    pass

            nursery.start_soon(read)
            for text in texts:
                await turn.send(text)
                await trio.sleep(1 if text != texts[-1] else hang_up_after_s)
            nursery.cancel_scope.cancel()
        return said(session)


ANSWERED = [("q1", False), ("it says q1", False), ("q2", False), ("it says q2", False)]


@pytest.mark.parametrize(
    "flow",
    [
        Answers().shown(),
        Answers() >> FakeTTS(char_s=0.01),
        Answers().shown() >> FakeTTS(char_s=0.01),
        Latest(Answers()),
        Latest(Answers() >> FakeTTS(char_s=0.01)),
    ],
    ids=repr,
)
async def test_a_hang_up_after_the_answers_cuts_none_of_them(flow, autojump_clock):
    assert await live(flow, "q1", "q2", hang_up_after_s=10) == ANSWERED


async def test_a_hang_up_in_an_answer_cuts_that_one_only(autojump_clock):
    flow = Answers(pause_s=0.9).shown() >> FakeTTS(char_s=0.001)
    assert await live(flow, "q1", "q2", hang_up_after_s=0.5) == [*ANSWERED[:3], ("it says", True)]


async def test_sound_that_comes_after_its_answer_is_history_is_not_the_next_answer_s(autojump_clock):
    @module
    async def words(text: str, turn: Turn) -> AsyncIterator[str]:
        turn.remember(text)
        for word in text.split()[1:]:
            yield f"{word} "

    flow = words.shown() >> FakeTTS(delay_s=5)
    assert await live(flow, "say one two", "nothing", hang_up_after_s=4.01) == [
        ("say one two", False),
        ("one two ", False),
        ("nothing", False),
    ]


async def test_a_live_turn_reads_its_own_history(autojump_clock):
    texts: list[str] = []
    async with FakeLLM("n={n}").open() as service, service.session("ann") as session, session.live() as turn:
        for text in "abc":
            await turn.send(text)
            while (event := await anext(turn)).type != "text":
                pass
            texts.append(event.item)
    assert texts == ["n=0", "n=2", "n=4"]


async def test_a_long_live_turn_holds_no_more_exchanges_than_are_open(autojump_clock):
    async with Answers().open() as service, service.session("ann") as session, session.live() as turn:
        for number in range(500):
            await turn.send(str(number))
            while (await anext(turn)).item != f" {number}":
                pass
        assert turn._state is not None
        assert len(turn._state.root.exchanges) <= 2
    assert len(session.history.messages) == session.history.max_messages


async def test_interrupting_an_idle_live_turn_says_nothing(autojump_clock):
    async with Answers().open() as service, service.session("ann") as session, session.live() as turn:
        await turn.send("q")
        while (await anext(turn)).item != " q":
            pass
        await turn.interrupt()
        await turn.end()
        assert [event.type async for event in turn] == ["turn.ended"]
        assert said(session) == [("q", False), ("it says q", False)]


async def test_interrupting_an_outer_run_says_nothing_of_an_inner_one_that_was_heard(autojump_clock):
    flow = Latest(Answers() >> Latest(Slow()))
    async with flow.open() as service, service.session("ann") as session, session.live() as turn:
        await turn.send("q1")
        while (event := await anext(turn)).item != "slow  q1":
            pass
        await turn.send("q2")
        await turn.end()
        types = [(event.type, event.run) async for event in turn]
    assert ("interrupted", event.run) not in types


@module
class Slow(Module[str, str]):
    """Gives its text on, marked."""

    async def process(self, text: str, turn: Turn) -> str:
        return f"slow {text}"


async def one(service: Service, text: str = "q") -> tuple[list[object], list[tuple[str, bool]]]:
    async with service.session("ann") as session:
        items = [event.item async for event in session.turn(text) if event.type == "text"]
        return items, said(session)


async def test_what_a_failed_attempt_remembered_inside_a_latest_is_forgotten(autojump_clock):
    flow = fallback(Latest(Answers("bad") >> Failing()), Answers("good"))
    async with flow.open() as service:
        assert (await one(service))[1] == [("q", False), ("good says q", False)]


async def test_two_answers_side_by_side_are_kept_apart(autojump_clock):
    flow = retry(Answers("a", 1.0) | Answers("b"), 2)
    async with flow.open() as service:
        _, messages = await one(service)
    assert ("a says q", False) in messages
    assert ("b says q", False) in messages


@pytest.mark.parametrize("again", [lambda flow: fallback(flow, Answers("other")), lambda flow: retry(flow, 3)])
async def test_what_the_client_has_begun_to_hear_is_not_said_again(again, autojump_clock):
    flow = again(Answers().shown() >> Failing())
    async with flow.open() as service, service.session("ann") as session:
        events = [event async for event in session.turn("q")]
    assert [event.item for event in events if event.type == "text"].count("it says") == 1
    assert events[-1].reason == "error"


async def test_a_module_that_gives_through_a_clone_is_remembered(autojump_clock):
    @module
    class Cloning(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            twin = outbox.clone()
            async for text in inbox:
                turn.remember(text)
                await twin.send(f"cloned {text}")
            twin.close()

    async with Cloning().open() as service:
        assert (await one(service))[1] == [("q", False), ("cloned q", False)]


async def test_the_words_of_a_sound_belong_to_the_answer_they_come_from():
    from ezflow.ear import Exchange, Run

    run = Run(0)
    first, second = Exchange("q1", "llm"), Exchange("q2", "llm")
    first.given = ["**One**. ", "Two."]
    second.given = ["One more."]
    run.exchanges += [first, second]
    for seq, text in enumerate(["One.", "Two.", "One more."]):
        run.play(Audio(bytes(32), 16_000, text=text), seq)
    assert [spoken.text for spoken in first.spoken] == ["One.", "Two."]
    assert [spoken.text for spoken in second.spoken] == ["One more."]
    assert first.sent
    assert second.sent


@pytest.mark.parametrize("flow", [Answers(), Latest(Answers()), Latest(Answers().shown() >> FakeTTS())], ids=repr)
async def test_an_answer_that_was_made_and_never_taken_is_not_remembered(flow, autojump_clock):
    async with flow.open() as service, service.session("ann") as session:
        async with session.turn("hello"):
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert said(session) == [("hello", False)]


@pytest.mark.parametrize("around", [lambda flow: flow, Latest, lambda flow: Latest(Latest(flow))])
async def test_an_answer_of_which_all_that_there_was_has_been_taken_is_cut_where_it_was_ended(around, autojump_clock):
    async with around(Answers(pause_s=10)).open() as service, service.session("ann") as session:
        async with session.live() as turn:
            await turn.send("hello")
            while (await anext(turn)).type != "text":
                pass
    assert said(session) == [("hello", False), ("it says", True)]


@pytest.mark.parametrize("around", [lambda flow: flow, Latest])
async def test_an_answer_that_failed_is_remembered_as_cut(around, autojump_clock, caplog):
    @module
    async def answers(text: str, turn: Turn) -> AsyncIterator[str]:
        turn.remember(text)
        yield "it was"
        raise ValueError

    async with around(answers).open() as service, service.session("ann") as session:
        assert [event.type async for event in session.turn("hello")][-2:] == ["error", "turn.ended"]
    assert said(session) == [("hello", False), ("it was", True)]
