"""examples/custom_route.py: what its route says changes what the flow does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import answer, example, refused, serving, texts, turn

from ezflow.testing import check_module

program = example("custom_route")


@pytest.fixture
def url() -> Iterator[str]:
    with serving("custom_route") as url:
        yield url


@pytest.mark.model
def test_a_word_is_said_as_the_route_was_told(url):
    assert answer(f"{url}/pronunciations") == {"GPU": "gee pee you"}
    assert texts(turn(url, user="ann", input="SQL on a GPU.")) == ["SQL on a gee pee you."]
    assert answer(f"{url}/pronunciations", {"SQL": "sequel"}) == {"GPU": "gee pee you", "SQL": "sequel"}
    events = turn(url, user="ann", input="SQL on a GPU.")
    assert texts(events) == ["sequel on a gee pee you."]
    assert [event["stage"] for event in events if event["type"] == "audio"] == ["hibari"]


@pytest.mark.model
def test_what_does_not_fit_is_refused_with_its_place_and_changes_nothing(url):
    for body, place in [
        ({"two words": "said"}, "two words"),
        ({"SQL": 5}, "SQL"),
        ({"SQL": "sequel", "API": ""}, "API"),
        ({"SQL": "x" * 201}, "SQL"),
        ({}, "body"),
        (["SQL"], "body"),
    ]:
        status, told = refused(f"{url}/pronunciations", body)
        assert status == 422
        assert told["detail"].startswith(f"{place}: ")
    assert answer(f"{url}/pronunciations") == {"GPU": "gee pee you"}


def test_the_module_keeps_the_rules_of_modules():
    check_module(program.Pronounced(), ["A GPU.", ""])
