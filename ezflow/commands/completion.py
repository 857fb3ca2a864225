"""`ezflow completion`: what a shell needs to complete command lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def add(commands: Subparsers) -> None:
    completion = commands.add_parser("completion", help="print what makes a shell complete command lines with Tab")
    completion.add_argument("shell", choices=SHELLS, help="bash, zsh, fish, tcsh or powershell")
    completion.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import shtab

    for action in _actions(options.parser):
        if (how := _files(action)) is not None:
            action.complete = how  # type: ignore[attr-defined]  # as shtab is told of it
    print(shtab.complete(options.parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _files(action: argparse.Action) -> Any:
    """How a value that is the name of a file is completed: the help says what it is."""
    import shtab

    takes = str(action.metavar or action.dest)
    if takes.startswith("FILE[:NAME]"):
        return _glob("*.py")
    if "FILE.wav" in takes:
        return _glob("*.wav")
    if takes == "FILE":
        return shtab.FILE
    return shtab.DIRECTORY if takes.lower() == "folder" else None


def _glob(pattern: str) -> Any:
    """Files of one kind, and folders. zsh reads the parentheses that shtab puts around one pattern as a qualifier."""
    import shtab

    return {**shtab.glob(pattern), "zsh": f"_files -g '{pattern}'"}
