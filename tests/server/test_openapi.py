"""`/openapi.json` and `/docs`: all that a server takes and answers, said to programs and to people."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import attrs
import openapi_spec_validator
import pytest
import trio
from described import TOKEN, WORLDS
from jsonschema import Draft202012Validator

from ezflow import Audio, Module, Turn, module
from ezflow.server.app import create_app
from ezflow.server.config import Settings
from ezflow.server.frames import FRAMES
from ezflow.service import open_flows
from ezflow.testing import FakeLLM

BEARER = {"Authorization": f"Bearer {TOKEN}"}
MARKUP = "<script>alert('no')</script>"


@attrs.frozen
class Event:
    loud: bool = False


@attrs.frozen
class TurnRequest:
    event: Event = Event()


def world(name: str) -> tuple[Any, dict[str, Any]]:
    """A world's flows and settings."""
    settings = dict(WORLDS[name])
    return settings.pop("flows"), settings


async def described(server: Any) -> dict[str, Any]:
    async with server.request("GET", "/openapi.json", **BEARER) as response:
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        document: dict[str, Any] = json.loads(await response.read())
        return document


async def read(server: Any, path: str = "/docs", **headers: str) -> tuple[int, str]:
    async with server.request("GET", path, **headers) as response:
        return response.status, (await response.read()).decode()


@pytest.mark.parametrize("name", WORLDS)
async def test_it_is_an_openapi_document(serving, name):
    flows, settings = world(name)
    async with serving(flows, **settings) as server:
        document = await described(server)
    assert document["openapi"] == "3.1.0"
    openapi_spec_validator.validate(document)
    names = [made["operationId"] for item in document["paths"].values() for made in item.values()]
    assert len(names) == len(set(names))
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", WORLDS)
async def test_it_holds_every_route_and_no_other(serving, name):
    flows, settings = world(name)
    made = Settings(**settings)
    named = flows if isinstance(flows, dict) else {"": flows}
    async with open_flows(named, made) as services, trio.open_nursery() as nursery:
        rules = list(create_app(services, made, trio.Event(), nursery).url_map.iter_rules())
    async with serving(flows, **settings) as server:
        document = await described(server)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in rules
        if not rule.websocket
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert {rule.rule for rule in rules if rule.websocket} == set(document["x-websockets"])


@pytest.mark.parametrize("name", WORLDS)
async def test_each_example_of_a_body_is_taken_and_fits_its_schema(serving, name):
    flows, settings = world(name)
    count = 0
    async with serving(flows, **settings) as server:
        document = await described(server)
        for path, item in document["paths"].items():
            content = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [one["value"] for one in content.get("examples", {}).values()]
            for example in [*examples, *([content["example"]] if "example" in content else [])]:
                count += 1
                errors = Draft202012Validator({**content["schema"], "components": document["components"]})
                assert list(errors.iter_errors(example)) == []
                async with server.request("POST", path, json.dumps(example).encode(), **BEARER) as response:
                    assert response.status == 200, (path, example, await response.read())
                    assert b'"error"' not in await response.read()
    assert count >= 3 * len(document["x-flows"])


async def test_each_example_of_an_answer_fits_its_schema(serving):
    flows, settings = world("several")
    async with serving(flows, **settings) as server:
        document = await described(server)
    told = document["paths"]["/turns"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]
    event = Draft202012Validator({**told["schema"], "components": document["components"]})
    assert [list(event.iter_errors(one)) for one in (told["example"], *told["x-example"])] == [[]] * 4
    for schema in document["components"]["schemas"].values():
        if "example" in schema:
            Draft202012Validator(schema).validate(schema["example"])


async def test_what_is_sent_is_described_by_the_stage_at_which_it_enters(serving):
    flows, settings = world("several")
    async with serving(flows, **settings) as server:
        schemas = (await described(server))["components"]["schemas"]

    def fits(user_input: Any, entry: Any = 0, name: str = "voice") -> bool:
        body = {"user": "ann", "input": user_input, "entry": entry}
        return Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}.TurnRequest", "components": {"schemas": schemas}}
        ).is_valid(body)

    assert fits("AAA=")
    assert not fits("hello")  # a sound is needed
    assert fits("hello", "tuned")
    assert not fits("hello", 7)
    assert fits({"what": "tea"}, name="orders")
    assert not fits({"what": "tea", "much": True}, name="orders")
    assert not fits({"what": "tea", "count": 0}, name="orders")


async def test_a_field_says_what_it_is_for_and_within_which_bounds(serving):
    @attrs.frozen
    class Speech:
        speed: float = attrs.field(
            default=1.0, validator=attrs.validators.ge(0.5), metadata={"description": "Faster above 1."}
        )

    @module(options=Speech)
    class Speaks(Module[str, Audio]):
        async def process(self, text: str, turn: Turn) -> Audio:
            return Audio(bytes(2), 8000)

    async with serving(Speaks()) as server:
        schemas = (await described(server))["components"]["schemas"]
        page = (await read(server))[1]
    assert schemas["Speech"]["properties"]["speed"] == {
        "type": "number",
        "default": 1.0,
        "minimum": 0.5,
        "description": "Faster above 1.",
    }
    assert "Faster above 1." in page


async def test_a_class_may_be_called_as_the_descriptions_own(serving):
    @module(options=TurnRequest)
    class Speaks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            return text

    async with serving(Speaks()) as server:
        document = await described(server)
    openapi_spec_validator.validate(document)
    content = document["paths"]["/turns"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]
    event = Draft202012Validator({**content["schema"], "components": document["components"]})
    assert event.is_valid({"type": "turn.ended", "turn": 1, "seq": 1, "t": 0.1, "reason": "done"})
    body = document["paths"]["/turns"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    request = Draft202012Validator({**body, "components": document["components"]})
    asked = {"user": "ann", "input": "x", "options": {"speaks": {"event": {"loud": True}}}}
    assert request.is_valid(asked)
    asked["options"] = {"speaks": {"event": {"loud": 1}}}
    assert not request.is_valid(asked)


async def test_a_stage_that_reads_by_itself_and_types_without_a_schema_are_told_in_words(serving):
    class Odd:
        pass

    @module
    class Reads(Module[str, str]):
        def decode(self, payload: Any) -> str:
            return str(payload)

        async def process(self, text: str, turn: Turn) -> str:
            return text

    @module
    class Takes(Module[Odd, str]):
        async def process(self, item: Odd, turn: Turn) -> str:
            return ""

    async with serving({"reads": Reads(), "takes": Takes()}) as server:
        document = await described(server)
    bodies = {name: document["components"]["schemas"][f"{name}.TurnRequest"] for name in ("reads", "takes")}
    assert bodies["reads"]["properties"]["input"] == {"description": "What reads reads by itself, as str."}
    assert bodies["takes"]["properties"]["input"] == {"description": "Odd"}
    for name in bodies:
        content = document["paths"][f"/{name}/turns"]["post"]["requestBody"]["content"]["application/json"]
        assert "examples" not in content


async def test_a_modules_own_routes_are_told_as_far_as_they_are_known(serving):
    flows, settings = world("several-tokens")
    async with serving(flows, **settings) as server:
        document = await described(server)
    restock = document["paths"]["/orders/goods/{name}"]["put"]
    assert (restock["tags"], restock["x-flow"]) == (["Modules"], "orders")
    assert restock["summary"] == "Say how many there are."
    assert [(one["name"], one["in"]) for one in restock["parameters"]] == [("name", "path")]
    assert restock["security"] == [{"bearer": []}, {}]  # EZPipe's clients come from a network without a token


async def test_the_websocket_is_told_with_its_frames_and_closing_codes(serving):
    async with serving(FakeLLM()) as server:
        document = await described(server)
    socket = document["x-websockets"]["/ws"]
    sent = [document["components"]["schemas"][one["$ref"].rpartition("/")[2]] for one in socket["sent"]["oneOf"]]
    assert [one["properties"]["type"]["const"] for one in sent] == [*FRAMES]
    protocol = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert set(socket["closing"]) == set(re.findall(r"\b1\d{3}\b", protocol.partition("| closing code |")[2]))


async def test_the_page_shows_the_server_as_its_reader_calls_it_and_as_text(serving):
    async with serving(FakeLLM()) as server:
        for port in (f"{server.port}", "1'$(id)<b>"):
            page = (await read(server, Host=f"127.0.0.1:{port}"))[1]
            assert "server.invalid" not in page
            assert "<b>" not in page
        assert f"127.0.0.1:{server.port}/turns" in (await read(server, Host=f"127.0.0.1:{server.port}"))[1]


async def test_who_may_use_the_server_may_read_what_it_takes(serving):
    async with serving(FakeLLM(), tokens=[TOKEN, "another-token-of-a-team ann"]) as server:
        assert (await read(server, "/openapi.json"))[0] == 401
        for token in (TOKEN, "another-token-of-a-team"):
            assert (await read(server, "/openapi.json", Authorization=f"Bearer {token}"))[0] == 200
            assert (await read(server, Authorization=f"Bearer {token}"))[0] == 200
        document = await described(server)
        assert document["security"] == [{"bearer": []}]
        assert document["paths"]["/health/live"]["get"]["security"] == []
        status, asks = await read(server)
        assert (status, "fake_llm" in asks, 'type="password"' in asks) == (401, False, True)
        for name in ("page.css", "token.js", "icon.svg"):
            assert (await read(server, f"/docs/{name}"))[0] == 200
        assert (await read(server, "/docs/page.html"))[0] == 404
        assert (await read(server, Origin="https://evil.example", **BEARER))[0] == 403
    async with serving(FakeLLM()) as server:
        document = await described(server)
        assert "security" not in document
        assert "401" not in document["paths"]["/turns"]["post"]["responses"]
        assert (await read(server))[0] == 200


@pytest.mark.parametrize("name", WORLDS)
async def test_the_page_shows_each_operation_once_and_runs_nothing(serving, name):
    flows, settings = world(name)
    async with serving(flows, **settings) as server:
        document = await described(server)
        async with server.request("GET", "/docs", **BEARER) as response:
            page = (await response.read()).decode()
            policy = response.headers["content-security-policy"]
    assert "script" not in policy
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#|docs/|openapi\.json)', page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    first = next(iter(document["x-flows"]))
    for path, item in document["paths"].items():
        for made in item.values():
            twin = path.removeprefix(f"/{first}") if first else path
            is_shown = twin == path or made["x-flow"] != document["paths"].get(twin, {}).get("get", made).get("x-flow")
            assert (f'<article id="{made["operationId"]}">' in page) == is_shown, path


async def test_what_others_wrote_is_text_on_the_page(serving):
    @module
    class Quotes(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            return text

    Quotes.__doc__ = MARKUP
    async with serving(Quotes()) as server:
        page = (await read(server))[1]
    assert MARKUP not in page
    assert "&lt;script&gt;" in page


async def test_the_lines_for_a_shell_work_as_they_stand(serving, tmp_path):
    (tmp_path / "question.wav").write_bytes(Audio(bytes(3200), 16_000).to_wav())
    flows, settings = world("voice")
    async with serving(flows, **settings) as server:
        page = (await read(server, Host=f"127.0.0.1:{server.port}", **BEARER))[1]
        lines = [html.unescape(line) for line in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)]
        assert len(lines) > 12
        for line in lines:
            told = line.replace("curl ", "curl -s -o answer -w '%{http_code}' ")
            done = await trio.run_process(
                ["bash", "-c", told], capture_stdout=True, cwd=tmp_path, env={"TOKEN": TOKEN, "PATH": "/usr/bin:/bin"}
            )
            assert done.stdout == b"200", (line, done.stdout, (tmp_path / "answer").read_text())
