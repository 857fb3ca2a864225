"""What a server takes and answers: `/openapi.json` for programs, `/docs` for people. It fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import trio
from quart import Blueprint, Quart, Response, request
from werkzeug.exceptions import NotFound

from ...service import Service
from ..config import Settings
from ..edges import Edges
from ..encode import encoder
from ..files import HTML, file_answer, policy
from .document import document
from .page import ASKS, FILES, at, page

__all__ = ["docs", "openapi"]

# A page without a script. The one that asks for a token has a script, which asks this server alone.
READ = {"Content-Security-Policy": policy(style_src="'self'", img_src="'self'")}
ASK = {
    "Content-Security-Policy": policy(script_src="'self'", connect_src="'self'", style_src="'self'", img_src="'self'")
}


def openapi(app: Quart, services: Mapping[str, Service], settings: Settings) -> Blueprint:
    """The description of an application, for who may use it. It is made when it is first asked for, in a thread."""
    routes = Blueprint("openapi", __name__)

    @cache
    def made() -> bytes:
        return encoder.encode(document(app, services, settings))

    @routes.get("/openapi.json")
    async def get_openapi() -> Response:
        return Response(await trio.to_thread.run_sync(made), content_type="application/json")

    return routes


def docs(app: Quart, services: Mapping[str, Service], settings: Settings, edges: Edges) -> Blueprint:
    """The same as a page. A browser sends no token with a link: who has shown none gets a page that asks for it."""
    routes = Blueprint("docs", __name__)

    @cache
    def made() -> str:
        return page(document(app, services, settings))

    @routes.get("/docs")
    async def get_docs() -> Response:
        if not edges.knows:
            answer = await file_answer(FILES[ASKS], ASK)
            answer.status_code = 401
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        text = at(request.host_url.rstrip("/"), await trio.to_thread.run_sync(made))
        return Response(text, content_type=HTML, headers=READ)

    @routes.get("/docs/<name>")
    async def get_file(name: str) -> Response:
        if name not in FILES:
            raise NotFound
        return await file_answer(FILES[name], READ)

    return routes
