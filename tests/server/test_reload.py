"""`ezflow serve --reload`: a file that changes gives a new worker, and a fault in it takes the old one from nobody."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
import trio
from supervised import ask, gone, running, supervised

from ezflow.client import Client
from ezflow.server.config import Settings
from ezflow.server.reload import LOOK_S, Watched
from ezflow.server.workers import Supervisor

needs_posix = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")

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


@needs_posix
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


# A file that says which process reads it, and comes to no end; and a module that never opens, and ignores the signal.
HANGS = """
import os
import threading

print("hangs:", os.getpid(), flush=True)
threading.Event().wait()
"""
NEVER_OPENS = """
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ezflow import Module, Turn, module


@module
class Hangs(Module[str, str]):
    @asynccontextmanager
    async def lifespan(self):
        print("hangs:", os.getpid(), flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
        yield

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text


flow = Hangs()
"""


async def hanging(server, times=1):
    """The process that hangs in its start."""
    return int((await server.until(r"hangs: (\d+)\n", times))[1])


@needs_posix
@pytest.mark.parametrize(
    ("file", "hangs"), [("words.py", HANGS), ("pipeline.py", NEVER_OPENS)], ids=["endless file", "endless opening"]
)
async def test_a_change_ends_a_start_that_hangs_and_whoever_died_meanwhile_has_a_successor(tmp_path, file, hangs):
    (tmp_path / "words.py").write_text("ANSWER = 'one'")
    async with supervised(tmp_path, "--reload", "--grace", "0.1", "--cleanup-s", "0.1", flow=ANSWERS) as server:
        (url,) = await server.urls(0)
        (tmp_path / file).write_text(hangs)
        new = await hanging(server)
        (answer,) = await ask(url)
        old = int(answer.removeprefix("one "))

        os.kill(old, signal.SIGKILL)
        await server.until(rf"worker 1 \(process {old}\) died: SIGKILL; another starts at once")
        (tmp_path / "words.py").write_text("ANSWER = 'two'")
        (tmp_path / "pipeline.py").write_text(ANSWERS)
        assert (await ask(url))[0].startswith("two ")
        await server.until("Started anew")
        await gone(new)
        assert server.said.count("died") == 1

        # Whoever dies next is the second in a row, though a file has changed meanwhile.
        os.kill(int((await ask(url))[0].removeprefix("two ")), signal.SIGKILL)
        await server.until(r"died: SIGKILL; another starts in 1 s")
    assert "does not start" not in server.said


@needs_posix
async def test_a_change_ends_the_start_of_a_replacement_too(tmp_path):
    (tmp_path / "words.py").write_text("ANSWER = 'one'")
    async with supervised(tmp_path, "--reload", "--workers", "2", "--worker-port", "0", flow=ANSWERS) as server:
        _, first, second = await server.urls(2)
        died = int((await ask(second))[0].removeprefix("one "))
        (tmp_path / "words.py").write_text(HANGS)
        renewed = await hanging(server)
        os.kill(died, signal.SIGKILL)
        replacement = await hanging(server, 2)
        (tmp_path / "words.py").write_text("ANSWER = 'two'")
        await server.until("Started anew")
        for url in (first, second):
            await until_answered(url, "two ")
        for process in (renewed, replacement):
            await gone(process)


async def until_answered(url, beginning):
    """A worker whose place has been taken may accept a connection before it knows."""
    while not (await ask(url))[0].startswith(beginning):
        pass


@needs_posix
async def test_a_signal_while_a_new_worker_starts_is_no_fault_of_that_one(tmp_path):
    (tmp_path / "words.py").write_text("ANSWER = 'one'")
    async with supervised(tmp_path, "--reload", flow=ANSWERS) as server:
        await server.urls(0)
        (tmp_path / "words.py").write_text(HANGS)
        new = await hanging(server)
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        await gone(new)
    assert "does not start" not in server.said


@needs_posix
async def test_a_start_that_hangs_and_heeds_no_signal_is_killed_in_time(tmp_path, caplog):
    pipeline = tmp_path / "pipeline.py"
    pipeline.write_text("from ezflow.testing import FakeLLM\nflow = FakeLLM()")
    command = [sys.executable, "-m", "ezflow", "serve", str(pipeline), "--grace", "0.1"]
    said: list[str] = []
    settings = Settings(port=0, grace_s=0.1, playground=False)
    supervisor = Supervisor(command, settings, [pipeline], say=said.append, leave_s=0.1)
    async with running(supervisor) as codes:
        await there(lambda: said)
        begun = tmp_path / "begun"
        pipeline.write_text(
            "import os, pathlib, signal, threading\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"pathlib.Path({str(begun)!r}).write_text(f'{{os.getpid()}}\\n')\n"
            "threading.Event().wait()\n"
        )
        await there(lambda: begun.exists() and begun.read_text().endswith("\n"))
        new = int(begun.read_text())
        pipeline.write_text("from ezflow.testing import FakeLLM\nflow = FakeLLM()")
        await there(lambda: "Started anew" in said)
        await gone(new)
        os.kill(os.getpid(), signal.SIGTERM)
    assert codes == [0]
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 1 (process {new}) did not leave: it is killed"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are set by Linux alone")
async def test_a_change_when_no_process_is_to_be_had_leaves_the_old_one(tmp_path):
    import resource

    words = tmp_path / "words.py"
    words.write_text("ANSWER = 'one'")
    async with supervised(tmp_path, "--reload", flow=ANSWERS) as server:
        (url,) = await server.urls(0)
        before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        words.write_text("ANSWER = 'two'")
        await server.until("worker 1: no process can be started: .*Too many open files")
        await server.until(r"It does not start \(no process is to be had\): what ran before goes on")
        assert (await ask(url))[0].startswith("one ")

        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        words.write_text("ANSWER = 'three'")
        await server.until("Started anew")
        await until_answered(url, "three ")


async def there(condition):
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.02)


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


async def test_a_file_that_is_dated_in_the_future_is_no_change_for_ever(watched, tmp_path, autojump_clock):
    read = [str(tmp_path / "part.py")]
    later = time.time() + 3600
    os.utime(tmp_path / "part.py", (later, later))
    assert await changes(watched) == ["part.py"]
    watched.follow(read, time.time_ns())
    assert await changes(watched) == []


async def test_a_name_that_no_file_can_have_is_of_none(watched, tmp_path, autojump_clock):
    watched.follow([str(tmp_path / "part.py"), "/nul\0.py", "/surrogate\ud800.py"], time.time_ns())
    assert await changes(watched) == []
    (tmp_path / "part.py").write_text("1")
    assert await changes(watched) == ["part.py"]


async def test_what_changes_before_it_is_known_what_the_next_worker_reads_is_a_change(
    watched, tmp_path, autojump_clock
):
    (tmp_path / "target.py").write_text("import new")
    (tmp_path / "new.py").write_text("")
    assert await changes(watched) == ["target.py"]
    (tmp_path / "new.py").write_text("1")
    assert await changes(watched) == ["new.py"]
    watched.follow([str(tmp_path / "new.py")], time.time_ns())
    (tmp_path / "part.py").write_text("1")
    assert await changes(watched) == []
