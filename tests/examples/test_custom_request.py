"""examples/custom_request.py, as EZPipe's clients use it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from programs import EXAMPLES, answer, asked, listening, refused, texts, turn


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening([sys.executable, str(EXAMPLES / "custom_request.py"), "0"]) as url:
        yield url


def welcomed(url: str, **body: Any) -> str:
    """What the guest is told in the end."""
    with asked(f"{url}/input", {"user": "ann", "Input": "Ann", **body}) as response:
        told = [json.loads(json.loads(line)["chunk"]) for line in response]
    assert told[-1]["Is_End"]
    return str(told[-1]["response"])


def test_the_fields_of_the_body_reach_the_stage(url):
    assert welcomed(url, language="zh", nights=3) == "欢迎，Ann！预订晚数：3。"
    assert welcomed(url, language="de") == "Willkommen, Ann! Gebuchte Nächte: 1."


def test_a_client_that_knows_nothing_of_them_gets_the_defaults(url):
    assert welcomed(url) == "Welcome, Ann! Nights booked: 1."
    assert welcomed(url, LLM={"streamly": True}, temperature=1) == "Welcome, Ann! Nights booked: 1."


@pytest.mark.parametrize(
    ("field", "value"), [("language", "fr"), ("nights", 0), ("nights", "3"), ("nights", True), ("language", None)]
)
def test_what_does_not_fit_is_refused_with_its_place(url, field, value):
    status, body = refused(f"{url}/input", {"user": "ann", "Input": "Ann", field: value})
    assert status == 422
    assert field in body["detail"]


def test_the_schema_describes_the_fields(url):
    schema = answer(f"{url}/schema")
    assert schema["title"] == "Arrival"
    assert schema["properties"]["language"]["enum"] == ["de", "en", "zh"]
    assert schema["properties"]["nights"]["default"] == 1
    assert schema["required"] == ["user", "Input"]


def test_ezflows_own_protocol_takes_them_as_options(url):
    events = turn(url, user="bob", input="Bob", options={"reception": {"language": "de", "nights": 2}})
    assert texts(events) == ["Willkommen, Bob! Gebuchte Nächte: 2."]
