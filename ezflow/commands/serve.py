"""`ezflow serve`: flows over HTTP."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import add_settings, add_target, flows_of, written

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]

# What threads may take to end, when nothing else of a server is left.
THREADS_S = 5.0


def add(commands: Subparsers) -> None:
    serve = commands.add_parser("serve", help="serve a file's flows over HTTP")
    add_target(serve)
    add_settings(serve)
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..rendering import rendered
    from ..server import serve
    from ..server.ending import end_of_threads
    from ..server.secrets import secrets_of
    from ..server.sources import configured

    file = written(options)
    configuration = configured(vars(options), file)
    configuration.made()
    arguments = configuration.arguments
    with rendered(arguments["log_format"], arguments["log_level"], secrets=secrets_of({}, arguments["tokens"])):
        with flows_of(options, file) as (flows, _):
            try:
                serve(flows, **arguments)  # which renders the log itself, since it knows the secrets of the flows
            finally:
                end_of_threads(THREADS_S)
    return 0
