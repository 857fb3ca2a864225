"""ezflow/testing/fakes.py and collecting.py: deterministic modules with exact virtual times."""

from typing import Any

import pytest
import trio
import trio.testing

from ezflow import Audio, FlowError, ItemTypeError, Latest, TurnFailed, Utterance, module
from ezflow.history import Message
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause, collect


def sound(text: str = "") -> Audio:
    return Audio(bytes(640), 16000, text=text)


async def happenings(flow, item: Any) -> list[tuple[float, str | None, object]]:
    """What a turn tells, and when, to the microsecond."""
    async with flow.open() as service, service.session("ann") as session:
        events = [event async for event in session.turn(item)]
    return [(round(event.t, 6), event.stage, seen(event.item)) for event in events if event.item is not None]


def seen(item: Any) -> object:
    if isinstance(item, Audio):
        return f"<{item.text}>"
    return getattr(item, "text", item)


async def test_the_fake_asr_understands_what_a_sound_says_after_its_delay(autojump_clock):
    assert await happenings(FakeASR(0.3), sound("hello")) == [
        (0.3, "fake_asr", "hello"),
        (0.3, "fake_asr", "hello"),
    ]


async def test_the_fake_asr_tells_of_an_utterance_as_it_is_spoken(nursery, autojump_clock):
    utterance = Utterance()

    async def speak() -> None:
        for word in ("how", "are", "you"):
            await trio.sleep(1)
            utterance.feed(sound(word))
        await trio.sleep(1)
        utterance.end()

    nursery.start_soon(speak)
    assert await happenings(FakeASR(0.5), utterance) == [
        (1.0, "fake_asr", "how"),
        (2.0, "fake_asr", "how are"),
        (3.0, "fake_asr", "how are you"),
        (4.5, "fake_asr", "how are you"),  # the final transcript
        (4.5, "fake_asr", "how are you"),  # and the text that goes on
    ]


async def test_a_sound_without_a_text_gives_nothing(autojump_clock):
    assert await collect(FakeASR(), [sound()]) == []


async def test_the_fake_llm_answers_a_word_at_a_time(autojump_clock):
    assert await happenings(FakeLLM("You said {}.", 1.0, 0.25), "hi") == [
        (1.0, "fake_llm", "You"),
        (1.25, "fake_llm", " said"),
        (1.5, "fake_llm", " hi."),
    ]


async def test_the_fake_llm_reads_the_history(autojump_clock):
    async with FakeLLM("{n}").open() as service, service.session("ann") as session:
        for count in ("0", "2", "4"):
            assert [event.item async for event in session.turn("x")][1] == count


async def test_the_fake_tts_says_silence_of_the_right_length(autojump_clock):
    (audio,) = await collect(FakeTTS(0.1, char_s=0.5, rate_hz=8000), ["abcd"])
    assert (audio.duration_s, audio.rate_hz, audio.text) == (2.0, 8000, "abcd")


async def test_the_fake_vad_makes_an_utterance_at_onset_and_ends_it_at_silence(autojump_clock):
    utterances = await collect(FakeVAD(), [sound("a"), sound("b"), sound(), sound(), sound("c")])
    assert [[piece.text async for piece in utterance] for utterance in utterances] == [["a", "b"], ["c"]]


async def test_the_fake_vad_hears_sound_that_carries_no_text(autojump_clock):
    loud, silent = Audio(b"\1\0" * 160, 16_000), Audio(bytes(320), 16_000)
    utterances = await collect(FakeVAD(), [silent, loud, loud, silent, loud])
    assert [len([piece async for piece in utterance]) for utterance in utterances] == [2, 1]


async def test_a_cancelled_fake_vad_ends_its_utterance(autojump_clock):
    async with FakeVAD().open() as service, service.session("ann") as session, session.live() as live:
        await live.send(sound("a"))
        await anext(live)
        utterance = (await anext(live)).item
        assert not utterance.ended
        await live.aclose()
        assert utterance.ended


async def test_a_pause_is_exact(autojump_clock):
    began = trio.current_time()
    assert await collect(Pause(2.5), [1, 2]) == [1, 2]
    assert trio.current_time() == began + 5.0


async def test_a_failing_module_fails_after_so_many_items(autojump_clock):
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="enough")):
        await collect(Failing("enough", after=2), [1, 2, 3])
    assert await collect(Failing("enough", after=2), [1, 2]) == [1, 2]


async def test_a_whole_answer_takes_exactly_as_long_as_its_parts(autojump_clock):
    flow = FakeASR(0.1) >> FakeLLM("one two", 0.2, 0.1).shown() >> FakeTTS(0.05)
    assert await happenings(flow, sound("hello")) == [
        (0.1, "fake_asr", "hello"),
        (0.3, "fake_llm", "one"),
        (0.35, "fake_tts", "<one>"),
        (0.4, "fake_llm", " two"),
        (0.45, "fake_tts", "< two>"),
    ]


async def test_a_barge_in_happens_at_exactly_its_time(nursery, autojump_clock):
    """The person says "stop" at 0.52, in the middle of the answer: no word of it follows."""
    live = FakeVAD() >> Latest(FakeASR(0.1) >> FakeLLM("one two three four", 0.2, 0.1).shown() >> FakeTTS(0.05))
    async with live.open(debug=True) as service, service.session("ann") as session, session.live() as turn:

        async def microphone() -> None:
            await turn.send(sound("hello"))
            await trio.sleep(0.1)
            await turn.send(sound())
            await trio.sleep(0.42)
            await turn.send(sound("stop"))
            await trio.sleep(0.1)
            await turn.send(sound())
            await turn.end()

        nursery.start_soon(microphone)
        events = [event async for event in turn]
    assert [event.seq for event in events] == list(range(len(events)))
    assert [(round(event.t, 6), event.type, event.run, event.stage, seen(event.item)) for event in events] == [
        (0.0, "turn.started", None, None, None),
        (0.0, "transcript", 1, "fake_asr", "hello"),
        (0.2, "transcript", 1, "fake_asr", "hello"),
        (0.4, "text", 1, "fake_llm", "one"),
        (0.45, "audio", 1, "fake_tts", "<one>"),
        (0.5, "text", 1, "fake_llm", " two"),
        (0.52, "interrupted", 1, None, None),
        (0.52, "transcript", 2, "fake_asr", "stop"),
        (0.72, "transcript", 2, "fake_asr", "stop"),
        (0.92, "text", 2, "fake_llm", "one"),
        (0.97, "audio", 2, "fake_tts", "<one>"),
        (1.02, "text", 2, "fake_llm", " two"),
        (1.07, "audio", 2, "fake_tts", "< two>"),
        (1.12, "text", 2, "fake_llm", " three"),
        (1.17, "audio", 2, "fake_tts", "< three>"),
        (1.22, "text", 2, "fake_llm", " four"),
        (1.27, "audio", 2, "fake_tts", "< four>"),
        (1.27, "turn.ended", None, None, None),
    ]
    assert events[-1].reason == "done"
    assert session.history.messages == (
        Message("user", "hello"),
        Message("assistant", "one two", cut=True),
        Message("user", "stop"),
        Message("assistant", "one two three four"),
    )


# ---- collect


async def test_collect_checks_each_item_at_each_stage(autojump_clock):
    @module
    def lying(text: str) -> list[str]:
        return [text, 5]  # type: ignore[list-item]

    @module
    def count(texts: list[str]) -> int:
        return len(texts)

    with pytest.RaisesGroup(pytest.RaisesExc(ItemTypeError, match="count takes list")):
        await collect(lying >> count, ["x"])
    assert await (lying >> count).collect(["x"]) == [2]  # in production types were checked at the start


async def test_collect_gives_options_as_keywords(autojump_clock):
    with pytest.raises(ValueError, match=r"options\.LLM"):
        await collect(FakeLLM(), ["x"], LLM={"temperature": 0})


async def test_collect_refuses_a_flow_with_faults():
    with pytest.raises(FlowError):
        await collect(FakeTTS() >> FakeLLM(), ["x"])


async def test_collect_raises_a_group_that_pytest_can_read(autojump_clock):
    with pytest.RaisesGroup(RuntimeError) as caught:
        await collect(Failing(), ["x"])
    assert isinstance(caught.value, TurnFailed)
