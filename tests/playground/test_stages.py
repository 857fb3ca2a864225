"""The flow as the playground shows it: its stages, where to enter it, their options, and what fails in them."""

from __future__ import annotations

import re

import pytest
from hearing import understood
from playwright.sync_api import expect
from speech import words


def test_each_stage_is_shown_with_its_types_and_one_is_the_entry(visit, flows_url):
    tab = visit(flows_url).ready()
    expect(tab.stages).to_have_count(2)
    assert re.match(r"fake_llm\b.*\bstr\b.*\bstr\b", tab.stages.nth(0).inner_text(), re.DOTALL)
    assert re.match(r"tone\b.*\bstr\b.*\bAudio\b", tab.stages.nth(1).inner_text(), re.DOTALL)
    expect(tab.stage("fake_llm")).to_have_attribute("aria-pressed", "true")
    expect(tab.stage("tone")).to_have_attribute("aria-pressed", "false")


def test_what_is_typed_enters_at_the_stage_that_was_clicked(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.stage("tone").click()
    expect(tab.stage("tone")).to_have_attribute("aria-pressed", "true")
    expect(tab.stage("fake_llm")).to_have_attribute("aria-pressed", "false")
    turn = tab.ask("hm")
    tab.expect_state(turn, "done")
    expect(tab.part(turn, "answer")).to_be_hidden()
    assert tab.played().size > 0


@pytest.mark.model
def test_a_text_given_to_the_last_stages_is_said_as_it_is(visit, voice_url):
    tab = visit(voice_url).ready()
    tab.stage("sentences").click()
    turn = tab.ask("A spider has eight legs.")
    tab.expect_state(turn, "done")
    expect(tab.part(turn, "answer")).to_be_hidden()
    assert understood(tab.played()) == words("A spider has eight legs.")


def test_a_stage_that_takes_json_is_given_what_was_typed_as_json(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("ordering", "waiter")
    assert tab.answer(tab.ask('{"dish": "soup", "plates": 2}')) == "2 plates of soup"


def test_json_that_does_not_fit_is_told_and_can_be_mended(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.expect_complaints("status of 4")
    tab.choose_flow("ordering", "waiter")
    turn = tab.ask('{"dish": "soup", "plates": "many"}')
    tab.expect_state(turn, "error")
    expect(turn.get_by_role("alert")).to_contain_text("plates")
    assert tab.answer(tab.ask('{"dish": "soup", "plates": 2}')) == "2 plates of soup"


def test_options_that_differ_from_the_defaults_reach_the_stage(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("reciting", "recite")
    assert tab.answer(tab.ask("a poem")) == "a poem, 1 times, slow, under its breath, ending with nothing"
    tab.options.get_by_role("spinbutton", name="times").fill("3")
    tab.options.get_by_role("combobox", name="tempo").select_option(label="fast")
    tab.options.get_by_role("combobox", name="aloud").select_option(label="yes")
    tab.options.get_by_role("textbox", name="ending").fill("a bow")
    assert tab.answer(tab.ask("a poem")) == "a poem, 3 times, fast, aloud, ending with a bow"
    tab.options.get_by_role("button", name="Reset").first.click()
    assert tab.answer(tab.ask("a poem")) == "a poem, 1 times, slow, under its breath, ending with nothing"


def test_an_option_out_of_range_is_refused_where_it_was_sent(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.expect_complaints("status of 4")
    tab.choose_flow("reciting", "recite")
    tab.options.get_by_role("spinbutton", name="times").fill("9")
    turn = tab.ask("a poem")
    tab.expect_state(turn, "error")
    expect(turn.get_by_role("alert")).to_contain_text("'times' must be <= 5")
    tab.options.get_by_role("spinbutton", name="times").fill("5")
    assert "5 times" in tab.answer(tab.ask("a poem"))


def test_an_option_says_its_default_and_its_bounds(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("reciting", "recite")
    times = tab.options.get_by_role("spinbutton", name="times")
    expect(times).to_have_attribute("placeholder", "1 (default)")
    expect(times).to_have_accessible_description("whole number, 1 to 5")
    expect(tab.options.get_by_role("combobox", name="tempo")).to_contain_text("slow (default)")
    expect(tab.options.get_by_role("textbox", name="ending")).to_have_attribute("placeholder", "none (default)")


def test_the_option_that_was_refused_is_marked_and_the_turn_is_listed_as_not_begun(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.expect_complaints("status of 4")
    tab.choose_flow("reciting", "recite")
    ending = tab.options.get_by_role("textbox", name="ending")
    ending.fill("HURRAH")
    tab.expect_state(tab.ask("a poem"), "error")
    expect(ending).to_have_attribute("aria-invalid", "true")
    expect(ending).to_have_accessible_description(re.compile("must not be so loud"))
    expect(tab.timeline.get_by_role("combobox", name="Shown")).to_contain_text("not begun: a poem")
    ending.fill("hurrah")
    expect(ending).to_have_attribute("aria-invalid", "false")


def test_an_option_may_be_none_or_empty_or_json_and_is_not_sent_while_it_cannot_be_read(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("greeting", "greet")
    options = tab.options
    options.get_by_role("textbox", name="name").fill("Ann")
    options.get_by_role("textbox", name="name").fill("")
    options.get_by_role("button", name="title: None").click()
    gifts = options.get_by_role("textbox", name="gifts")
    gifts.fill('["a ro')
    tab.message.fill("hello")
    tab.message.press("Enter")
    expect(gifts).to_be_focused()
    expect(tab.ask_form).to_contain_text("not sent")
    expect(tab.message).to_have_value("hello")
    gifts.fill('["a rose"]')
    assert tab.answer(tab.ask("hello")) == "hello: None '' ['a rose']"
    for name in ("name", "title", "gifts"):
        options.get_by_role("button", name=f"{name}: Default").click()
    assert tab.answer(tab.ask("hello")) == "hello: 'dear' 'you' []"


def test_a_file_that_is_no_wav_is_not_sent(visit, flows_url, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("Buy some milk.")
    tab = visit(flows_url).ready()
    tab.choose_flow("hearing", "fake_asr")
    tab.stage("fake_asr").click()
    with tab.page.expect_file_chooser() as chooser:
        tab.ask_form.get_by_role("button", name="Choose a WAV").click()
    chooser.value.set_files(notes)
    expect(tab.ask_form).to_contain_text("notes.txt is not a WAV.")
    expect(tab.turns).to_have_count(0)


def test_an_error_is_shown_in_its_turn_with_the_name_of_its_stage(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("failing", "fake_llm")
    turn = tab.ask("light")
    tab.expect_state(turn, "error")
    alert = turn.locator("[data-part=error]")
    expect(alert).to_have_role("alert")
    expect(alert).to_contain_text("failing")
    expect(alert).to_contain_text("the lamp has run out of oil")
