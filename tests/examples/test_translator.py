"""examples/translator.py with its real models: one text, two outputs."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from programs import Events, heard, run, serving, texts, turn

from ezflow import Audio

pytestmark = pytest.mark.model

TEXT = "The cat sleeps on the sofa. I like tea."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("translator") as url:
        yield url


def sounds(events: Events) -> list[Audio]:
    return [Audio(base64.b64decode(event["data"]), event["rate_hz"]) for event in events if event["type"] == "audio"]


def test_a_text_is_printed_in_chinese_and_its_sound_is_kept(tmp_path):
    said = run("translator", TEXT, cwd=tmp_path).stdout
    lines = [line.split(maxsplit=3)[2:] for line in said.splitlines()]
    chinese = "".join(words for stage, words in lines if stage == "chinese")
    assert "猫" in chinese
    assert "茶" in chinese
    assert [words for stage, words in lines if stage == "aloud"] == ["The cat sleeps on the sofa.", "I like tea."]
    again = heard(Audio.from_wav(tmp_path / "spoken.wav"))
    assert "cat sleeps on the sofa" in again
    assert "tea" in again


def test_the_sound_does_not_wait_for_the_translation(url):
    events = turn(url, user="ann", input=TEXT)
    stages = [event["stage"] for event in events[1:-1]]
    assert set(stages) == {"chinese", "hibari"}
    assert stages.index("hibari") < stages.index("chinese")
    assert "猫" in "".join(texts(events, "chinese"))
    assert len(sounds(events)) == 2


def test_a_request_may_enter_at_one_of_the_two(url):
    events = turn(url, user="bob", input="Where is the railway station?", entry="aloud")
    assert texts(events) == []
    assert "railway station" in heard(*sounds(events))
    assert events[-1]["reason"] == "done"


def test_a_question_is_translated_and_not_answered(url):
    (chinese,) = texts(turn(url, user="cid", input="Where is the railway station?"), "chinese")
    assert "哪里" in chinese
