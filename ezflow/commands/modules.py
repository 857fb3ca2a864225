"""`ezflow modules`: the modules there are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..target import TargetError

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    modules = commands.add_parser("modules", help="list the modules that are installed, or those of a folder")
    modules.add_argument("folder", nargs="*", type=Path, help="a folder or a file (default: all installed packages)")
    modules.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..catalog import Broken, catalog, folder, installed

    for path in options.folder:
        if not path.exists():
            raise TargetError(f"{path} is no folder and no file.")
    files = [file for path in options.folder for file in folder(path)] if options.folder else installed()
    place, code = "", 0
    for entry in catalog(files):
        if isinstance(entry, Broken):
            print(f"{entry.place}\n  cannot be imported: {entry.problem}")
            code = 1
            continue
        if entry.place != place:
            place = entry.place
            print(place)
        print(f"  {entry.line}\n      {entry.about}")
    return code
