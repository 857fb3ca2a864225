"""The tables of docs/command-line.md, made from the parser: `python -m tests.docs.command_line` writes them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ezflow.cli import _parser

__all__ = ["PAGE", "section", "tables"]

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
BEGIN, END = "<!-- made by tests/docs/command_line.py -->\n", "<!-- end -->\n"


def tables() -> str:
    """A section for each command: what it does, and a table of what it takes."""
    return "\n".join(_commands(_parser(), "")) + "\n"


def section() -> str:
    """What the page says between its marks."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _commands(parser: argparse.ArgumentParser, about: str) -> Iterator[str]:
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not kinds:
        yield from _command(parser, about)
    for kind in kinds:
        told = {choice.dest: choice.help or "" for choice in kind._choices_actions}
        for name, command in kind.choices.items():
            yield from _commands(command, told.get(name, ""))


def _command(parser: argparse.ArgumentParser, about: str) -> Iterator[str]:
    taken = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    yield f"## `{parser.prog}`\n\n{about[:1].upper()}{about[1:]}.\n"
    if taken:
        yield "| | what |\n|---|---|"
        yield from (f"| {_names(action)} | {_about(action)} |" for action in taken)
        yield ""


def _names(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else "|".join(action.choices or [action.dest.upper()]))
    value = str(value).replace("|", "\\|")
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in action.option_strings)


def _about(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "ezflow"}
    return text.replace("|", "\\|")


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + tables() + END + rest.partition(END)[2], encoding="utf-8")
