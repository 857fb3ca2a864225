"""The playground without a mouse, on a phone, in the dark, and as axe-core judges it."""

from __future__ import annotations

from typing import Any

import pytest
from playground_page import Playground
from playwright.sync_api import expect

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
LONG = "Donaudampfschifffahrtsgesellschaftskapitaenswitwenrentenauszahlungsstellenleiter" * 3


def findings(tab: Playground, axe: str) -> list[tuple[str, str, list[str]]]:
    """What is serious or worse: the rule, what it says, and where."""
    tab.page.evaluate(axe)
    result: dict[str, Any] = tab.page.evaluate("axe.run()")
    return [
        (found["id"], found["help"], [f"{node['target']} {node['failureSummary']}" for node in found["nodes"]])
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious_before_during_or_after_a_turn(visit, flows_url, axe, theme, screen):
    tab = visit(flows_url, color_scheme=theme, **screen).ready()
    assert findings(tab, axe) == []
    tab.choose_flow("endless", "endless")
    turn = tab.ask("count")
    expect(tab.part(turn, "answer")).to_contain_text("2")
    assert findings(tab, axe) == []
    tab.stop.click()
    tab.expect_state(turn, "interrupted")
    tab.choose_flow("failing", "fake_llm")
    tab.expect_state(tab.ask("light"), "error")
    tab.choose_flow("reciting", "recite")
    tab.answer(tab.ask("a poem"))
    tab.timeline.get_by_text("As a table").click()
    tab.unfold(tab.events, "Events")
    tab.listed.first.click()
    tab.unfold(tab.options, "Options")
    assert findings(tab, axe) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_button_changes_the_theme_and_a_reload_keeps_it(visit, flows_url, theme):
    tab = visit(flows_url, color_scheme=theme).ready()

    def is_dark() -> bool:
        red, green, blue = tab.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"
        )
        return bool(red + green + blue < 3 * 128)

    assert is_dark() == (theme == "dark")
    tab.theme.click()
    assert is_dark() == (theme != "dark")
    tab.page.reload()
    tab.ready()
    assert is_dark() == (theme != "dark")


def test_everything_is_reached_by_the_tab_key(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.answer(tab.ask("hello"))
    tab.rest()
    tab.page.evaluate("document.activeElement.blur()")
    names = tab.observed("controls")
    reached = set()
    for _ in range(len(names) + 1):
        tab.page.keyboard.press("Tab")
        reached.add(tab.observed("focused"))
    assert [name for place, name in enumerate(names) if place not in reached] == []
    assert {"Message", "Send", "Hold to talk", "Hands-free", "Theme"} <= set(names)


def test_enter_sends_and_with_shift_it_begins_a_line(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.message.press_sequentially("one")
    tab.message.press("Shift+Enter")
    tab.message.press_sequentially("two")
    expect(tab.message).to_have_value("one\ntwo")
    expect(tab.turns).to_have_count(0)
    tab.message.press("Enter")
    expect(tab.message).to_have_value("")
    assert tab.answer(tab.turns.first) == "You said one\ntwo."


def test_escape_stops_the_answer(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.choose_flow("endless", "endless")
    turn = tab.ask("count")
    tab.until("isPlaying")
    tab.page.keyboard.press("Escape")
    tab.expect_state(turn, "interrupted")
    tab.until("isPlaying", False)


def test_play_again_pressed_twice_plays_from_the_beginning(visit, flows_url):
    tab = visit(flows_url).ready()
    turn = tab.ask("a rather long question, that the answer may take some seconds")
    tab.answer(turn)
    tab.rest()
    again = turn.get_by_role("button", name="Play again")
    again.click()
    tab.until("isPlaying")
    again.click()
    tab.until("hasPlayedSince", True, tab.observed("now") + 500)


def test_a_stage_is_chosen_by_the_keyboard(visit, flows_url):
    tab = visit(flows_url).ready()
    tab.stage("tone").focus()
    tab.page.keyboard.press("Enter")
    expect(tab.stage("tone")).to_have_attribute("aria-pressed", "true")


def test_nothing_needs_scrolling_sideways_on_a_phone(visit, flows_url):
    tab = visit(flows_url, **PHONE).ready()
    assert tab.observed("overhang") == 0
    for flow, first in (("chat", "fake_llm"), ("failing", "fake_llm"), ("reciting", "recite")):
        tab.choose_flow(flow, first)
        turn = tab.ask(LONG)
        expect(turn).not_to_have_attribute("data-state", "running")
        tab.timeline.get_by_text("As a table").click()
        assert tab.observed("overhang") == 0
    tab.unfold(tab.events, "Events")
    room = tab.events.get_by_role("listbox").bounding_box()
    assert room is not None
    assert room["height"] < PHONE["viewport"]["height"]  # it scrolls by itself
    for control in (tab.message, tab.send, tab.hold, tab.hands_free, tab.stop):
        control.scroll_into_view_if_needed()
        expect(control).to_be_in_viewport(ratio=1)
