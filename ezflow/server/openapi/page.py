"""The description as a page to read: HTML made of the OpenAPI document, without a script."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from ..files import files_in
from ..playground import FILES as PLAYGROUND
from .curl import curls
from .tables import Row, SchemaView, refers, rows, type_of, view

__all__ = ["ASKS", "FILES", "at", "page"]

FOLDER = Path(__file__).parent
SERVER = "http://server.invalid"
PAGE, ASKS = "page.html", "token.html"
FILES = {name: path for name, path in files_in(FOLDER).items() if name != PAGE} | {"icon.svg": PLAYGROUND["icon.svg"]}


@attrs.frozen
class Answer:
    """A status, and what comes with it: content types, each with the type of the body and the schemas it names."""

    status: str
    description: str
    kinds: tuple[tuple[str, str, tuple[str, ...]], ...]
    headers: tuple[str, ...]


@attrs.frozen
class Operation:
    """An operation as the page shows it; `is_open`: no token is needed."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    is_open: bool
    parameters: tuple[Row, ...]
    body: SchemaView | None
    curls: tuple[tuple[str, str], ...]
    told: str
    answers: tuple[Answer, ...]


@attrs.frozen
class Socket:
    """A WebSocket as the page shows it; `like`: the path of another of which all has been said that holds for it."""

    summary: str
    description: str
    parameters: tuple[Row, ...]
    subprotocols: tuple[str, ...]
    sent: SchemaView
    received: tuple[str, ...]
    closing: Mapping[str, str]
    like: str


@attrs.frozen
class Group:
    """What one flow has, or the server itself: operations by tag, sockets by path."""

    title: str
    note: str
    stages: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, list[Operation]]
    sockets: Mapping[str, Socket]


def page(document: Mapping[str, Any]) -> str:
    """The page, for `at` to put the server's URL into."""
    schemas = document["components"]["schemas"]
    groups = list(_groups(document, SERVER))
    bodies = {
        operation.body.name for group in groups for made in group.tags.values() for operation in made if operation.body
    }
    shown = bodies | {name for name in schemas if name.startswith("Frame.")}
    return _template().render(
        info=document["info"],
        tags={tag["name"]: tag["description"] for tag in document["tags"]},
        needs_token="security" in document,
        groups=groups,
        schemas=[view(name, schema, schemas) for name, schema in sorted(schemas.items()) if name not in shown],
    )


def at(url: str, made: str) -> str:
    """The page for who has called the server by this URL."""
    in_quotes = url.replace("'", "'\\''")
    return made.replace(SERVER, str(escape(in_quotes)))


@cache
def _template() -> Template:
    loader = FileSystemLoader(FOLDER)
    environment = Environment(
        autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"prose": _prose, "linked": _linked, "anchor": _anchor}
    return environment.get_template(PAGE)


def _prose(text: str) -> Markup:
    """A text in which `such words` are code."""
    words = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(word) if place % 2 else word for place, word in enumerate(words)
    )


def _linked(text: str, names: Collection[str]) -> Markup:
    """A text in which the names of schemas lead to them."""
    if not names:
        return escape(text)
    words = re.split(rf"(?<![\w.-])({'|'.join(map(re.escape, names))})(?![\w.-])", text)
    link = Markup('<a href="#schema-{}">{}</a>')
    return Markup("").join(link.format(_anchor(word), word) if place % 2 else word for place, word in enumerate(words))


def _anchor(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def _groups(document: Mapping[str, Any], url: str) -> Iterator[Group]:
    """Each flow, then the server. What the first flow has under its name and at the root, is shown at the root."""
    paths, sockets = document["paths"], document["x-websockets"]
    flows = list(dict.fromkeys(socket["x-flow"] for socket in sockets.values()))
    twins = {path: path.removeprefix(f"/{flows[0]}") for path in (*paths, *sockets) if flows[0]}
    hidden = {path for path, twin in twins.items() if path != twin and _same(document, path, twin)}
    for flow in [*flows, *([""] if any(flows) else [])]:
        tags: dict[str, list[Operation]] = {}
        for path, item in paths.items():
            for method, made in item.items():
                if path not in hidden and made.get("x-flow", "") == flow:
                    tags.setdefault(made["tags"][0], []).append(_operation(document, path, method, made, url))
        live = {
            path: _socket(document, path, socket)
            for path, socket in sockets.items()
            if path not in hidden and socket["x-flow"] == flow
        }
        several = flow == flows[0] and len(flows) > 1
        note = f"These routes stand under `/{flow}` too: `/{flow}/turns` is `/turns`." if several else ""
        stages = tuple(document["x-flows"].get(flow, {}).get("stages", ()))
        yield Group(f"Flow {flow}" if flow else "Server" if any(flows) else "Routes", note, stages, tags, live)


def _same(document: Mapping[str, Any], path: str, twin: str) -> bool:
    """Is what has these two paths of the same flow, so that it is the same?"""
    for where in (document["paths"], document["x-websockets"]):
        if path in where and twin in where:
            return _flow_of(where[path]) == _flow_of(where[twin])
    return False


def _flow_of(item: Mapping[str, Any]) -> str:
    found: str = item["x-flow"] if "x-flow" in item else next(iter(item.values())).get("x-flow", "")
    return found


def _operation(document: Mapping[str, Any], path: str, method: str, made: Mapping[str, Any], url: str) -> Operation:
    schemas = document["components"]["schemas"]
    security = made.get("security", document.get("security", []))
    body = made.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = body.get("$ref", "").rpartition("/")[2]
    return Operation(
        anchor=_anchor(made["operationId"]),
        method=method.upper(),
        path=path,
        summary=made["summary"],
        description=made.get("description", ""),
        is_open=not security or {} in security,
        parameters=_parameters(made),
        body=view(name, schemas[name], schemas) if name else None,
        curls=tuple(curls(path, method, made, url, with_token=bool(security))),
        told="\n".join(json.dumps(one, ensure_ascii=False) for one in _told(made)),
        answers=tuple(_answers(document, made)),
    )


def _parameters(made: Mapping[str, Any]) -> tuple[Row, ...]:
    said = made.get("parameters", ())
    properties = {
        one["name"]: one["schema"] | ({"description": one["description"]} if "description" in one else {})
        for one in said
    }
    return tuple(rows({"properties": properties, "required": [one["name"] for one in said if one.get("required")]}))


def _answers(document: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Answer]:
    for status, said in sorted(made["responses"].items()):
        told = document["components"]["responses"][said["$ref"].rpartition("/")[2]] if "$ref" in said else said
        kinds = tuple(
            (kind, type_of(content["schema"]), tuple(refers(content["schema"])))
            for kind, content in told.get("content", {}).items()
        )
        yield Answer(status, told["description"], kinds, tuple(told.get("headers", ())))


def _told(made: Mapping[str, Any]) -> Sequence[Any]:
    """A stream as an example."""
    content = made["responses"].get("200", {}).get("content", {})
    return next((kind["x-example"] for kind in content.values() if "x-example" in kind), ())


def _socket(document: Mapping[str, Any], path: str, socket: Mapping[str, Any]) -> Socket:
    first = next(iter(document["x-websockets"]))
    return Socket(
        summary=socket["summary"],
        description=socket["description"],
        parameters=_parameters(socket),
        subprotocols=tuple(socket["subprotocols"]),
        sent=view("", socket["sent"], document["components"]["schemas"]),
        received=tuple(refers(socket["received"])),
        closing=socket["closing"],
        like="" if path == first else first,
    )
