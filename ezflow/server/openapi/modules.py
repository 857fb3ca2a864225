"""The operations of routes that modules bring: what can be known of them without asking the modules."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from quart import Quart

from .parts import JSON, Parts

__all__ = ["module_operations"]

ARGUMENT = re.compile(r"<(?:(?P<converter>\w+)(?:\([^)]*\))?:)?(?P<name>\w+)>")
TYPES = {"int": {"type": "integer"}, "float": {"type": "number"}, "uuid": {"type": "string", "format": "uuid"}}
METHODS = ("get", "put", "post", "delete", "patch")


def module_operations(app: Quart, described: Mapping[str, Mapping[str, Any]], parts: Parts) -> dict[str, Any]:
    """The operations, by path, of routes that nothing else describes: their methods, arguments and docstrings."""
    found: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        path = ARGUMENT.sub(r"{\g<name>}", rule.rule)
        if rule.websocket or path in described:
            continue
        view = app.view_functions[rule.endpoint]
        for method in METHODS:
            if method.upper() in (rule.methods or ()):
                found.setdefault(path, {})[method] = _operation(rule.rule, rule.endpoint, method, view, parts)
    return found


def _operation(rule: str, endpoint: str, method: str, view: object, parts: Parts) -> dict[str, Any]:
    summary, _, rest = (inspect.getdoc(view) or "").partition("\n")
    stage = endpoint.rpartition(".")[0]
    made: dict[str, Any] = {
        "operationId": f"{endpoint.lstrip('_')}_{method}",
        "tags": ["Modules"],
        "summary": summary or f"A route of {stage.lstrip('_')}",
        "description": rest.strip() or "What it takes and answers, its module knows.",
    }
    if arguments := list(_arguments(rule)):
        made["parameters"] = arguments
    if method in ("put", "post", "patch"):
        made["requestBody"] = {"content": {JSON: {"schema": {}}}}
    refusals = parts.refusals(401, 403, ezpipe=True)
    return (
        made
        | {"responses": {"default": {"description": "What the module answers."}} | refusals}
        | parts.security(ezpipe=True)
    )


def _arguments(rule: str) -> Iterator[dict[str, Any]]:
    for found in ARGUMENT.finditer(rule):
        schema = TYPES.get(found["converter"] or "", {"type": "string"})
        yield {"name": found["name"], "in": "path", "required": True, "schema": schema}
