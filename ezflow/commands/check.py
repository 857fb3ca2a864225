"""`ezflow check`: the report of the startup check."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..target import load
from .arguments import add_target

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    check = commands.add_parser("check", help="check a file's flows and print the report")
    add_target(check)
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    reports = {name: flow.check() for name, flow in load(options.target).items()}
    for name, report in reports.items():
        if name:
            print(f"{name}:")
        print(report)
    return 0 if all(report.ok for report in reports.values()) else 1
