"""`ezflow run` at a terminal: what is drawn, read off an emulator's screen."""

from __future__ import annotations

import os
import re
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio
from run_flows import CHINESE
from terminals import COLUMNS, Terminal, needs_a_terminal, terminal

pytestmark = needs_a_terminal
FLOWS = Path(__file__).parent / "run_flows.py"


def running(flow: str, *arguments: object, **how: Any) -> AbstractAsyncContextManager[Terminal]:
    question = () if "--input" in arguments else ("--input", "hello")
    command = (sys.executable, "-m", "ezflow", "run", FLOWS, "--flow", flow, *question, *arguments)
    return terminal(*command, **how)


def without_times(rows: list[str]) -> list[str]:
    return [re.sub(" +", " ", re.sub(r"\d+\.\d+ s", "_", row)) for row in rows]


async def test_while_it_runs_each_stage_has_a_line_below_what_is_said_so_far():
    async with running("waits") as person:
        await person.until_row("hello")
        await person.until_row("s (Ctrl+C interrupts)")
        assert without_times(await person.until_row("mannered  done")) == [
            "the file prints",
            "waits: mannered -> waits",
            "waits opens",
            "hello",
            "STAGE STATE IN OUT FIRST OUTPUT WORKED",
            "mannered done 1 1 _ _",
            "waits working 1 1 _ _",
            "_ (Ctrl+C interrupts)",
        ]
        first = person.rows()[-1]
        while len(rows := person.rows()) != 8 or rows[-1] == first:  # the time goes on, in its place
            await person.read()
        await person.type("\x03")
        assert await person.left() == 130
        assert without_times(person.rows())[3:] == [
            "interrupting (Ctrl+C again stops at once)",
            "hello",
            "the turn ended: interrupted",
            "waits closes",
            "STAGE STATE IN OUT FIRST OUTPUT WORKED",
            "mannered done 1 1 _ _",
            "waits stopped 1 1 _ _",
            "first text _, interrupted after _",
        ]


async def test_at_the_end_the_reply_the_lines_and_the_figures_stand_once():
    async with running("voice") as person:
        assert await person.left() == 0
        assert without_times(person.rows()) == [
            "the file prints",
            "voice: hears -> fake_llm -> fake_tts, from fake_llm on",
            "You said hello.",
            "STAGE STATE IN OUT FIRST OUTPUT WORKED",
            "fake_llm done 1 3 _ _",
            "fake_tts done 3 3 _ _",
            "first text _, first sound _, _ of sound, done after _",
            "the sound was not kept: --save FILE.wav keeps it",
        ]


async def test_a_reply_that_goes_to_a_file_leaves_the_lines_on_the_terminal(tmp_path):
    answer = tmp_path / "answer.txt"
    descriptor = os.open(answer, os.O_WRONLY | os.O_CREAT)
    try:
        async with running("voice", stdout=descriptor) as person:
            assert await person.left() == 0
            assert "STAGE     STATE    IN  OUT  FIRST OUTPUT  WORKED" in person.rows()
            assert "You said hello." not in person.rows()
    finally:
        os.close(descriptor)
    assert answer.read_text() == "You said hello.\n"


async def test_while_modules_are_opened_that_is_said_and_the_lines_vanish_with_them():
    async with running("opens_slowly") as person:
        assert "waits  opening   0    0             -       -" in await person.until_row("opening, 0.")
        await person.type("\x03")
        assert await person.left() == 130
        assert person.rows()[-2:] == ["interrupting (Ctrl+C again stops at once)", "waits closes"]


async def test_a_second_ctrl_c_ends_it_at_once():
    async with running("stubborn") as person:
        await person.until_row("stubborn  working")
        await person.type("\x03")
        await person.until_row("s, interrupting (Ctrl+C again stops at once)")
        await person.type("\x03")
        assert await person.left() == -2


async def test_what_modules_print_and_log_stands_above_the_lines():
    async with running("prints") as person:
        assert await person.left() == 0
        rows = person.rows()
    assert rows[2] == "printed half and whole"
    assert "warned [mine]" in rows[3]
    assert [row for row in rows if row.startswith("STAGE")] == [rows[-3]]


async def test_a_reply_of_many_rows_stands_as_the_terminal_wraps_it():
    async with running("wraps") as person:
        assert await person.left() == 0
        rows = person.rows()
        start = next(place for place, row in enumerate(rows) if row.startswith("今"))
        end = next(place for place, row in enumerate(rows) if row == "the end")
        # An emulator puts nothing into the second column of a wide character.
        assert "".join(row.ljust(COLUMNS) for row in rows[start:end]).replace(" ", "") == (
            f"{CHINESE} and then {CHINESE}".replace(" ", "")
        )
        assert end - start == 4
        assert rows[end + 1].startswith("STAGE")


async def test_colours_are_for_a_terminal_that_has_them_and_whoever_wants_them():
    async with running("voice", NO_COLOR="") as person:
        await person.left()
        assert b"\x1b[32mfake_llm" in person.all
    async with running("voice", NO_COLOR="1") as person:
        await person.left()
        assert re.findall(rb"\x1b\[[\d;]*m", person.all) == []
        assert b"\x1b[4A\r\x1b[J" in person.all  # it is drawn all the same


async def test_a_terminal_that_cannot_draw_is_told_in_plain_lines():
    async with running("voice", TERM="dumb") as person:
        assert await person.left() == 0
    assert b"\x1b" not in person.all
    assert b"fake_llm: first output\r\n" in person.all


async def test_a_models_text_does_not_steer_the_terminal():
    for arguments in ((), ("--json",), ("--no-progress",)):
        async with running("steers", *arguments, NO_COLOR="1") as person:
            assert await person.left() == 0
            assert "boo" in "".join(person.rows())
        assert b"\x1b[2J" not in person.all
        assert b"\x07" not in person.all


async def test_an_error_is_the_last_row():
    async with running("remote") as person:
        assert await person.left() == 1
        assert "".join(person.rows()[-2:]).startswith("error in remote: NotThere")
        assert without_times(person.rows())[-4] == "remote failed 1 0 - _"


async def test_a_question_may_be_typed():
    async with running("voice", "--input", "-") as person:
        await person.until_row("Type the question, then Ctrl+D")
        await person.type("who?\n\x04")
        assert await person.left() == 0
        assert "You said who?." in person.rows()


async def test_a_failed_opening_leaves_no_lines():
    with trio.fail_after(30):
        async with running("cannot_open") as person:
            assert await person.left() == 1
            assert person.rows()[-1] == "ezflow: CannotOpen could not open: ValueError: no weights"
            assert not any(row.startswith("STAGE") for row in person.rows())
