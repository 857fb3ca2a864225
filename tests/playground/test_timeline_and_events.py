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
    tab.until("isPlaying")
    expect(tab.stop).to_be_enabled()
    tab.stop.click()
    tab.expect_state(turn, "interrupted")
    tab.until("isPlaying", False)
    assert 0 <= tab.figure("interrupt-to-silence") < 1
    assert tab.figure("first-text") <= tab.figure("first-sound")
    expect(tab.stop).to_be_disabled()
    tab.timeline.get_by_text("As a table").click()
    expect(tab.timeline.get_by_role("table")).to_contain_text(re.compile("interrupt", re.IGNORECASE))


def test_the_inspector_lists_every_event_filters_them_and_shows_one_as_json(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.answer(tab.ask("hello"))
    expect(tab.listed.filter(has_text="turn.started")).to_have_count(1)
    expect(tab.listed.filter(has_text="turn.ended")).to_have_count(1)
    everything = tab.listed.count()
    tab.events.get_by_role("combobox", name="Type").select_option("audio")
    expect(tab.listed).to_have_count(3)  # a tone for each word of "You said hello."
    tab.listed.first.click()
    chosen = json.loads(tab.events.locator("pre").inner_text())
    assert (chosen["type"], chosen["stage"], chosen["rate_hz"]) == ("audio", "tone", 24_000)
    assert len(json.dumps(chosen)) < 1000  # sound is abbreviated
    tab.events.get_by_role("combobox", name="Type").select_option(index=0)
    expect(tab.listed).to_have_count(everything)


def test_a_paused_inspector_stays_as_it_is(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.answer(tab.ask("hello"))
    ended = tab.listed.filter(has_text="turn.ended")
    expect(ended).to_have_count(1)
    tab.events.get_by_role("button", name="Pause").click()
    tab.answer(tab.ask("hello again"))
    expect(ended).to_have_count(1)
    tab.events.get_by_role("button", name="Go on").click()
    tab.answer(tab.ask("and again"))
    expect(ended).to_have_count(3)


def test_an_idle_page_asks_for_no_frames(visit, flows_url):
    tab = visit(flows_url).ready()
    assert tab.page.evaluate("observed.framesDuring(30)") == 0
    tab.answer(tab.ask("hello"))
    tab.rest()
    tab.until("isStill")
    assert tab.page.evaluate("observed.framesDuring(30)") == 0
