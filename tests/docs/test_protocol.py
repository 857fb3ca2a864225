"""docs/protocol.md is the protocol: every event, frame, field and closing code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs

from ezflow.events import OWN_TYPES
from ezflow.server.describe import events_schema, flow_description
from ezflow.server.frames import FRAMES, read_frame
from ezflow.server.turns import TurnRequest
from ezflow.service import Limits, open_flows
from ezflow.testing import FakeLLM

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def part(title: str) -> str:
    return re.split(r"\n##+ ", PAGE.partition(f"# {title}\n")[2])[0]


def rows(text: str) -> dict[str, str]:
    """The rows of a part's tables by what their first cells name, each with the rest of the row."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            first, rest = re.split(r"(?<!\\)\|", line.strip("| "), maxsplit=1)
            found |= dict.fromkeys(re.findall(r"`([a-z_.]+)`", first), rest)
    return found


def examples(text: str) -> list[dict[str, object]]:
    return [
        json.loads(line) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]


def test_the_request_has_these_fields():
    assert set(rows(part("A turn over HTTP"))) == {field.name for field in attrs.fields(TurnRequest)}


def test_each_event_has_its_line_and_its_example():
    events = part("Events")
    assert set(rows(events)) - {"progress"} == OWN_TYPES - {"ready", "pong"}
    assert {example["type"] for example in examples(events)} == set(rows(events))


async def test_each_example_of_an_event_fits_the_schema_and_each_field_is_told():
    async with open_flows({"": FakeLLM()}, Limits()) as services:
        schema = events_schema(services[""])
    shapes = {shape["properties"]["type"].get("const"): shape for shape in schema["oneOf"]}
    told, common = rows(part("Events")), {"type", "turn", "seq", "t", "stage", "run"}
    for example in examples(part("Events")):
        shape = shapes.get(example["type"], shapes[None])
        assert set(shape["required"]) - {"run"} <= set(example) <= set(shape["properties"])
    for kind, shape in shapes.items():
        for field in set(shape["properties"]) - common:
            assert f"`{field}`" in told[kind or "progress"], (kind, field)
    for state in shapes["stage"]["properties"]["state"]["enum"]:
        assert state in rows(part("The timeline"))


def test_each_frame_of_a_client_has_its_line_and_an_example_that_is_read():
    socket = part("A WebSocket")
    told = rows(socket)
    assert set(FRAMES) <= set(told)
    for kind, cls in FRAMES.items():
        for field in attrs.fields(cls):
            assert f"`{field.name}`" in told[kind], (kind, field.name)
    sent = [example for example in examples(socket) if example["type"] != "ready"]
    assert {type(read_frame(json.dumps(example))) for example in sent} == set(FRAMES.values())


async def test_the_description_of_a_flow_has_these_fields():
    async with open_flows({"": FakeLLM()}, Limits()) as services:
        flow = flow_description(services[""], "", [""])
    told = rows(part("What is there"))
    assert set(told) == set(flow)
    assert set(re.findall(r"`(\w+)`", told["stages"])) >= set(flow["stages"][0])
    (ready,) = [example for example in examples(part("A WebSocket")) if example["type"] == "ready"]
    assert set(ready["flow"]) == set(flow)


def test_the_closing_codes_are_those_of_the_bad_inputs():
    closing = (Path(__file__).parents[2] / "docs" / "bad-inputs.md").read_text(encoding="utf-8")
    for code in set(re.findall(r"\| closed (\d+) \|", closing)):
        assert code in part("A WebSocket")
