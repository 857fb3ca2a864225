"""`ezflow talk`: a conversation with a server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import entry, json_object

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    talk = commands.add_parser("talk", help="talk to a server: type questions, pipe them, or give a WAV")
    talk.add_argument("url", metavar="URL", help="where it is, with a flow's name if need be: http://HOST:3421/voice")
    talk.add_argument("wav", nargs="?", type=Path, metavar="FILE.wav", help="a spoken question (default: type or pipe)")
    talk.add_argument("--user", help="whose turns they are (default: a name for this conversation)")
    talk.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token for the server (also: EZFLOW_TOKEN)"
    )
    talk.add_argument("--entry", type=entry, help="the stage that is asked, by name or index (default: one that fits)")
    talk.add_argument(
        "--options", type=json_object, default={}, metavar="JSON", help="""'{"LLM": {"temperature": 0.2}}'"""
    )
    talk.add_argument("--save", type=Path, metavar="FILE.wav", help="keep the answer's sound (of more: -2, -3)")
    talk.add_argument("--no-timeline", dest="timeline", action="store_false", help="only what is said")
    talk.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import trio

    from ..client import Client
    from ..talk import Talk
    from ..talk.token import token_of

    client = Client(options.url, user=options.user, token=token_of(options.token_file))
    talk = Talk(client, options.entry, options.options, options.wav, options.save, options.timeline)
    return trio.run(talk.run)
