"""Speech into the microphone of a real browser: real models understand it and answer aloud."""

from __future__ import annotations

import re

import pytest
from hearing import understood, write_wav
from playwright.sync_api import expect
from speech import silence, spoken, words

pytestmark = pytest.mark.model

SPIDER = "How many legs does a spider have?"
FRANCE = "What is the capital of France?"
OCEAN = "Tell me about the ocean in five sentences."  # the answer takes most of a minute to say


@pytest.mark.parametrize("by", ["pointer", "Space"])
def test_what_is_said_while_the_button_is_held_is_understood_and_answered_aloud(visit, voice_url, microphone, by):
    write_wav(microphone, silence(1), spoken(SPIDER), silence(2))
    tab = visit(voice_url).ready()
    tab.speak(by)
    expect(tab.turns).to_have_count(1)
    turn = tab.turns.first
    answer = words(tab.answer(turn))
    assert words(tab.part(turn, "asked").inner_text()) == words(SPIDER)
    assert "eight" in answer
    assert understood(tab.played()) == answer
    assert 0 < tab.figure("first-text") <= tab.figure("first-sound")
    assert tab.figure("voice-to-voice") > 0


def test_a_recording_is_understood_and_answered_aloud(visit, voice_url, tmp_path):
    recording = tmp_path / "question.wav"
    write_wav(recording, spoken(FRANCE))
    tab = visit(voice_url).ready()
    tab.stage("moonshine").click()
    with tab.page.expect_file_chooser() as chooser:
        tab.ask_form.get_by_role("button", name="Choose a WAV").click()
    chooser.value.set_files(recording)
    turn = tab.turns.first
    answer = words(tab.answer(turn))
    assert words(tab.part(turn, "asked").inner_text()) == words(FRANCE)
    assert understood(tab.played()) == answer


def test_hands_free_speech_is_written_down_as_it_is_spoken_and_answered_aloud(visit, voice_url, microphone):
    write_wav(microphone, silence(1), spoken(FRANCE), silence(2))
    tab = visit(voice_url).ready()
    tab.hands_free.click()
    expect(tab.hands_free).to_have_attribute("aria-checked", "true")
    tab.until("hasSpoken")
    expect(tab.turns).to_have_count(1)
    turn = tab.turns.first
    expect(tab.part(turn, "asked")).to_have_text(re.compile("capital of France"))
    expect(tab.part(turn, "answer")).to_have_text(re.compile(r"Paris.*\.$"))
    assert understood(tab.played()) == words(tab.part(turn, "answer").inner_text())
    assert any("capital" in words(partial) for partial in tab.observed("partials"))
    assert tab.figure("voice-to-voice") > 0.5  # the pause that ends an utterance is within it
    assert tab.observed("microphonesOn") == 1
    tab.hands_free.click()
    expect(tab.hands_free).to_have_attribute("aria-checked", "false")
    tab.until("microphonesOn", 0)


def test_speech_during_the_reply_silences_it_and_is_answered(visit, voice_url, microphone):
    write_wav(microphone, silence(1), spoken(OCEAN), silence(60))
    tab = visit(voice_url).ready()
    tab.hands_free.click()
    tab.until("isPlaying")
    expect(tab.turns).to_have_count(1)
    first = tab.turns.first
    expect(tab.part(first, "asked")).to_have_text(re.compile("ocean"))
    tab.until("hasPlayedSince", True, tab.observed("now") + 2000)
    tab.say(spoken(FRANCE))
    tab.expect_state(first, "interrupted")
    expect(tab.turns).to_have_count(2)
    asked = tab.observed("now")
    second = tab.turns.last
    expect(tab.part(second, "asked")).to_have_text(re.compile("capital of France"))
    expect(tab.part(second, "answer")).to_have_text(re.compile(r"Paris.*\.$"))
    heard = understood(tab.played(since=asked))
    answer = words(tab.part(second, "answer").inner_text())
    assert "ocean" in heard
    assert heard[-len(answer) :] == answer
    assert len(heard) < len(words(tab.part(first, "answer").inner_text()))
