"""The playground: a page at `/` on which people try a server's flows. Its files stand in this folder."""

from __future__ import annotations

from pathlib import Path

import trio
from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

__all__ = ["playground"]

FOLDER = Path(__file__).parent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but what this server itself serves, and nothing that stands in the page's text is run.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "media-src 'self' blob:; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def playground() -> Blueprint:
    """The page and its files, for everybody: they hold nothing of any flow, and ask for a token where one is needed."""
    routes = Blueprint("playground", __name__)
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in KINDS}

    @routes.get("/")
    async def get_page() -> Response:
        return await _file(FOLDER / "index.html")

    @routes.get("/playground/<name>")
    async def get_file(name: str) -> Response:
        if name not in files:
            raise NotFound
        return await _file(files[name])

    return routes


async def _file(path: Path) -> Response:
    return Response(await trio.Path(path).read_bytes(), content_type=KINDS[path.suffix], headers=HEADERS)
