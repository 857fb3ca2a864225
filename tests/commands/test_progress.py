"""What is drawn of a turn: the lines of its stages, exact on the virtual clock, and the board that they stand on."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import pyte
import trio
from terminals import COLUMNS, ROWS

from ezflow import Flow, Latest, Module, Turn, module, retry, route
from ezflow.limits import Limits
from ezflow.service import open_flows
from ezflow.talk.board import Board
from ezflow.talk.progress import Progress
from ezflow.testing import Failing, FakeLLM, FakeTTS, Pause


class Watched:
    """A turn of a flow, and what is told of its stages."""

    def __init__(self, flow: Flow[Any, Any], **limits: Any) -> None:
        self._flow = flow
        self._limits = limits
        self.said: list[str] = []
        self.progress = Progress("", [stage.name for stage in flow.check().stages], self.said.append)

    async def ask(self, item: Any, after_s: float | None = None, **how: Any) -> list[list[str]]:
        """The lines once the turn is over, or after so many seconds of it."""
        lines: list[list[str]] = []
        async with open_flows({"": self._flow}, Limits(instruments=(self.progress,), **self._limits)) as services:
            self.progress.opened()
            async with services[""].session("ann") as session, session.turn(item, **how) as events:
                with trio.move_on_after(inf if after_s is None else after_s):
                    async for _ in events:
                        pass
                lines = self.lines()
        self.progress.over()
        return self.lines() if after_s is None else lines

    def lines(self, columns: int = 100, *, colours: bool = False) -> list[list[str]]:
        return [re.split(" {2,}", line) for line in self.progress.lines(columns, colours=colours)]


async def test_before_the_modules_are_open_nothing_else_is_known(autojump_clock):
    assert Watched(FakeLLM() >> FakeTTS()).lines()[1:] == [
        ["fake_llm", "opening", "0", "0", "-", "-"],
        ["fake_tts", "opening", "0", "0", "-", "-"],
    ]


async def test_a_line_tells_the_state_the_items_and_the_times(autojump_clock):
    watched = Watched(FakeLLM(reply="one two", first_s=1.0, each_s=0.5) >> FakeTTS(delay_s=2.0))
    assert await watched.ask("x", after_s=1.25) == [
        ["STAGE", "STATE", "IN", "OUT", "FIRST OUTPUT", "WORKED"],
        ["fake_llm", "working", "1", "1", "1.00 s", "1.25 s"],
        ["fake_tts", "working", "1", "0", "-", "0.25 s"],
    ]


async def test_at_the_end_each_stage_is_done(autojump_clock):
    watched = Watched(FakeLLM(reply="one two", first_s=1.0, each_s=0.5) >> FakeTTS(delay_s=2.0))
    assert (await watched.ask("x"))[1:] == [
        ["fake_llm", "done", "1", "2", "1.00 s", "1.50 s"],
        ["fake_tts", "done", "2", "2", "3.00 s", "4.00 s"],
    ]
    assert [line.split("  ")[-1] for line in watched.said] == [
        "fake_llm: working",
        "fake_llm: first output",
        "fake_tts: working",
        "fake_tts: first output",
    ]


async def test_a_stage_behind_which_there_is_no_room_is_held_up_and_does_not_work(autojump_clock):
    watched = Watched(FakeLLM(reply="a b c d e f") >> Pause(10.0), capacity=1)
    assert (await watched.ask("x", after_s=5.0))[1] == ["fake_llm", "held up", "1", "2", "0.00 s", "0.00 s"]


async def test_a_stage_that_waits_for_input_does_not_work(autojump_clock):
    watched = Watched(FakeLLM(first_s=3.0) >> FakeTTS())
    assert (await watched.ask("x", after_s=2.0))[2] == ["fake_tts", "waiting", "0", "0", "-", "-"]


async def test_a_failed_stage_is_told_and_those_it_ends_are_stopped(autojump_clock):
    watched = Watched(FakeLLM(reply="a b", first_s=1.0, each_s=9.0) >> Failing())
    assert (await watched.ask("x"))[1:] == [
        ["fake_llm", "stopped", "1", "1", "1.00 s", "1.00 s"],
        ["failing", "failed", "1", "0", "-", "0.00 s"],
    ]
    assert watched.said[-1] == "   1.00 s  failing: failed"
    assert watched.progress.busy == ["fake_llm"]


async def test_who_was_at_work_when_time_was_up_is_known(autojump_clock):
    watched = Watched(FakeLLM(first_s=9.0) >> FakeTTS(), turn_s=2.0)
    assert [line[1] for line in await watched.ask("x")] == ["STATE", "stopped", "stopped"]
    assert watched.progress.busy == ["fake_llm"]


@module
class Fickle(Module[str, str]):
    """Fails once, with the first question of each turn."""

    async def process(self, text: str, turn: Turn) -> str:
        await trio.sleep(1.0)
        if turn.session.kept.setdefault("fickle", True):
            turn.session.kept["fickle"] = False
            raise RuntimeError("not yet")
        return text


async def test_the_runs_of_a_stage_are_one_line(autojump_clock):
    watched = Watched(retry(Fickle(), 3) >> FakeTTS())
    assert (await watched.ask("x"))[1] == ["fickle", "done", "2", "1", watched.lines()[1][4], "2.00 s"]
    live = Watched(Latest(FakeLLM(reply="one two")))
    assert (await live.ask("x"))[1][1:4] == ["done", "1", "2"]


async def test_a_branch_that_is_not_taken_is_unused(autojump_clock):
    watched = Watched(route(str, {"a": FakeLLM(), "b": FakeTTS()}))
    assert [line[:2] for line in (await watched.ask("a"))[1:]] == [["fake_llm", "done"], ["fake_tts", "unused"]]


async def test_no_line_is_wider_than_the_terminal_and_no_name_steers_it(autojump_clock):
    watched = Watched(FakeLLM().named("a" * 60) >> FakeTTS())
    assert all(len(line) <= 40 for line in watched.progress.lines(40, colours=False))
    painted = list(watched.progress.lines(100, colours=True))
    assert all(line.startswith("\x1b[") and line.endswith("\x1b[0m") for line in painted)


class _Terminal(io.StringIO):
    """A stream that goes to an emulated terminal."""

    def __init__(self, stream: pyte.Stream) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return super().write(text)


class Drawn:
    """A board on an emulated terminal."""

    def __init__(self, monkeypatch: Any, lines: Callable[[int], Sequence[str]] = lambda _: ["one", "two"]) -> None:
        monkeypatch.setenv("COLUMNS", str(COLUMNS))
        monkeypatch.setenv("LINES", str(ROWS))
        self._screen = pyte.Screen(COLUMNS, ROWS)
        stream = pyte.Stream(self._screen)
        self.answers, self.notes = _Terminal(stream), _Terminal(stream)
        self.board = Board(self.answers, self.notes, lines)

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self._screen.display if row.strip()]


def test_lines_are_drawn_over_themselves_below_what_is_written(monkeypatch):
    drawn = Drawn(monkeypatch)
    drawn.board.draw()
    drawn.board.draw()
    assert drawn.rows == ["one", "two"]
    drawn.board.notes.write("a note\nand an")
    assert drawn.rows == ["a note", "one", "two"]
    drawn.board.notes.write("other\n")
    drawn.board.answer.write("The answer")
    drawn.board.draw()
    assert drawn.rows == ["a note", "and another", "The answer", "one", "two"]
    drawn.board.notes.write("later\n")
    drawn.board.answer.write(" goes on\n")
    drawn.board.notes.write("after it\n")
    assert drawn.rows == ["a note", "and another", "later", "The answer goes on", "after it", "one", "two"]
    assert drawn.answers.getvalue() == "The answer goes on\n"


def test_an_answer_is_written_as_it_is_whatever_rows_it_takes(monkeypatch):
    drawn = Drawn(monkeypatch)
    said = "word " * 100 + "x" * 200 + "好" * 100 + "\n" + "y" * COLUMNS + "\nend"
    for character in said:
        drawn.board.answer.write(character)
        if character in " x好":
            drawn.board.draw()
    drawn.board.close()
    assert drawn.answers.getvalue() == f"{said}\n"
    by_itself = pyte.Screen(COLUMNS, ROWS)
    pyte.Stream(by_itself).feed(said.replace("\n", "\r\n"))
    assert drawn.rows == [*(row.rstrip() for row in by_itself.display if row.strip()), "one", "two"]


def test_a_line_that_is_written_over_itself_is_shown_as_it_is_in_the_end(monkeypatch):
    drawn = Drawn(monkeypatch)
    drawn.board.notes.write("10 %\r50 %\r")
    drawn.board.notes.write("100 %\nby Windows\r\n")
    assert drawn.rows == ["100 %", "by Windows", "one", "two"]


def test_what_was_written_last_is_shown_though_its_line_has_no_end(monkeypatch):
    drawn = Drawn(monkeypatch)
    drawn.board.notes.write("no end")
    drawn.board.close()
    drawn.board.notes.write("after it\n")
    assert drawn.rows == ["no end", "one", "two", "after it"]


def test_more_lines_than_the_terminal_has_are_cut(monkeypatch):
    drawn = Drawn(monkeypatch, lambda _: [f"line {number}" for number in range(2 * ROWS)])
    for _ in range(3):
        drawn.board.draw()
    assert drawn.rows == [f"line {number}" for number in range(ROWS - 1)]


def test_threads_may_write_at_the_same_time(monkeypatch):
    drawn = Drawn(monkeypatch)

    def write() -> None:
        for _ in range(50):
            drawn.board.notes.write("note\n")
            drawn.board.draw()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn.rows == ["note"] * (ROWS - 3) + ["one", "two"]


def test_the_streams_stand_for_those_of_the_terminal(monkeypatch):
    drawn = Drawn(monkeypatch)
    assert drawn.board.notes.writable()
    assert not drawn.board.notes.isatty()  # nobody else is to draw on it
    assert drawn.board.notes.encoding == drawn.notes.encoding
