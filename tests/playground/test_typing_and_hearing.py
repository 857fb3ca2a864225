"""A question is typed, and what the page plays is heard again: with real models, in a real browser."""

from __future__ import annotations

import pytest
from hearing import understood
from speech import words

pytestmark = pytest.mark.model

SPIDER = "How many legs does a spider have?"
# Whatever the model has said before, it knows this one.
FRANCE = "What is the capital of France?"
COUNT = "Count from one to fifty, slowly, in words."  # an answer of more than a minute


def test_a_typed_question_is_answered_in_text_and_sound(visit, voice_url):
    tab = visit(voice_url).ready()
    turn = tab.ask(SPIDER)
    answer = words(tab.answer(turn))
    assert tab.part(turn, "asked").inner_text() == SPIDER
    assert "eight" in answer
    assert understood(tab.played()) == answer


def test_an_answer_can_be_played_again(visit, voice_url):
    tab = visit(voice_url).ready()
    turn = tab.ask(SPIDER)
    answer = words(tab.answer(turn))
    tab.played()
    turn.get_by_role("button", name="Play again").click()
    tab.until("isPlaying")
    assert understood(tab.played()) == 2 * answer


def test_stop_silences_a_long_answer_and_the_next_question_is_answered(visit, voice_url):
    tab = visit(voice_url).ready()
    turn = tab.ask(COUNT)
    tab.until("isPlaying")
    pressed = tab.observed("now")
    tab.stop.click()
    tab.until("isPlaying", False)
    assert tab.observed("lastPlayed") - pressed < 1000
    tab.expect_state(turn, "interrupted")
    assert 0 <= tab.figure("interrupt-to-silence") < 1
    assert "paris" in words(tab.answer(tab.ask(FRANCE)))
    assert "paris" in understood(tab.played(since=pressed + 1000))


def test_a_new_question_ends_the_answer_that_is_being_read_out(visit, voice_url):
    tab = visit(voice_url).ready()
    first = tab.ask(COUNT)
    tab.until("isPlaying")
    second = tab.ask(FRANCE)
    asked = tab.observed("now")
    tab.expect_state(first, "interrupted")
    answer = words(tab.answer(second))
    assert "paris" in answer
    assert understood(tab.played(since=asked))[-len(answer) :] == answer
