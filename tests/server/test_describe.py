"""What the server says of itself."""

from __future__ import annotations

import attrs
import pytest

from ezflow import EzflowError, FlowError, Latest, Module, Turn, module
from ezflow.server.config import Settings
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD


@attrs.frozen
class LLMOptions:
    temperature: float = 0.7
    stop: tuple[str, ...] = ()


@module(options=LLMOptions, key="LLM")
class Tuned(Module[str, str]):
    """Shows its temperature."""

    async def process(self, text: str, turn: Turn) -> str:
        return f"{text} at {turn.options[LLMOptions].temperature}"


@attrs.frozen
class BoundedOptions:
    speed: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.5), attrs.validators.lt(2.0)])
    top_k: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))


@module(options=BoundedOptions)
class Bounded(Module[str, str]):
    """Has options with bounds."""

    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class Counted(Module[str | int, int]):
    """Gives the length of a text, and numbers as they are."""

    async def process(self, item: str | int, turn: Turn) -> int:
        return item if isinstance(item, int) else len(item)


async def test_flow_lists_stages_and_edges_and_draws_them(serving):
    async with serving(FakeASR() >> FakeLLM() >> FakeTTS()) as server:
        status, flow = await server.json("GET", "/flow")
    assert status == 200
    assert [(stage["index"], stage["name"], stage["in"], stage["out"]) for stage in flow["stages"]] == [
        (0, "fake_asr", "Audio | Utterance", "str"),
        (1, "fake_llm", "str", "str"),
        (2, "fake_tts", "str", "Audio"),
    ]
    assert flow["edges"] == [
        {"from": "fake_asr", "to": "fake_llm", "type": "str"},
        {"from": "fake_llm", "to": "fake_tts", "type": "str"},
    ]
    assert flow["mermaid"].startswith("flowchart LR")


async def test_schema_follows_the_stages_options(serving):
    async with serving(Tuned()) as server:
        _, schema = await server.json("GET", "/schema?of=turns")
        assert (await server.json("GET", "/schema?of=everything"))[0] == 422
        assert schema["required"] == ["user", "input"]
        assert schema["properties"]["input"] == {"type": "string"}
        reference = schema["properties"]["options"]["properties"]["LLM"]["$ref"]
        options = schema["$defs"][reference.rpartition("/")[2]]
        assert options["properties"]["temperature"] == {"type": "number", "default": 0.7}


async def test_the_schema_tells_the_bounds_of_an_option(serving):
    async with serving(Bounded()) as server:
        _, schema = await server.json("GET", "/schema?of=turns")
        status, refused = await server.json(
            "POST", "/turns", {"user": "ann", "input": "hi", "options": {"bounded": {"speed": 3}}}
        )
    properties = schema["$defs"]["BoundedOptions"]["properties"]
    assert properties["speed"] == {"type": "number", "default": 1.0, "minimum": 0.5, "exclusiveMaximum": 2.0}
    assert properties["top_k"]["minimum"] == 1
    assert (status, refused["path"]) == (422, "options.bounded.speed")


async def test_the_events_are_described(serving):
    async with serving(FakeLLM().shown() >> FakeTTS()) as server:
        status, schema = await server.json("GET", "/schema?of=events")
        events = await server.turn(user="ann", input="hi")
    assert status == 200
    shapes = {shape["properties"]["type"].get("const"): shape for shape in schema["oneOf"]}
    assert {event["type"] for event in events} == {"turn.started", "text", "audio", "turn.ended"}
    for event in events:
        shape = shapes[event["type"]]
        assert set(shape["required"]) <= set(event) <= set(shape["properties"])


async def test_options_reach_their_stage_and_a_bad_one_is_refused_with_its_path(serving):
    async with serving(Tuned()) as server:
        events = await server.turn(user="ann", input="hot", options={"LLM": {"temperature": 2}})
        assert events[1]["text"] == "hot at 2.0"
        body = {"user": "ann", "input": "hot", "options": {"LLM": {"temperature": "2"}}}
        status, answer = await server.json("POST", "/turns", body)
    assert (status, answer["path"]) == (422, "options.LLM.temperature")


async def test_health_answers(serving):
    async with serving(Tuned()) as server:
        assert await server.json("GET", "/health/live") == (200, {"status": "live"})
        assert await server.json("GET", "/health/ready") == (200, {"status": "ready", "stages": ["tuned"]})


async def test_a_faulty_flow_is_not_served(serving):
    with pytest.RaisesGroup(FlowError):
        async with serving(FakeTTS() >> FakeTTS()):
            pass


def test_a_public_host_must_be_asked_for():
    with pytest.raises(EzflowError, match="insecure"):
        Settings(host="0.0.0.0")
    assert Settings(host="0.0.0.0", insecure=True).bind == "0.0.0.0:3421"
    assert Settings(host="::1").bind == "[::1]:3421"


async def test_flow_says_which_flow_it_is_and_what_its_stages_take(serving):
    voice = FakeASR() >> FakeLLM() >> Counted()
    async with serving({"voice": voice, "live": FakeVAD() >> Latest(voice)}) as server:
        _, first = await server.json("GET", "/flow")
        _, live = await server.json("GET", "/live/flow")
    assert (first["name"], first["flows"], first["live"]) == ("voice", ["voice", "live"], False)
    assert (live["name"], live["flows"], live["live"]) == ("live", ["voice", "live"], True)
    assert [stage["takes"] for stage in live["stages"]] == ["audio", "audio", "text", "json"]
