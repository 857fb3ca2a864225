"""What a server takes and answers, as an OpenAPI document: made of its flows and settings, once it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Quart

from ...service import Service
from ..config import Settings
from ..describe import flow_description
from .ezpipe import ezpipe_operations
from .flow import flow_operations, health_operations, inputs, sockets
from .modules import module_operations
from .parts import Parts
from .server import server_operations

__all__ = ["document"]

TAGS = {
    "Turns": "One item through a flow, its events as they come; and the end of it.",
    "History": "What is remembered of a user.",
    "Flow": "What there is: stages, types, schemas.",
    "EZPipe": "For EZPipe's clients, as they are.",
    "Modules": "What the flows' modules bring of their own.",
    "Health": "Can it be used?",
    "Server": "The server itself: its pages, and what it is doing.",
}


def document(app: Quart, services: Mapping[str, Service], settings: Settings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application over these services: every route of it that a client may use.

    A flow that is served under its name and at the root too has both. `x-flow` names an operation's flow, `x-flows`
    tells of each; `x-websockets` are the sockets, by path; `x-itemSchema`, as OpenAPI 3.2's itemSchema, is what a
    stream is made of, `x-example` a whole one.
    """
    from ... import __version__

    parts = Parts(settings)
    paths: dict[str, Any] = {}
    websockets: dict[str, Any] = {}
    first = next(iter(services))
    for name, service in services.items():
        own = flow_operations(service, parts) | ezpipe_operations(service, parts, inputs(service))
        live = sockets(service, parts)
        for prefix in dict.fromkeys(["" if name == first else f"/{name}", f"/{name}" if name else ""]):
            health = health_operations("the flow" if prefix else "the server", parts)
            for path, item in (own | health).items():
                paths[f"{prefix}{path}"] = {
                    method: _of(made, name if prefix or path in own else "", prefix) for method, made in item.items()
                }
            websockets[f"{prefix}/ws"] = {"x-flow": name} | live
    paths |= server_operations(parts)
    modules = module_operations(app, paths, parts)
    for path, item in modules.items():
        flow = next((name for name in services if name and path.startswith(f"/{name}/")), first)
        paths[path] = {method: made | ({"x-flow": flow} if flow else {}) for method, made in item.items()}
    used = {made["tags"][0] for item in paths.values() for made in item.values()}
    schemes = {"bearer": {"type": "http", "scheme": "bearer", "description": "A token of the server's."}}
    return {
        "openapi": "3.1.0",
        "info": {"title": _title(services), "version": __version__, "description": _about(services)},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items() if name in used],
        **({"security": [{"bearer": []}]} if settings.tokens else {}),
        "paths": paths,
        "x-flows": {name: flow_description(service, name, services) for name, service in services.items()},
        "x-websockets": websockets,
        "components": {
            "schemas": parts.schemas,
            "responses": parts.responses,
            **({"securitySchemes": schemes} if settings.tokens else {}),
        },
    }


def _of(made: Mapping[str, Any], flow: str, prefix: str) -> dict[str, Any]:
    name = f"{prefix.strip('/')}.{made['operationId']}" if prefix else made["operationId"]
    return {**made, "operationId": name} | ({"x-flow": flow} if flow else {})


def _title(services: Mapping[str, Service]) -> str:
    names = ", ".join(name for name in services if name)
    return f"ezflow: {names or ' >> '.join(stage.name for stage in next(iter(services.values())).stages)}"


def _about(services: Mapping[str, Service]) -> str:
    several = (
        f" Each flow has its routes under its name, `/{[*services][-1]}/turns`; the first is also at the root."
        if len(services) > 1
        else ""
    )
    return (
        "A user has one place on this server: one turn at a time, one history; a new turn ends the one before it. What "
        "goes wrong before a turn begins is answered with a status and says where it does not fit; what goes wrong in "
        "the turn is an `error` event of its stream. What is no route is answered 404, another method of one 405, and "
        f"a fault of the server's own 500: its log has it.{several}"
    )
