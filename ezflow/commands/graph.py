"""`ezflow graph`: flows as a drawing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import add_target, flows_of

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    graph = commands.add_parser("graph", help="draw a file's flows, as text or for Mermaid")
    add_target(graph)
    graph.add_argument("--format", choices=["text", "mermaid"], default="text")
    graph.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with flows_of(options) as (flows, _):
        reports = {name: flow.check() for name, flow in flows.items()}
    for name, report in reports.items():
        if name:
            print(f"%% {name}" if options.format == "mermaid" else f"{name}:")
        print(report.mermaid() if options.format == "mermaid" else report.drawing)
    return 0
