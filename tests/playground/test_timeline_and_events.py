"""What the playground tells of a turn: a lane per stage, the figures that people quote, and every event."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect


@pytest.mark.model
def test_the_timeline_of_a_real_turn_has_every_stage_and_plausible_figures(visit, voice_url):
    tab = visit(voice_url).ready()
    turn = tab.ask("How many legs does a spider have?")
    tab.answer(turn)
    tab.until("isPlaying")
    first_text, first_sound = tab.figure("first-text"), tab.figure("first-sound")
    assert 0 < first_text <= first_sound < 30
    expect(tab.timeline.locator("[data-figure=voice-to-voice]")).to_have_text("–")
    expect(tab.timeline.locator("[data-figure=interrupt-to-silence]")).to_have_text("–")
    tab.timeline.get_by_text("As a table").click()
    table = tab.timeline.get_by_role("table")
    for stage in ("local_llm", "sentences", "hibari"):
        expect(table.get_by_role("row", name=re.compile(rf"\b{stage}\b")).first).to_be_visible()
    expect(table).to_contain_text(re.compile("first output", re.IGNORECASE))


def test_the_figures_and_lanes_of_a_stopped_turn_tell_of_the_interruption(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("endless", "endless")
    turn = tab.ask("count")
    expect(tab.part(turn, "answer")).to_contain_text("6")
    expect(tab.stop).to_be_enabled()
    pressed = tab.observed("now")
    tab.stop.click()
    tab.expect_state(turn, "interrupted")
    tab.until("isPlaying", False)
    silent = tab.observed("lastPlayed")
    assert 0 <= tab.figure("interrupt-to-silence") <= max(0, silent - pressed) / 1000 + 0.1
    assert 0.2 <= tab.figure("first-text") <= tab.figure("first-sound")  # it begins to count after 0.2 s
    expect(tab.stop).to_be_disabled()
    tab.timeline.get_by_text("As a table").click()
    table = tab.timeline.get_by_role("table")
    expect(table).to_contain_text(re.compile("interrupt", re.IGNORECASE))

    def worked(stage: str) -> float:
        row = table.get_by_role("row").filter(has=tab.page.get_by_role("rowheader", name=stage))
        return float(row.get_by_role("cell").nth(2).inner_text())

    assert worked("tone") < worked("endless") / 2  # between two numbers it waits
    tab.choose_flow("chat", "fake_llm")
    tab.answer(tab.ask("hello"))
    expect(tab.timeline.locator("[data-figure=interrupt-to-silence]")).to_have_text("–")  # it cut nothing off


def test_the_table_is_seen_to_its_last_row(visit, flows_url):
    tab = visit(flows_url, viewport={"width": 1280, "height": 720}).ready()
    tab.choose_flow("live", "fake_vad")
    tab.timeline.get_by_text("As a table").click()
    last = tab.timeline.get_by_role("row").last
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport(ratio=1)
    assert last.evaluate(
        """row => {
            const { x, y, width, height } = row.getBoundingClientRect();
            return row.contains(document.elementFromPoint(x + width / 2, y + height / 2));
        }"""
    )


def test_an_answer_of_thousands_of_pieces_is_shown_as_it_comes(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("flood", "flood")
    turn = tab.ask("10000")
    expect(turn).to_have_attribute("data-state", "done", timeout=30_000)  # laid out at each piece it takes minutes
    assert "word-9999" in tab.part(turn, "answer").inner_text()


def test_the_inspector_lists_every_event_filters_them_and_shows_one_as_json(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.answer(tab.ask("hello"))
    expect(tab.listed.filter(has_text="turn.started")).to_have_count(1)
    expect(tab.listed.filter(has_text="turn.ended")).to_have_count(1)
    expect(tab.listed.filter(has_text="stage")).to_have_count(0)
    tab.events.get_by_role("combobox", name="Type").select_option("all")
    expect(tab.listed.filter(has_text="stage").first).to_be_attached()
    everything = tab.listed.count()
    tab.events.get_by_role("combobox", name="Type").select_option("audio")
    expect(tab.listed).to_have_count(3)  # a tone for each word of "You said hello."
    tab.listed.first.click()
    chosen = json.loads(tab.events.locator("pre").inner_text())
    assert (chosen["type"], chosen["stage"], chosen["rate_hz"]) == ("audio", "tone", 24_000)
    assert len(json.dumps(chosen)) < 1000  # sound is abbreviated
    tab.events.get_by_role("combobox", name="Type").select_option("all")
    expect(tab.listed).to_have_count(everything)


def test_a_paused_inspector_stays_as_it_is(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.answer(tab.ask("hello"))
    ended = tab.listed.filter(has_text="turn.ended")
    expect(ended).to_have_count(1)
    tab.events.get_by_role("button", name="Pause").click()
    tab.answer(tab.ask("hello again"))
    tab.choose_flow("flood", "flood")
    tab.answer(tab.ask("1500"))  # more than the inspector keeps
    expect(tab.events).to_contain_text("since Pause")
    assert ended.count() == 1
    tab.events.get_by_role("button", name="Go on").click()
    expect(tab.listed.last).to_contain_text("done")
    expect(tab.listed.filter(has_text="word-1499")).to_have_count(1)


def test_the_list_of_events_shows_the_newest_until_its_reader_scrolls_away(visit, flows_url):
    tab = visit(flows_url, viewport={"width": 1280, "height": 900}).ready()
    tab.choose_flow("flood", "flood")
    tab.answer(tab.ask("30"))
    newest = tab.events.get_by_role("button", name="Newest")
    expect(tab.listed.last).to_be_in_viewport()
    tab.timeline.get_by_text("As a table").click()  # which leaves less room for the list
    tab.page.set_viewport_size({"width": 1280, "height": 700})
    tab.answer(tab.ask("30"))
    expect(newest).to_be_hidden()
    tab.events.scroll_into_view_if_needed()
    expect(tab.listed.last).to_be_in_viewport()
    tab.listed.first.scroll_into_view_if_needed()
    expect(newest).to_be_visible()
    tab.answer(tab.ask("30"))
    expect(tab.listed.first).to_be_in_viewport()
    newest.click()
    expect(newest).to_be_hidden()
    expect(tab.listed.last).to_be_in_viewport()


def test_an_idle_page_asks_for_no_frames(visit, flows_url):
    tab = visit(flows_url).ready()
    assert tab.page.evaluate("observed.framesDuring(30)") == 0
    tab.answer(tab.ask("hello"))
    tab.rest()
    tab.until("isStill")
    assert tab.page.evaluate("observed.framesDuring(30)") == 0
