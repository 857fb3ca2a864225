"""What schemathesis must be told to try a server: how streams are read and checked, which sound is a WAV."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from described import TOKEN
from hypothesis import strategies as st

from ezflow import Audio

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
ASKED = count()
WAVS = st.builds(
    lambda samples, rate_hz, channels: Audio(bytes(2 * samples * channels), rate_hz, channels).to_wav(),
    st.integers(0, 50),
    st.sampled_from([8000, 16_000, 44_100]),
    st.integers(1, 2),
)
schemathesis.openapi.format("wav", WAVS.map(lambda wav: base64.b64encode(wav).decode()))


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Every other turn is asked for as Server-Sent Events; ENDASR comes after a piece of sound, which it needs."""
    body = case.body
    if case.operation.path.endswith("/turns") and next(ASKED) % 2 and not leaves_out_token(case):
        case.headers["Accept"] = SSE
    if case.operation.path.endswith("/input") and isinstance(body, dict) and body.get("Input") == "ENDASR":
        sent = {"user": body.get("user"), "Entry": body.get("Entry", 0), "Input": "0000"}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        requests.post(case.operation.base_url + case.operation.path, json=sent, headers=headers, timeout=10)


def leaves_out_token(case: Any) -> bool:
    """Is the case one without a token? It has no headers at all then."""
    return str(getattr(case.meta.phase.data, "parameter", "")).lower() == "authorization"


@schemathesis.deserializer(NDJSON)
def last_line(_: Any, response: Any) -> Any:
    """The last event: the schema of the stream is that of each, and the check below looks at all."""
    return list(lines(response.content))[-1]


@schemathesis.check
def each_item_of_a_stream_is_as_described(_: Any, response: Any, case: Any) -> None:
    """Each line or event fits the schema of an item, and the JSON in it that of what it holds; a turn is whole."""
    kind = (response.headers.get("content-type") or [""])[0].partition(";")[0]
    if response.status_code != 200 or kind not in (NDJSON, SSE):
        return
    raw = case.operation.schema.raw_schema
    made = raw["paths"][case.operation.path]["post"]["responses"]["200"]["content"][kind]
    components = raw["components"]
    if not case.operation.path.endswith("/turns"):  # EZPipe's: lines of JSON, though it calls them events
        for line in fitting(lines(response.content), made["x-itemSchema"], components):
            if line["type"] == "text":
                (text, *_) = components["schemas"]["EZPipe.Line"]["oneOf"]
                list(fitting([json.loads(line["chunk"])], text["properties"]["chunk"]["contentSchema"], components))
        return
    if kind == SSE:
        sent = list(fitting(map(fields, blocks(response.content)), made["x-itemSchema"], components))
        data = [json.loads(one["data"]) for one in sent]
        item = components["schemas"][made["x-itemSchema"]["$ref"].rpartition("/")[2]]
        schema = item["properties"]["data"]["contentSchema"]
        for one, event in zip(sent, data, strict=True):
            told = {"id": f"{event['turn']}:{event['seq']}", "event": event["type"], "data": one["data"]}
            assert one == told, f"{one} is not {told}"
    else:
        data, schema = list(lines(response.content)), made["x-itemSchema"]
    events = list(fitting(data, schema, components))
    numbers, ends = [event["seq"] for event in events], (events[0]["type"], events[-1]["type"])
    assert numbers == list(range(len(events))), f"events are missing: {numbers}"
    assert ends == ("turn.started", "turn.ended"), f"the turn is not whole: {ends}"


def fitting(items: Any, schema: dict[str, Any], components: dict[str, Any]) -> Iterator[Any]:
    """The items, which must fit the schema."""
    validator = jsonschema_rs.validator_for({**schema, "components": components})
    for item in items:
        error = next(iter(validator.iter_errors(item)), None)
        assert error is None, f"{item}: {error}"
        yield item


def lines(content: bytes) -> Iterator[Any]:
    assert content[-1:] in (b"", b"\n"), "the last line is not ended"
    for line in content.split(b"\n")[:-1]:
        yield json.loads(line)


def blocks(content: bytes) -> list[str]:
    assert content.endswith(b"\n\n"), "the last event is not ended"
    return content.decode().removesuffix("\n\n").split("\n\n")


def fields(block: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in block.split("\n"))
