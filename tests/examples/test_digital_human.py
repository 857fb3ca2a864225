"""examples/digital_human.py with its real models, before a stand-in of LiveTalking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from programs import asked, serving, texts, turn

pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")

from speech import conversation, silence, spoken

from ezflow.testing.backends import LiveTalkingStandIn

pytestmark = pytest.mark.model

SPIDER = "How many legs does a spider have?"
OCEAN = "Tell me about the ocean in five sentences."
SPEECH_S = 60.0  # what the avatar says lasts longer than any test waits


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[str, LiveTalkingStandIn]]:
    """The URL of the example, and the avatars behind it."""
    with LiveTalkingStandIn(sessions=(0, 7)).in_thread() as avatar:
        with serving("digital_human", LIVETALKING_URL=avatar.url) as url:
            yield url, avatar


@contextmanager
def speaking(avatar: LiveTalkingStandIn, seconds: float) -> Iterator[None]:
    avatar.speaks_s = seconds
    try:
        yield
    finally:
        avatar.speaks_s = 0.0


def test_the_avatar_says_what_the_model_answers(stage):
    url, avatar = stage
    events = turn(url, user="ann", input=SPIDER, options={"TTS": {"sessionid": 7}})
    said = [human.text for human in avatar.said if human.sessionid == "7"]
    assert "eight" in " ".join(said)
    assert texts(events, "live_talking") == said
    assert events[-1]["reason"] == "done"


def test_who_interrupts_the_turn_silences_the_avatar(stage):
    url, avatar = stage
    with speaking(avatar, SPEECH_S), asked(f"{url}/turns", {"user": "bob", "input": OCEAN}) as response:
        events = []
        for line in response:
            events.append(json.loads(line))
            if len(texts(events, "live_talking")) == 1:
                with asked(f"{url}/interrupt", {"user": "bob"}) as told:
                    assert json.load(told) == {"turn": 1}
                assert avatar.hushed[-1] == "0"
                break
        events += map(json.loads, response)
    assert events[-1]["reason"] == "interrupted"


async def test_who_speaks_while_the_avatar_does_silences_it_and_is_answered(stage):
    url, avatar = stage
    hushed, said = len(avatar.hushed), len(avatar.said)
    async with conversation(f"{url}/talk", "cid") as client:
        with speaking(avatar, SPEECH_S):
            await client.burst(spoken(OCEAN), silence(1))
            await client.until("text", stage="live_talking", run=1)
            await client.burst(spoken(SPIDER), silence(1))
            await client.until("interrupted", run=1)
            assert avatar.hushed[hushed:] == ["0"]
        await client.until("text", stage="live_talking", run=2)
        await client.end()
    assert "eight" in client.answer(2)
    assert len(avatar.said) > said + 1
