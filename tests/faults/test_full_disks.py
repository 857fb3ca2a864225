"""Disks without room: a real file system of two megabytes, for the weights, for the store, and for what is said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
from processes import Process, served, started
from programs import answer
from reachable import Post, becomes
from test_weights import DATA, Hub, make
from test_weights import hub as hub  # a fixture

from ezflow.client import Client
from ezflow.fetch import Url
from ezflow.weights import DiskFull, Weights, WeightsError, WeightsMissing, find, pull, require

SIZE = 2 * 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")


class Disk:
    """A file system of its own, and a file that takes the room in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def leave(self, room: int) -> None:
        """Fill it up to so many bytes."""
        self._filler.unlink(missing_ok=True)
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def weights(hub: Hub, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Weights of 300 kB, whose cache is on the disk."""
    monkeypatch.setenv("EZFLOW_CACHE", str(disk.path / "cache"))
    return make(Url("the hub", hub.url))


def kept(weights: Weights) -> set[str]:
    return {path.name for path in weights.path.parent.iterdir()}


def test_models_pull_says_how_much_room_is_needed_and_where(disk):
    command = [sys.executable, "-m", "ezflow", "models", "pull"]
    environment = os.environ | {"EZFLOW_CACHE": str(disk.path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert f"{disk.path}/models has 2.1 MB free, but 491.4 MB are needed" in done.stderr
    assert "EZFLOW_CACHE=/path/to/folder ezflow models pull" in done.stderr
    assert "Traceback" not in done.stderr


class Asked(list[str | None]):
    """What a hub is asked for; at each time, and before it answers, something is done."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._then = then

    def append(self, asked: str | None) -> None:
        super().append(asked)
        self._then()


def test_a_disk_that_others_fill_during_a_pull_is_said_and_gets_its_room_back(disk, hub, weights, count, is_long):
    """Whatever room is left to it, down to none: no half file stays, and no file is found."""
    rooms = range(0, len(DATA), PAGE if is_long else 16 * PAGE)
    for room in rooms:
        hub.ranges = Asked(partial(disk.leave, room))
        with pytest.raises(DiskFull, match=r"make room there, or choose another disk with EZFLOW_CACHE="):
            pull(weights)
        assert kept(weights) == {"tiny.gguf.lock"}
        assert find(weights) is None
        disk.empty()
    hub.ranges = []
    with pytest.raises(WeightsMissing, match="ezflow models pull"):
        require(weights)  # as the start of a server that needs them has it
    assert pull(weights).fetched
    assert require(weights).read_bytes() == DATA
    count(pulls=len(rooms))


def test_what_lies_beside_the_weights_needs_room_too(disk, weights, count):
    """Whatever room is left after the weights themselves, down to none; with room it goes on from there."""
    rooms = range(0, 5 * PAGE, PAGE)
    failed = 0
    for room in rooms:

        def fill(done: int, total: int, room: int = room) -> None:
            if done == total:
                disk.leave(room)

        try:
            pull(weights, fill)
        except DiskFull:
            failed += 1
            assert find(weights) is None
        disk.empty()
        if find(weights) is None:
            assert pull(weights).source == "a file that was there"  # whole, and not fetched again
        assert require(weights).read_bytes() == DATA
        for name in kept(weights):
            (weights.path.parent / name).unlink()
    assert failed
    count(pulls=len(rooms), without_room=failed)


def test_a_cache_that_has_no_room_for_a_folder_says_so(disk, weights):
    while True:  # until not even an inode is left
        try:
            (disk.path / os.urandom(8).hex()).write_bytes(bytes(PAGE))
        except OSError:
            break
    with pytest.raises(WeightsError, match=r"EZFLOW_CACHE=/path/to/folder"):
        pull(weights)


TALKS = """
from ezflow.testing import FakeLLM
flow = FakeLLM("{}", first_s=0.0, each_s=0.0)
"""


async def test_a_store_without_room_is_told_in_each_turn_and_has_all_when_there_is_room(tmp_path, disk, count):
    """Of what was told as stored nothing is lost, also when the server is killed; the rest is stored with the next."""
    store = ("--store", f"sqlite:///{disk.path / 'history.db'}")
    said: list[str] = []

    async def turn(client: Client, text: str) -> list[str]:
        said.append(text)
        events = [event async for event in client.turn(text)]
        assert (events[-1].type, events[-1].reason) == ("turn.ended", "done")
        return [event.error.name for event in events if event.type == "error"]

    async with served(TALKS, tmp_path, *store) as server:
        async with Client(server.url, user="ann") as client:
            assert await turn(client, "before") == []
            disk.leave(0)
            lost = 0
            while not (errors := await turn(client, f"{len(said)}:" + "x" * 4000)):  # until what SQLite has is full
                assert len(said) < 100
            for number in range(5):
                assert errors == ["StoreError"]
                lost += 1
                errors = await turn(client, f"full {number}")
            disk.empty()
            assert await turn(client, "after") == []
        server.process.kill()
        await server.ended()
        assert "full" in server.said
    async with served(TALKS, tmp_path, *store) as server:
        assert [text for _, text in await remembered(server)] == [text for text in said for _ in range(2)]
    count(turns_without_room=lost, turns=len(said))


async def remembered(server: Process) -> list[tuple[str, str]]:
    body = await trio.to_thread.run_sync(answer, f"{server.url}/history?user=ann")
    return [(message["role"], message["content"].strip()) for message in body["messages"]]


async def test_a_store_that_cannot_be_made_for_want_of_room_is_an_error_at_the_start(tmp_path, disk):
    disk.leave(0)
    options = ("--port", "0", "--store", f"sqlite:///{disk.path / 'history.db'}")
    async with started(TALKS, tmp_path, *options) as server:
        assert await server.ended() == 1
    assert "history.db" in server.said
    assert "full" in server.said
    assert "Traceback" not in server.said


async def test_a_server_goes_on_where_what_it_says_and_logs_has_no_room(tmp_path, count):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    async with started(TALKS, tmp_path, "--port", str(port), said_to="/dev/full") as server:
        server.url = f"http://127.0.0.1:{port}"
        async with Client(server.url, user="ann") as client:
            await becomes(lambda: listens(port), "it listens")
            for _ in range(3):
                assert [event.type async for event in client.turn("x")][-1] == "turn.ended"
            post = await Post.to(server, "/turns", {"user": "ann", "input": 1})  # is logged
            await post.line()
            await post.vanish()
        server.process.terminate()
        assert await server.ended() == 0
    count(turns=3)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
