"""Files of a folder of this package, as a page in a browser asks for them."""

from __future__ import annotations

from pathlib import Path

import trio
from quart import Response

__all__ = ["HTML", "file_answer", "files_in", "kind_of", "policy"]

HTML = "text/html; charset=utf-8"
KINDS = {
    ".html": HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


def files_in(folder: Path) -> dict[str, Path]:
    """The files of a folder that a browser may have, by name."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in KINDS}


def kind_of(name: str) -> str:
    """The content type of a file of that name."""
    return KINDS[Path(name).suffix]


def policy(**sources: str) -> str:
    """A Content-Security-Policy: nothing but what is named, as `script_src="'self'"`, and in nobody's frame."""
    named = "".join(f"{name.replace('_', '-')} {source}; " for name, source in sources.items())
    return f"default-src 'none'; {named}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def file_answer(path: Path, headers: dict[str, str]) -> Response:
    return Response(await trio.Path(path).read_bytes(), content_type=kind_of(path.name), headers=headers)
