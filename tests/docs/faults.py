"""The tables of docs/presets.md, made from what each preset really does: `python -m tests.docs.faults` writes them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules"))

from test_presets import LOADED, of

from ezflow.testing.backends import Fault

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules" / "cases"))

from case import FAULTS, Case

__all__ = ["PAGE", "section", "tables"]

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"
BEGIN, END = "<!-- made by tests/docs/faults.py -->\n", "<!-- end -->\n"
WITHIN_S = 60.0


async def outcome(case: Case, fault: Fault) -> tuple[str, str]:
    """What a fault is for the client: a word for the table, and the error's message."""
    expected = case.faults.get(fault, FAULTS[fault])
    if isinstance(expected, str):
        return "–", expected
    async with case.standin(fault=fault).serving() as server:
        flow = case.module(server.url, read_s=0.3, retries=0)
        async with flow.open() as service, service.session("ann") as session:
            events = [event async for event in session.turn(case.samples[0], options=case.options)]
        address = server.url
    for event in events:
        if event.error is not None:
            where = re.sub(r":\d+", ":PORT", address)
            return event.error.name, event.error.message.replace(address, where)
    return "same answer", ""


async def tables() -> str:
    """Both tables."""
    titles = {name: LOADED[name].title or of(name) for name in LOADED}
    names = sorted(titles, key=titles.__getitem__)
    found = {}
    for name in names:
        with trio.fail_after(WITHIN_S):
            found[name] = {fault: await outcome(LOADED[name], fault) for fault in FAULTS}
    lines = ["| the server … | " + " | ".join(f"`{titles[name]}`" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for fault in FAULTS:
        cells = [found[name][fault][0].removeprefix("Backend") for name in names]
        lines.append(f"| {fault.value} | {' | '.join(cells)} |")
    lines += ["", "What the errors say, word for word:", "", "| preset | the server … | message |", "|---|---|---|"]
    for name in names:
        for fault, (word, message) in found[name].items():
            if word != "same answer":
                told = message.replace("|", "\\|").replace("\n", " ")
                lines.append(f"| `{titles[name]}` | {fault.value} | {told if word == '–' else f'`{told}`'} |")
    return "\n".join(lines) + "\n"


def section() -> str:
    """What the page says between its marks."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


async def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + await tables() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    trio.run(main)
