"""`ezflow run`: one turn of a flow, without a server."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FlowError
from ..target import TargetError
from .arguments import add_target, entry, flows_of, json_object

if TYPE_CHECKING:
    from ..flow import Flow
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    run = commands.add_parser("run", help="ask a file's flow one question, without a server")
    add_target(run)
    run.add_argument(
        "--input",
        default="-",
        metavar="TEXT|FILE.wav|-",
        help="what is asked: text, a WAV, JSON for a stage that takes neither; - for standard input (default: -)",
    )
    run.add_argument("--flow", metavar="NAME", help="which flow, of a file with several (default: the first)")
    run.add_argument("--entry", type=entry, help="the stage that is asked, by name or index (default: one that fits)")
    run.add_argument(
        "--options", type=json_object, default={}, metavar="JSON", help="""'{"LLM": {"temperature": 0.2}}'"""
    )
    run.add_argument("--user", default="run", help="whose turn it is (default: %(default)s)")
    run.add_argument("--store", metavar="URL", help="where the user's conversation lasts: sqlite:///history.db")
    run.add_argument("--timeout", type=float, default=math.inf, metavar="S", help="seconds that the turn may take")
    run.add_argument("--save", type=Path, metavar="FILE.wav", help="keep the reply's sound")
    run.add_argument("--json", action="store_true", help="the turn's events as lines of JSON, in place of the reply")
    run.add_argument("--timeline", action="store_true", help="draw at the end what each stage did when")
    run.add_argument("--no-progress", dest="progress", action="store_false", help="without the lines on the stages")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import trio

    from ..limits import Limits
    from ..talk import Display, Once
    from ..talk.inputs import read_input

    limits = Limits(turn_s=options.timeout, store=options.store)
    display = Display(
        save=options.save, json=options.json, progress=options.progress, timeline=options.timeline, out=sys.stdout
    )
    with ExitStack() as loaded:
        with redirect_stdout(sys.stderr):  # what the file prints is not the reply
            flows, _ = loaded.enter_context(flows_of(options))
        name = _chosen(flows, options)
        report = flows[name].check()
        if not report.ok:
            raise FlowError(report)
        if options.input == "-" and sys.stdin.isatty():
            print("Type the question, then Ctrl+D on a line of its own.", file=sys.stderr)
        once = Once(
            name=name,
            report=report,
            question=read_input(options.input, sys.stdin.buffer),
            entry=options.entry,
            options=options.options,
            user=options.user,
            limits=limits,
            display=display,
        )
        return trio.run(once.run)


def _chosen(flows: Mapping[str, Flow[Any, Any]], options: argparse.Namespace) -> str:
    """The name of the flow that is asked. Raises: TargetError."""
    name: str = next(iter(flows)) if options.flow is None else options.flow
    if name not in flows:
        known = ", ".join(filter(None, flows)) or "one without a name: leave --flow out"
        raise TargetError(f"{options.target} has no flow {name!r}; its flows: {known}.")
    return name
