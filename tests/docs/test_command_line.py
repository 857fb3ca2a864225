"""docs/command-line.md is what the command line takes."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import section, tables

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_page_is_what_the_parser_says():
    assert section() == tables(), "run: python -m tests.docs.command_line"


def test_each_command_and_option_that_a_page_names_exists():
    known = set(re.findall(r"--[a-z-]+", section()))
    commands = {name.split()[0] for name in re.findall(r"## `ezflow ([^`]*)`", section())}
    for page in PAGES:
        if page.name == "from-pipecat.md":
            continue
        text = page.read_text(encoding="utf-8")
        for command, rest in re.findall(r"(?:^|[`/ ])ezflow ([a-z]+)\b(?!/)([^`\n|]*)", _code(text), re.MULTILINE):
            assert command in commands, f"{page.name}: ezflow {command}"
            unknown = set(re.findall(r" (--[a-z-]+)", rest)) - known
            assert not unknown, f"{page.name}: ezflow {command} has no {unknown}"


def _code(text: str) -> str:
    """What a page shows as commands: its shell blocks, and what stands between backquotes."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`(ezflow [^`]+)`", text)])
