"""`ezflow top`: what a server is doing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    top = commands.add_parser("top", help="see what a server is doing: sessions, turns, stages, and what they wait for")
    top.add_argument("url", metavar="URL", help="where it is: http://HOST:3421")
    top.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds a token that stands for all users (also: EZFLOW_TOKEN)"
    )
    top.add_argument("--once", action="store_true", help="one picture, of all sessions")
    top.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..client.address import Address
    from ..talk.token import token_of
    from ..top import Top

    top = Top(Address.of(options.url), token_of(options.token_file))
    return top.once() if options.once else top.run()
