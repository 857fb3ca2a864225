"""The playground: a page at `/` on which people try a server's flows. Its files stand in this folder."""

from __future__ import annotations

from pathlib import Path

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from ..files import file_answer, files_in, policy

__all__ = ["FILES", "playground"]

FILES = files_in(Path(__file__).parent)
# Nothing but what this server itself serves, and nothing that stands in the page's text is run.
HEADERS = {
    "Content-Security-Policy": policy(
        script_src="'self'",
        style_src="'self'",
        connect_src="'self'",
        img_src="'self' data:",
        media_src="'self' blob:",
        worker_src="'self'",
        manifest_src="'self'",
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def playground() -> Blueprint:
    """The page and its files, for everybody: they hold nothing of any flow, and ask for a token where one is needed."""
    routes = Blueprint("playground", __name__)

    @routes.get("/")
    async def get_page() -> Response:
        return await file_answer(FILES["index.html"], HEADERS)

    @routes.get("/playground/<name>")
    async def get_file(name: str) -> Response:
        if name not in FILES:
            raise NotFound
        return await file_answer(FILES[name], HEADERS)

    return routes
