"""`ezflow serve`: flows over HTTP."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..target import file_of
from .arguments import add_settings, add_target, flows_of, written

if TYPE_CHECKING:
    from ..server.inherited import Inherited
    from .arguments import Subparsers

__all__ = ["add"]

# What threads may take to end, when nothing else of a server is left.
THREADS_S = 5.0


def add(commands: Subparsers) -> None:
    serve = commands.add_parser("serve", help="serve a file's flows over HTTP")
    add_target(serve)
    serve.add_argument(
        "--reload", action="store_true", help="while you develop: start anew when the file, or what it imports, changes"
    )
    add_settings(serve)
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..server.inherited import Inherited

    inherited = Inherited.take()
    with nullcontext() if inherited is None else inherited.at_work():
        return _serve(options, inherited)


def _serve(options: argparse.Namespace, inherited: Inherited | None) -> int:
    from ..rendering import rendered
    from ..server import serve_as
    from ..server.ending import end_of_threads
    from ..server.sources import configured

    file = written(options)
    configuration = configured(vars(options), file)
    settings, arguments = configuration.made(), configuration.arguments
    about = None if inherited is None else inherited.about
    with rendered(arguments["log_format"], arguments["log_level"], about=about):
        if inherited is None and (options.reload or settings.is_supervised):
            from ..server.workers import supervise

            for given in (file.file, configuration.tokens_file):
                if given is not None and Path(given).is_fifo():
                    raise SettingsError(f"{given} is a pipe, but each worker reads it anew: name a file.")
            return supervise(settings, [file_of(options.target), Path(file.file)] if options.reload else [])
        try:
            with flows_of(options, file) as (flows, _):
                serve_as(flows, settings, inherited)
        finally:
            end_of_threads(THREADS_S)  # also of those that a file has started which cannot be loaded
    return 0
