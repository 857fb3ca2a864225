"""`ezflow check`: the report of the startup check."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import add_target, flows_of

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    check = commands.add_parser("check", help="check a file's flows and print the report")
    add_target(check)
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with flows_of(options) as (flows, _):
        reports = {name: flow.check() for name, flow in flows.items()}
    for name, report in reports.items():
        if name:
            print(f"{name}:")
        print(report)
    return 0 if all(report.ok for report in reports.values()) else 1
