"""The operations of the server itself, whatever its flows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..files import kind_of
from ..playground import FILES as PLAYGROUND
from .page import FILES
from .parts import Parts, operation, parameter, reply

__all__ = ["server_operations"]

TEXT = {"type": "string"}
HTML = "text/html"
METRICS = ("text/plain", "application/openmetrics-text")


def server_operations(parts: Parts) -> dict[str, dict[str, Any]]:
    """The operations by path."""
    settings = parts.settings
    asks = {"401": reply("A page that asks for a token.", TEXT, HTML)} if settings.tokens else {}
    sessions = parameter(
        "sessions", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    )
    paths = {
        "/openapi.json": _get(
            "get_openapi",
            "This description",
            responses={"200": reply("An OpenAPI 3.1 document.", {"type": "object"}), **parts.refusals(401, 403)},
        ),
        "/docs": _get(
            "get_docs",
            "This description, to be read",
            responses={"200": reply("The page.", TEXT, HTML), **asks, **parts.refusals(403)},
        ),
        "/docs/{name}": _file("get_docs_file", "A file of that page", FILES, parts),
        "/debug/tree": _get(
            "get_tree",
            "Sessions, turns and stages at this moment",
            "It names users: for a token that stands for all; without tokens, for this machine.",
            parameters=[sessions],
            responses={
                "200": reply("What runs, and what it waits for.", {"type": "object"}),
                **parts.refusals(401, 403, 422),
            },
        ),
    }
    figures = {"200": {"description": "The figures.", "content": {kind: {"schema": TEXT} for kind in METRICS}}}
    paths["/metrics"] = _get(
        "get_metrics",
        "Figures for Prometheus",
        "For every token; without tokens, for this machine." if settings.metrics else "Off: start it with --metrics.",
        responses={**(figures if settings.metrics else parts.refusals(404)), **parts.refusals(401, 403)},
    )
    if settings.playground:
        everybody = parts.security(open_to_all=True)
        page = reply("The page.", TEXT, HTML)
        paths["/"] = _get(
            "get_playground",
            "The playground: a page to try the flows on",
            responses={"200": page, **parts.refusals(403)},
            **everybody,
        )
        paths["/playground/{name}"] = _file("get_playground_file", "A file of the playground", PLAYGROUND, parts)
    return paths


def _get(name: str, summary: str, description: str = "", **others: Any) -> dict[str, Any]:
    return {"get": operation(name, "Server", summary, description, **others)}


def _file(name: str, summary: str, files: Collection[str], parts: Parts) -> dict[str, Any]:
    kinds = dict.fromkeys(kind_of(file).partition(";")[0] for file in files)
    return _get(
        name,
        summary,
        parameters=[{"name": "name", "in": "path", "required": True, "schema": {"enum": sorted(files)}}],
        responses={
            "200": {"description": "The file.", "content": {kind: {"schema": TEXT} for kind in kinds}},
            **parts.refusals(403, 404),
        },
        **parts.security(open_to_all=True),
    )
