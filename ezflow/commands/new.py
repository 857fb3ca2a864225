"""`ezflow new`: a beginning for something of your own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    new = commands.add_parser("new", help="begin something of your own")
    kinds = new.add_subparsers(required=True, metavar="KIND")
    made = kinds.add_parser("module", help="write a module and its test, which pass as they are")
    made.add_argument("name", help="its class, like Shouter")
    made.add_argument("--http", action="store_true", help="one that speaks to a server over HTTP")
    made.add_argument("--in", dest="folder", type=Path, default=Path(), metavar="FOLDER", help="where (default: here)")
    made.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..scaffold import write

    code, test = write(options.name, options.folder, http=options.http)
    print(f"{code}\n{test}\nRun its test: python -m pytest {test}")
    return 0
