"""`GET /history` and `DELETE /history`: what is remembered of a user, and that it is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, Response, request

from ..history import Message
from ..memory import Memory
from .edges import Edges
from .replies import answer

__all__ = ["history"]


def history(memory: Memory, edges: Edges) -> Blueprint:
    """The routes that show and delete a user's history, to those who may be that user."""
    routes = Blueprint("history", __name__)

    def asked_for() -> str:
        user = request.args.get("user", "")
        edges.admit(user)
        return user

    @routes.get("/history")
    async def get_history() -> Response:
        user = asked_for()
        return answer({"user": user, "messages": [_told(message) for message in await memory.messages(user)]})

    @routes.delete("/history")
    async def delete_history() -> Response:
        user = asked_for()
        return answer({"user": user, "deleted": await memory.forget(user)})

    return routes


def _told(message: Message) -> dict[str, Any]:
    at = datetime.fromtimestamp(message.at, UTC)
    return {
        "role": message.role,
        "content": message.content.encode(errors="replace").decode(),  # half a surrogate pair has no JSON form
        "cut": message.cut,
        "at": at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
    }
