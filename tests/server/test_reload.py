"""`ezflow serve --reload`: a file that changes gives a new worker, and a fault in it takes the old one from nobody."""

from __future__ import annotations

import os
import time

import pytest
import trio
from supervised import ask, gone, supervised

from ezflow.client import Client
from ezflow.server.reload import LOOK_S, Watched

ANSWERS = """
import os
from collections.abc import AsyncIterator
from pathlib import Path

import trio
import words

from ezflow import Module, Turn, module


@module
class Answers(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield f"{words.ANSWER} {os.getpid()}"
        while text == "wait" and not Path("go").exists():
            await trio.sleep(0.02)


flow = Answers()
"""


@pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")
async def test_a_change_gives_a_new_worker_and_a_fault_leaves_the_old_one(tmp_path):
    pipeline, words = tmp_path / "pipeline.py", tmp_path / "words.py"
    words.write_text("ANSWER = 'one'")
    async with supervised(tmp_path, "--reload", "--grace", "30", flow=ANSWERS) as server:
        (url,) = await server.urls(0)
        async with Client(url, user="ann") as ann, ann.turn("wait") as turn:
            old = int([await anext(turn) for _ in range(2)][1].item.split()[1])

            words.write_text("ANSWER = 'two' +")
            await server.until(r"words\.py changed: starting anew\n")
            await server.until(r"SyntaxError[^$]*does not start \(exit code 1\): what ran before goes on")
            assert await ask(url, user="bob") == [f"one {old}"]

            # In a module that is new, and has a fault of its own; then in a file that is missing.
            pipeline.write_text(ANSWERS.replace("import words", "import deep.words as words"))
            await server.until(r"No module named 'deep'")
            await server.until("what ran before goes on", 2)
            (tmp_path / "deep").mkdir()
            (tmp_path / "deep" / "words.py").write_text("ANSWER = nothing")
            pipeline.touch()
            await server.until(r"NameError")
            await server.until("what ran before goes on", 3)
            (tmp_path / "deep" / "words.py").write_text("ANSWER = 'two'")
            await server.until(r"\nwords\.py changed: starting anew\n[^$]*Started anew")

            # Nobody is refused meanwhile; the old one ends its turn, and leaves.
            *_, last = [await ask(url, user=f"user-{number}") for number in range(5)]
            assert last[0].startswith("two ")
            (tmp_path / "go").touch()
            assert [event.reason async for event in turn][-1] == "done"
            await gone(old)
        assert "died" not in server.said


@pytest.fixture
def watched(tmp_path):
    for name in ("target.py", "part.py"):
        (tmp_path / name).write_text("")
    watched = Watched(tmp_path / "target.py")
    watched.follow([str(tmp_path / "part.py")], time.time_ns())
    return watched


async def changes(watched):
    with trio.move_on_after(10 * LOOK_S):
        return [file.name for file in await watched.changed()]
    return []


async def test_only_what_is_written_is_a_change(watched, tmp_path, autojump_clock):
    (tmp_path / "other.py").write_text("")
    (tmp_path / "part.py").read_text()
    assert await changes(watched) == []
    (tmp_path / "part.py").write_text("1")
    assert await changes(watched) == ["part.py"]
    (tmp_path / "target.py").unlink()
    assert await changes(watched) == ["target.py"]


async def test_several_files_that_are_saved_one_after_the_other_are_one_change(watched, tmp_path, autojump_clock):
    async def save():
        (tmp_path / "part.py").write_text("1")
        await trio.sleep(1.5 * LOOK_S)
        (tmp_path / "target.py").write_text("1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(save)
        assert await changes(watched) == ["part.py", "target.py"]


async def test_what_is_saved_while_it_is_read_is_a_change(watched, tmp_path, autojump_clock):
    began = time.time_ns()
    while time.time_ns() < began + 20_000_000:  # files are dated by a clock that ticks a hundred times a second
        await trio.lowlevel.checkpoint()
    (tmp_path / "part.py").write_text("1")
    watched.follow([str(tmp_path / "part.py")], began)
    assert await changes(watched) == ["part.py"]


async def test_after_a_fault_a_file_that_is_made_beside_is_a_change(watched, tmp_path, autojump_clock):
    watched.follow([], time.time_ns(), failed=True)
    assert await changes(watched) == []
    (tmp_path / "missing.py").write_text("")
    assert await changes(watched) == ["missing.py"]
