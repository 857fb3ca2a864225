"""What the operations of a description are made of: parameters, bodies, answers, refusals, named schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ..bounds import USER
from ..config import Settings

__all__ = ["JSON", "Parts", "operation", "parameter", "reply", "user"]

JSON = "application/json"
SCHEMAS = "#/components/schemas/"

RETRY = {
    "Retry-After": {"required": True, "schema": {"type": "integer"}, "description": "Seconds after which to try again."}
}
HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
    429: RETRY,
    503: RETRY,
}
REFUSAL = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "What kind of error, for programs."},
        "message": {"type": "string", "description": "What is wrong, and what was expected."},
        "path": {"type": "string", "description": "Where in the request: `options.LLM.temperature`."},
    },
    "example": {"error": "InputError", "message": "5 was given, but str is needed", "path": "user"},
}
EZPIPE_REFUSAL = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "description": "What is wrong, where, and what was expected."}},
    "example": {"detail": "user: 5 was given, but str is needed"},
}


@attrs.frozen
class Parts:
    """The components of a description while it is made."""

    settings: Settings
    schemas: dict[str, Any] = attrs.field(factory=lambda: {"Refusal": REFUSAL, "EZPipe.Refusal": EZPIPE_REFUSAL})
    responses: dict[str, Any] = attrs.field(factory=dict)
    _given: dict[str, Any] = attrs.field(init=False, factory=dict)

    def add(self, name: str, schema: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
        """Keep a schema under a name, what it defines under names of their own, and give the reference to it.

        What is kept under that name already, and is another one, keeps it: a flow's class may be called as ours are.
        """
        own = {key: value for key, value in schema.items() if key not in ("$defs", "$schema")}
        parts = [(f"#/$defs/{key}", key, value) for key, value in schema.get("$defs", {}).items()] + [("", name, own)]
        names = {reference: self._free(f"{prefix}{key}", value) for reference, key, value in parts}
        for reference, _, value in parts:
            self.schemas[names[reference]] = _moved(value, names)
        return {"$ref": f"{SCHEMAS}{names['']}"}

    def _free(self, name: str, schema: Mapping[str, Any]) -> str:
        while self._given.get(name, self.schemas.get(name, schema)) != schema:
            name += "_"
        self._given[name] = schema
        return name

    def refusals(self, *statuses: int, ezpipe: bool = False) -> dict[str, Any]:
        """The answers with these statuses; 401 only where there are tokens."""
        told = {}
        for status in statuses:
            if status == 401 and not self.settings.tokens:
                continue
            name = f"{'EZPipe.' if ezpipe else ''}Refused{status}"
            if name not in self.responses:
                content = {JSON: {"schema": {"$ref": f"{SCHEMAS}{'EZPipe.' if ezpipe else ''}Refusal"}}}
                self.responses[name] = {"description": self._why(status), "content": content}
                if status in HEADERS:
                    self.responses[name]["headers"] = HEADERS[status]
            told[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return told

    def security(self, *, ezpipe: bool = False, open_to_all: bool = False) -> dict[str, Any]:
        """What an operation says of tokens where it differs from the others."""
        if not self.settings.tokens:
            return {}
        if open_to_all:
            return {"security": []}
        return {"security": [{"bearer": []}, {}]} if ezpipe and self.settings.trusted else {}

    def _why(self, status: int) -> str:
        settings = self.settings
        return {
            400: "It cannot be read at all: no JSON, no UTF-8, no user.",
            401: "A token is needed, or this one is none of the server's.",
            403: "The token does not stand for this user, or a page of another site asks, or under a foreign name.",
            404: "There is no such thing.",
            413: f"The body has more than {settings.max_body} bytes.",
            422: "What was sent does not fit: it says where, and what was expected.",
            429: (
                f"The user asks more often than {settings.rate_per_s:g} times a second, or has {settings.max_holders} "
                "requests under way."
            ),
            503: (
                f"Not now: {settings.max_sessions} users are served, or a stage does not leave, or the store fails, "
                "or the server is shutting down."
            ),
        }[status]


def operation(
    name: str,
    tag: str,
    summary: str,
    description: str = "",
    *,
    parameters: Iterable[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
    responses: Mapping[str, Any],
    **others: Any,
) -> dict[str, Any]:
    """An operation; `body` is the media type object of its JSON body."""
    made: dict[str, Any] = {"operationId": name, "tags": [tag], "summary": summary}
    if description:
        made["description"] = description
    if parameters := list(parameters):
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: dict(body)}}
    return made | {"responses": dict(responses)} | others


def parameter(name: str, description: str, schema: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": dict(schema)} | others


def user(description: str) -> dict[str, Any]:
    """The parameter that says who asks."""
    schema = {"type": "string", "minLength": USER.least, "maxLength": USER.most}
    return parameter("user", description, schema, required=True, example="ann")


def reply(description: str, schema: Mapping[str, Any], media_type: str = JSON, **others: Any) -> dict[str, Any]:
    """An answer of one media type."""
    return {"description": description, "content": {media_type: {"schema": dict(schema)} | others}}


def _moved(schema: Any, names: Mapping[str, str]) -> Any:
    """The same, with what it defines among the components."""
    if isinstance(schema, dict):
        return {
            key: f"{SCHEMAS}{names[value]}"
            if key == "$ref" and isinstance(value, str) and value in names
            else _moved(value, names)
            for key, value in schema.items()
        }
    return [_moved(one, names) for one in schema] if isinstance(schema, list) else schema
