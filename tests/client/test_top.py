"""`ezflow top`: its pictures, and the command as a person or a script runs it, also at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing
from peers import answering

from ezflow import Latest
from ezflow.client import Client
from ezflow.testing import FakeLLM, FakeTTS, Pause
from ezflow.top.picture import picture
from ezflow.top.told import MOST_BYTES, Fill, Run, Session, Stage, Tree, Turn

TOKEN, TEAMS = "a-token-of-more-than-16", "another-token-of-a-team"
EMPTY: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_s": 3723.4,
    "observed": True,
    "stopping": False,
    "loop": {"lag_s": 0.0004, "max_lag_s": 0.0123, "blocks": 2},
    "threads": {"busy": 1, "limit": 6, "waiting": 0},
    "modules": [],
    "sessions": {"count": 0, "busy": 0, "holders": 0, "more": 0, "list": []},
}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def told(*sessions: Session, more: int = 0, **other: Any) -> Tree:
    tree = msgspec.json.decode(msgspec.json.encode(EMPTY | other), type=Tree)
    return attrs.evolve(tree, sessions=attrs.evolve(tree.sessions, list=sessions, more=more))


def session(user: str, *stages: Stage, run: int = 0, **turn: Any) -> Session:
    own = {"id": 3, "flow": "voice", "age_s": 12.34, "ends_in_s": 587.0, "ending": False, "stuck_s": None}
    own["more_stages"] = 0
    return Session(user, 1, None, (Turn(**{**own, **turn}, ear=Fill(5, 64), runs=(Run(run, stages),)),))


WORKS = Stage("local_llm", None, "chat.py:88 process", Fill(0, 16), 1.25, 3, 40)
BLOCKED = Stage("sentences", "room", None, Fill(16, 16), 75.0, 400, 12)


def drawn(tree: Tree, width: int = 140, height: int | None = None) -> list[str]:
    return [line.rstrip() for line in picture(tree, "http://there", width, height, colours=False)]


def test_a_picture_says_how_the_server_does_and_what_each_stage_waits_for():
    assert drawn(told(session("ann", WORKS, BLOCKED))) == [
        "ezflow 1.2.3 at http://there, up 1:02:03",
        "sessions 0, 0 in a turn, 0 holders   loop late by 0.4 ms, at most 12.3 ms, held up 2 times   "
        "threads 1 of 6, 0 wait",
        "USER FLOW  TURN AGE   ENDS  EAR  STAGE     WAITS FOR SINCE IN  OUT JOIN  AT",
        "ann  voice 3    12.3s 09:47 5/64 local_llm (works)   1.2s  3   40  0/16  chat.py:88 process",
        "           3                     sentences room      01:15 400 12  16/16",
    ]


def test_a_run_of_latest_an_ending_turn_and_one_without_stages_are_told_apart():
    lines = drawn(told(session("ann", WORKS, run=2), session("bob", WORKS, ending=True), session("eve")))
    assert [line.split()[2] for line in lines[3:]] == ["3.2", "3", "3"]
    assert lines[4].split()[4] == "ending"
    assert "(none left)" in lines[5]


def test_a_turn_whose_stage_does_not_leave_says_for_how_long():
    lines = drawn(told(session("ann", WORKS, ending=True, stuck_s=65.0), session("ann", WORKS)))
    assert lines[3].startswith("ann  voice 3    12.3s stuck 01:05 5/64 local_llm")
    assert lines[4].split()[4] == "09:47"


def test_idle_sessions_modules_and_a_shutdown_are_told():
    modules = [{"flow": "voice", "stage": "ollama", "values": {"connections_in_use": 3, "connections_idle": 1.0}}]
    lines = drawn(told(Session("ann", 0, 4.2, ()), modules=modules, stopping=True))
    assert lines[0].endswith(", shutting down")
    assert lines[2] == "voice/ollama: connections_in_use 3  connections_idle 1"
    assert lines[4].split() == ["ann", "-", "-", "idle", "4.2s"]


def test_without_metrics_what_is_not_known_is_a_dash():
    stage = Stage("llm", "client", None, None)
    lines = drawn(told(session("ann", stage), observed=False))
    assert "--metrics" in lines[2]
    assert lines[4].split()[-5:] == ["client", "-", "-", "-", "-"]


def test_a_small_screen_shows_the_oldest_and_how_many_more_there_are():
    sessions = [session(f"user-{number}", WORKS, BLOCKED) for number in range(20)]
    lines = drawn(told(*sessions, more=5), width=60, height=12)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 60
    assert lines[-1] == "... and 21 more"
    assert [line.split()[0] for line in lines[3:-1] if line.startswith("user")] == [
        "user-0",
        "user-1",
        "user-2",
        "user-3",
    ]
    for height in range(1, 12):  # one that is too small for anything
        assert drawn(told(*sessions), height=height)


@pytest.mark.parametrize(
    "evil",
    [
        "\x1b[2J\x1b]0;gone\x07",
        "a\rb",
        "x\ny",
        "\x9b31m",
        "\u202eleft",
        "\u2028",
        "\ud800".encode("utf-8", "replace").decode(),
    ],
)
def test_what_a_server_says_never_steers_the_terminal(evil):
    stage = Stage(f"s{evil}", f"w{evil}", f"at{evil}", None, 1.0, 1, 1)
    modules = [{"flow": evil, "stage": evil, "values": {evil: 1.0}}]
    tree = told(session(f"u{evil}", stage, flow=evil), version=evil, modules=modules)
    for line in picture(tree, "http://there", 140, None, colours=True):
        assert ESCAPE.sub("", line).isprintable()
        assert set(ESCAPE.findall(line)) <= {f"\x1b[{code}m" for code in (0, 1, 2, 7, 31, 33)}


def test_wide_characters_take_their_columns():
    (line,) = [line for line in drawn(told(session("安安安", WORKS))) if "安" in line]
    title = next(line for line in drawn(told(session("安安安", WORKS))) if line.startswith("USER"))
    assert title.index("FLOW") == 7  # three characters of two columns, and a space
    assert line.index("voice") == 4
    assert drawn(told(session("安安安", WORKS)), width=5)[3] == "安安"


async def top(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(
            [sys.executable, "-m", "ezflow", "top", *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **environment},
        )


async def test_once_prints_one_picture_of_a_server_at_work(serving):
    flow = Latest(FakeLLM("a b c", first_s=60.0).shown() >> FakeTTS())
    async with serving({"live": flow}, metrics=True) as server:
        async with Client(server.url, user="ann") as client, client.live() as live:
            await live.send("hello")
            await until_busy(server.url)
            done = await top(server.url, "--once", COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert b"\x1b" not in done.stdout
    assert re.match(r"ezflow \S+ at http://127.0.0.1:\d+, up 0:00:\d\d$", lines[0])
    llm, tts = lines[-2:]
    assert llm.split()[:3] == ["ann", "live", "1.1"]
    assert re.search(r"fake_llm +\(works\) +\d\.\ds +1 +0 .* fakes\.py:\d+ process", llm)
    assert re.search(r"fake_tts +input +\d\.\ds +0 +0 +0/16$", tts.rstrip())


async def until_busy(url: str) -> None:
    """Wait until a stage works."""
    from ezflow.client.address import Address
    from ezflow.top.told import ask

    with trio.fail_after(10):
        while True:
            tree = await trio.to_thread.run_sync(ask, Address.of(url), None, 10)
            stages = [it for one in tree.sessions.list for turn in one.turns for run in turn.runs for it in run.stages]
            if len(stages) == 2:
                return


async def test_a_pipe_gets_one_picture_without_once_too(serving):
    async with serving(FakeLLM()) as server:
        done = await top(server.url)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[0].startswith("ezflow ")


async def test_who_may_not_see_is_told_so_and_a_token_comes_from_a_file_or_the_environment(serving, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with serving(FakeLLM(), tokens=[TOKEN, f"{TEAMS} ann"]) as server:
        nobody, team = await top(server.url, "--once"), await top(server.url, "--once", EZFLOW_TOKEN=TEAMS)
        mine = await top(server.url, "--once", EZFLOW_TOKEN=TOKEN)
        filed = await top(server.url, "--once", "--token-file", str(file))
    assert (nobody.returncode, team.returncode, mine.returncode, filed.returncode) == (1, 1, 0, 0)
    assert b"a token is needed" in nobody.stderr
    assert b"stands for named users" in team.stderr
    gone = await top(server.url, "--once")
    assert gone.returncode == 1
    assert b"Is `ezflow serve` running there?" in gone.stderr
    assert (await top("not-a-url", "--once")).returncode == 2


ANSWERS = [
    b"not HTTP at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\xff\xff",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/debug/tree\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\n\x1b[2Jgone!",
    b"",
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_what_is_no_server_of_ezflows_is_an_error_in_a_line(answer):
    async def close(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with answering(answer, then=close) as url:
        done = await top(url, "--once", EZFLOW_TOKEN=TOKEN)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"ezflow: ")
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    assert TOKEN.encode() not in done.stderr


async def test_an_answer_without_end_is_left(monkeypatch):
    async def flood(stream: trio.SocketStream) -> None:
        try:
            for _ in range(MOST_BYTES // 2**20 + 1):
                await stream.send_all(b" " * 2**20)
        except trio.BrokenResourceError:
            pass

    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", then=flood) as url:
        done = await top(url, "--once")
    assert done.returncode == 1
    assert b"more than" in done.stderr


AT_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started CI with it ignored
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "ezflow", "top", *sys.argv[1:]])
"""


@attrs.define
class Terminal:
    """A terminal with `ezflow top` on it."""

    end: trio.lowlevel.FdStream
    process: trio.Process
    shown: str = ""

    async def until(self, text: str) -> None:
        while text not in self.shown:
            self.shown += (await self.end.receive_some()).decode(errors="replace")

    async def left(self) -> int:
        """Its exit code; what it shows meanwhile is read."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            code = await self.process.wait()
            await trio.testing.wait_all_tasks_blocked()  # what it has shown is read
            nursery.cancel_scope.cancel()
        return code

    async def _read(self) -> None:
        try:
            while piece := await self.end.receive_some():
                self.shown += piece.decode(errors="replace")
        except OSError:
            return  # the other end is closed


@asynccontextmanager
async def terminal(*arguments: str, columns: int = 100, lines: int = 24) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", AT_TERMINAL, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment,
    )
    before = termios.tcgetattr(slave)
    try:
        async with trio.lowlevel.FdStream(master) as end:
            with trio.fail_after(20):
                yield Terminal(end, process)
                assert termios.tcgetattr(slave)[3] == before[3]  # the terminal is as it was
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        os.close(slave)


@pytest.mark.parametrize("key", [b"q", b"\x03"])
async def test_at_a_terminal_it_draws_anew_until_q_or_ctrl_c_and_leaves_no_trace(serving, key):
    async with serving(FakeLLM()) as server, terminal(server.url) as screen:
        await screen.until("USER")
        screen.shown = screen.shown.replace("USER", "")
        await screen.until("USER")
        await screen.end.send_all(key)
        assert await screen.left() == 0
        assert screen.shown.endswith("\x1b[?25h\x1b[?1049l")
        assert "Traceback" not in screen.shown


async def test_no_line_is_longer_than_the_screen_nor_more_lines_than_it_has(serving):
    async with serving({"a-flow-with-a-long-name": Pause(60.0)}) as server:
        async with Client(server.url, user="a-user-with-a-very-long-name-of-more-than-it-takes") as client:
            async with client.live() as live:
                await live.send("x")
                async with terminal(server.url, columns=40, lines=6) as screen:
                    await screen.until("\x1b[J")
                    frame = screen.shown.rpartition("\x1b[H")[2].replace("\x1b[K", "").replace("\x1b[J", "")
                    lines = ESCAPE.sub("", frame).split("\r\n")
                    assert len(lines) <= 6
                    assert max(map(len, lines)) <= 40
                    await screen.end.send_all(b"q")
                    assert await screen.left() == 0


async def test_a_server_that_goes_away_is_asked_on(serving):
    async with serving(FakeLLM()) as server, terminal(server.url) as screen:
        await screen.until("USER")
        server.stop.set()
        await screen.until("Asking again")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.left() == 0
