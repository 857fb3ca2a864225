"""Hands-free and push-to-talk where they meet typing, Stop, and a server that goes away: on flows without models."""

from __future__ import annotations

import re

from playground_page import Playground
from playwright.sync_api import Locator, expect

REFUSED = r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to .* failed|status of 5"
# Types and sends, or for null presses Escape, in one task of the page: nothing of an answer can come in between.
SUBMIT = """texts => {
    for (const text of texts) {
        const message = document.querySelector("#message");
        if (text === null) document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        else { message.value = text; message.form.requestSubmit(); }
    }
}"""


def talk(tab: Playground) -> None:
    """Begin to talk hands-free. The fake voice detector hears nothing of the microphone: only what is typed counts."""
    tab.hands_free.click()
    expect(tab.ask_form.get_by_text("Listening")).to_be_visible()
    tab.stage("fake_llm").click()


def hold(tab: Playground) -> None:
    """Press the button, and keep it so until enough has been recorded."""
    tab.hold.hover()
    tab.page.mouse.down()
    expect(tab.ask_form.get_by_text("Speak now")).to_be_visible()
    tab.until("hasRecorded")


def expect_answer(tab: Playground, turn: Locator, asked: str) -> None:
    expect(tab.part(turn, "asked")).to_have_text(asked)
    assert tab.answer(turn) == f"You said {asked}."


def test_each_answer_stands_under_its_question_however_fast_they_follow(visit, flows_url):
    tab = visit(flows_url).ready()
    talk(tab)
    expect(tab.listed.filter(has_text="turn.started")).to_have_count(1)
    tab.page.evaluate(SUBMIT, ["first", "second"])
    expect_answer(tab, tab.turns.nth(1), "second")
    tab.expect_state(tab.turns.nth(0), "interrupted")
    expect(tab.part(tab.turns.nth(0), "answer")).to_be_hidden()
    tab.rest()


def test_a_question_stopped_before_its_answer_leaves_the_next_answer_to_the_next_question(visit, flows_url):
    tab = visit(flows_url).ready()
    talk(tab)
    tab.page.evaluate(SUBMIT, ["first", None])
    tab.expect_state(tab.turns.nth(0), "interrupted")
    expect_answer(tab, tab.ask("second"), "second")
    expect(tab.part(tab.turns.nth(0), "answer")).to_be_hidden()
    tab.rest()


def test_the_timeline_of_the_latest_answer_stays_until_there_is_another(visit, flows_url):
    tab = visit(flows_url).ready()
    talk(tab)
    drawing = tab.timeline.get_by_role("img")
    for words in ("hello", "bye"):
        tab.answer(tab.ask(words))
        expect(drawing).to_have_accessible_name(re.compile(rf"run \d: {words}\."))
    tab.rest()
    tab.until("isStill")
    assert tab.page.evaluate("observed.framesDuring(30)") == 0


def test_after_hands_free_has_ended_a_question_is_asked_although_the_last_is_being_answered(visit, flows_url):
    tab = visit(flows_url).ready()
    talk(tab)
    first = tab.ask("a question whose answer takes a while to be said")
    expect(tab.part(first, "answer")).to_contain_text("You")
    tab.hands_free.click()
    expect_answer(tab, tab.ask("hello"), "hello")
    expect(tab.page.get_by_text("This page has failed")).to_be_hidden()


def test_asking_again_ends_hands_free_and_asks(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("failing", "fake_llm")
    tab.expect_state(tab.ask("light"), "error")
    talk(tab)
    tab.turns.first.get_by_role("button", name="Ask again").click()
    expect(tab.hands_free).to_have_attribute("aria-checked", "false")
    expect(tab.turns).to_have_count(2)
    tab.expect_state(tab.turns.nth(1), "error")
    expect(tab.turns.nth(1).get_by_role("alert")).to_contain_text("the lamp has run out of oil")


def test_hands_free_says_that_the_server_was_shut_down_and_goes_on_when_it_is_back(visit, flows_server):
    tab = visit(flows_server.url).ready()
    tab.expect_complaints(REFUSED)
    talk(tab)
    tab.answer(tab.ask("hello"))
    flows_server.stop()
    expect(tab.ask_form).to_contain_text("The server was shut down. Hands-free goes on when it is back.")
    flows_server.start()
    tab.ready()
    expect(tab.ask_form).not_to_contain_text("The server was shut down")
    expect(tab.hands_free).to_have_attribute("aria-checked", "true")
    expect_answer(tab, tab.ask("hello again"), "hello again")


def test_what_is_said_while_the_connection_is_lost_is_sent_when_it_is_back(visit, flows_server):
    tab = visit(flows_server.url).ready()
    tab.expect_complaints(REFUSED)
    tab.choose_flow("half-heard", "half_heard")
    hold(tab)
    flows_server.kill()
    expect(tab.status).to_have_text(re.compile("Reconnecting"))
    tab.page.mouse.up()
    expect(tab.ask_form).to_contain_text("What you said is sent as soon as the server is back.")
    flows_server.start()
    expect(tab.part(tab.turns.first, "partial")).to_have_text("only the beg")


def test_words_that_were_understood_stay_when_the_recording_is_interrupted(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("half-heard", "half_heard")
    hold(tab)
    tab.page.mouse.up()
    turn = tab.turns.first
    expect(tab.part(turn, "partial")).to_have_text("only the beg")
    tab.stop.click()
    tab.expect_state(turn, "interrupted")
    expect(tab.part(turn, "partial")).to_have_text("only the beg")


def test_hands_free_can_be_used_after_a_recording_was_thrown_away(visit, flows_url):
    tab = visit(flows_url).ready()
    hold(tab)
    expect(tab.hands_free).to_be_disabled()
    tab.page.keyboard.press("Escape")
    expect(tab.hands_free).to_be_enabled()
    tab.page.mouse.up()
    expect(tab.turns).to_have_count(0)
