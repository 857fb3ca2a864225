"""What the playground does when a page or a server goes away in the middle of a turn, and when a token is needed."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from playwright.sync_api import expect
from served import TOKEN

REFUSED = r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE"


def test_after_a_reload_in_mid_turn_the_next_question_is_answered_and_the_turn_is_gone(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("endless", "endless")
    turn = tab.ask("count")
    expect(tab.part(turn, "answer")).to_contain_text("2")
    tab.page.reload()
    with urllib.request.urlopen(f"{flows_url}/endless/idle", timeout=10) as reply:
        assert json.load(reply) == {"counting": 0}
    tab.ready()
    tab.choose_flow("chat", "fake_llm")
    assert tab.answer(tab.ask("hello")) == "You said hello."
    tab.until("isPlaying")


@pytest.mark.model
def test_after_a_reload_in_mid_reply_a_real_model_answers_the_next_question(visit, voice_url):
    tab = visit(voice_url).ready()
    tab.ask("Count from one to fifty, slowly, in words.")
    tab.until("isPlaying")
    tab.page.reload()
    tab.ready()
    assert "Paris" in tab.answer(tab.ask("What is the capital of France?"))
    tab.until("isPlaying")


def test_a_server_that_dies_and_comes_back_is_found_again(visit, flows_server):
    tab = visit(flows_server.url).ready()
    tab.expect_complaints(REFUSED)
    tab.choose_flow("endless", "endless")
    cut = tab.ask("count")
    expect(tab.part(cut, "answer")).to_contain_text("2")
    flows_server.kill()
    expect(tab.status).to_have_text(re.compile(r"^\s*Reconnecting"))
    tab.expect_state(cut, re.compile("^(error|interrupted)$"))
    tab.until("isPlaying", False)
    flows_server.start()
    tab.ready()
    tab.choose_flow("chat", "fake_llm")
    assert tab.answer(tab.ask("hello")) == "You said hello."
    tab.expect_state(cut, re.compile("^(error|interrupted)$"))


def test_an_idle_page_finds_a_restarted_server_again(visit, flows_server):
    tab = visit(flows_server.url).ready()
    tab.expect_complaints(REFUSED)
    flows_server.stop()
    expect(tab.status).to_have_text(re.compile(r"^\s*Reconnecting"))
    flows_server.start()
    tab.ready()
    assert tab.answer(tab.ask("hello")) == "You said hello."


def test_a_server_that_does_not_answer_any_more_is_not_called_connected(visit, flows_server):
    tab = visit(flows_server.url).ready()
    tab.expect_complaints(REFUSED)  # it ends before the page does
    flows_server.hang()
    tab.page.evaluate("dispatchEvent(new Event('online'))")  # as a device's network is back after a while
    expect(tab.status).not_to_have_text(re.compile("Connected"))
    flows_server.go_on()
    tab.ready()
    assert tab.answer(tab.ask("hello")) == "You said hello."


@pytest.mark.parametrize("how", ["refused", "too early"])
def test_stop_ends_the_turn_even_if_the_request_to_end_it_does_not(visit, flows_url, how):
    tab = visit(flows_url).ready()
    tab.choose_flow("endless", "endless")
    if how == "refused":
        tab.expect_complaints("status of 429")
        tab.page.route("**/interrupt", lambda route: route.fulfill(status=429, json={"error": "TooManyRequests"}))
        turn = tab.ask("count")
        expect(tab.part(turn, "answer")).to_contain_text("2")
        tab.stop.click()
    else:
        tab.message.fill("count")
        tab.page.evaluate(
            """() => {
                document.querySelector("#ask").requestSubmit();
                document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
            }"""
        )
        turn = tab.turns.first
    tab.expect_state(turn, "interrupted")
    tab.rest()
    with urllib.request.urlopen(f"{flows_url}/endless/idle", timeout=10) as reply:
        assert json.load(reply) == {"counting": 0}


def test_a_server_with_tokens_is_used_after_the_token_has_been_typed(visit, guarded_url):
    tab = visit(guarded_url)
    tab.expect_complaints(r"status of 401|WebSocket connection to .* failed")
    expect(tab.token).to_be_focused()
    tab.token.fill("a-token-that-is-not-right")
    tab.token.press("Enter")
    expect(tab.token_dialog).to_contain_text("refused")
    expect(tab.token).to_have_value("")
    tab.token.fill(TOKEN)
    tab.token.press("Enter")
    tab.ready()
    expect(tab.token).to_be_hidden()
    assert tab.answer(tab.ask("hello")) == "You said hello."
    assert TOKEN not in tab.page.content()
    assert TOKEN not in tab.page.url
