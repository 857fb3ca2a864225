"""`ezflow config`: what a server would be told, and by whom."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import SettingsError
from .arguments import add_settings, add_values, flows_of, written

if TYPE_CHECKING:
    from ..values import Given
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    config = commands.add_parser("config", help="show the settings that would hold, and where each is from")
    config.add_argument("target", nargs="?", metavar="FILE[:NAME]", help="also the values that this file takes")
    add_values(config)
    add_settings(config)
    config.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..server.sources import configured

    if options.target is None and options.set:
        raise SettingsError(
            f"--set gives {options.set[0][0]}, but no file is named that may ask for it: ezflow config FILE --set …"
        )
    file = written(options)
    configuration = configured(vars(options), file)
    configuration.made()
    asked: Mapping[str, Given] = {}
    if options.target is not None:
        with flows_of(options, file) as (_, values):
            asked = values.asked
    print("\n".join(configuration.lines(asked)))
    return 0
