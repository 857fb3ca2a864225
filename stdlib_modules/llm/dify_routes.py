"""EZPipe's routes for conversations, answered by Dify: with its statuses and its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ezflow import InputError

from ..http.client import HTTPClient
from ..http.errors import BackendError, BackendTimeout

if TYPE_CHECKING:
    from quart import Blueprint, Response

__all__ = ["conversations"]

NO_USER = "必须提供用户ID"
# Dify's ids are UUIDs. What else could be a path of its own (`..`) is not sent.
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class NoUser(Exception):
    """A request that does not say whose it is: Dify would take it for one of its nameless users."""


def conversations(http: HTTPClient) -> Blueprint:
    """The routes; `http` speaks to Dify. The server has held `user` against the asker's token already."""
    from quart import Blueprint, Response, request

    routes = Blueprint("dify", __name__)

    @routes.get("/messages")
    async def get_messages() -> Response:
        return await passed_on("GET", "/messages", params=_params(request.args, "conversation_id", "first_id", "limit"))

    @routes.get("/messages/suggested")
    async def get_suggested() -> Response:
        params = _params(request.args)
        return await passed_on("GET", f"/messages/{_id(request.args, 'message_id')}/suggested", params=params)

    @routes.get("/conversations")
    async def get_conversations() -> Response:
        params = {"limit": "20"} | _params(request.args, "last_id", "limit", "sort_by")
        return await passed_on("GET", "/conversations", params=params)

    @routes.delete("/conversations/delete")
    async def delete_conversation() -> Response:
        given = await body()
        user = {"user": _user(given)}
        return await passed_on("DELETE", f"/conversations/{_id(given, 'conversation_id')}", json=user)

    @routes.post("/conversations/rename")
    async def rename_conversation() -> Response:
        given = await body()
        named = {"name": _text(given, "name"), "auto_generate": False, "user": _user(given)}
        return await passed_on("POST", f"/conversations/{_id(given, 'conversation_id')}/name", json=named)

    @routes.errorhandler(NoUser)
    async def refuse(_: NoUser) -> Response:
        return answer({"detail": NO_USER}, 400)

    async def body() -> Mapping[str, Any]:
        given = await request.get_json(force=True, silent=True)
        if not isinstance(given, Mapping):
            raise InputError("body", "a JSON object is needed")
        return given

    async def passed_on(method: str, path: str, **sent: Any) -> Response:
        user = (sent.get("params") or sent["json"])["user"]
        try:
            async with http.stream(method, path, user=user, check=False, **sent) as reply:
                found = await reply.read()
                if 300 <= reply.status < 400 or (found and not _is_json(found)):
                    raise reply.broken(f"answered {reply.status} with what is not JSON", found)
        except BackendError as error:
            return answer({"detail": str(error)}, 504 if isinstance(error, BackendTimeout) else 502)
        return Response(found, reply.status, content_type="application/json")

    def answer(told: Any, status: int) -> Response:
        return Response(json.dumps(told, ensure_ascii=False), status, content_type="application/json")

    return routes


def _params(args: Mapping[str, str], *names: str) -> dict[str, str]:
    """What of a query goes on to Dify, always with its user."""
    return {"user": _user(args)} | {name: args[name] for name in names if args.get(name)}


def _user(given: Mapping[str, Any]) -> str:
    user = given.get("user")
    if not user or not isinstance(user, str):
        raise NoUser
    return user


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not value or not isinstance(value, str):
        raise InputError(name, "a text is needed")
    return value


def _id(given: Mapping[str, Any], name: str) -> str:
    """An id as a part of a path."""
    value = _text(given, name)
    if not ID.fullmatch(value):
        raise InputError(name, "an id is needed: letters, digits, - and _, at most 64 of them")
    return quote(value, safe="")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
