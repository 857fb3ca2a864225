"""`FasterWhisper`: speech to text in many languages by a Whisper model in this process, on the CPU or a GPU."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio
from attrs.validators import ge, optional

from ezflow import Audio, Module, Transcript, Turn, Utterance, module, resource

from ..sound import Resampler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FasterWhisper", "FasterWhisperOptions"]

T = TypeVar("T")

RATE_HZ = 16_000
FILES = ("model.bin", "config.json", "tokenizer.json")  # what a folder must hold, or the library asks a hub for it

above_0: Any = ge(1)


@attrs.frozen
class FasterWhisperOptions:
    """What a request may set for its turn; None leaves what the module says."""

    language: str | None = None
    beam_size: int | None = attrs.field(default=None, validator=optional(above_0))


@module(options=FasterWhisperOptions, key="ASR")
class FasterWhisper(Module[Audio | Utterance, str]):
    """Gives the words of each item, once, when it has ended; nothing where nothing is said.

    Whisper hears whole utterances: an Utterance is gathered while it is spoken and understood when it has ended. Of a
    long one the client gets a `Transcript` with `final=False` as each piece is done, and a final one before the words
    go on. `model` is the folder of a model made for CTranslate2; or a name such as "small", which the library fetches
    from its hub, where that can be reached. `language` is a code such as "en"; without one it is found out, which costs
    a pass. Without `vad_filter` Whisper hears words in silence.

    All turns share one model; `workers` passes are made at once, and turns take theirs in the order in which they ask.
    A cancelled turn ends after the piece that is being heard (up to 30 s of speech).

    Takes: Audio or Utterance of any rate and channels. Gives: str, one line.
    Raises: MissingDependency; ModuleOpenError if the model is not there, or cannot run on the device.
    Source: faster-whisper 1.2 (MIT).
    """

    model: str
    device: str = "auto"  # cpu, cuda
    compute_type: str = "default"  # int8, float16, …
    language: str = ""
    beam_size: int = attrs.field(default=5, validator=above_0)
    vad_filter: bool = True
    cpu_threads: int = attrs.field(default=0, validator=ge(0))  # 0: the library's choice
    workers: int = attrs.field(default=1, validator=above_0)
    whisper: Any = resource()
    turns: trio.CapacityLimiter = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.turns = trio.CapacityLimiter(self.workers)
        self.whisper = await trio.to_thread.run_sync(self._load)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.whisper.model.unload_model)

    async def process(self, item: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        samples = await _gathered(item)
        if not samples.size:
            return
        text, shown = "", ""
        segments = await self._in_turn(self._begin, samples, turn.options[FasterWhisperOptions])
        while (segment := await self._in_turn(_next, segments)) is not None:
            text = " ".join(f"{text} {segment.text}".split())
            if text != shown:
                shown = text
                await turn.reply(Transcript(text, final=False))
        if text:
            await turn.reply(Transcript(text))
            yield text

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """A step in a thread, when those who asked before have had theirs; a cancelled one is waited for."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self.turns)

    def _begin(self, samples: NDArray[np.float32], asked: FasterWhisperOptions) -> Iterator[Any]:
        language = self.language if asked.language is None else asked.language
        segments, _ = self.whisper.transcribe(
            samples,
            language=language or None,
            beam_size=asked.beam_size or self.beam_size,
            vad_filter=self.vad_filter,
        )
        return iter(segments)

    def _load(self) -> Any:
        # onnxruntime, which it may load, reports to its maker from its import on, if it is not told otherwise.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with self.needs("faster-whisper", extra="whisper"):
            library: Any = importlib.import_module("faster_whisper")
        with self.needs("soxr", extra="whisper"):
            import soxr  # noqa: F401
        folder = Path(self.model).expanduser()
        is_folder = folder.is_dir()
        missing = [name for name in FILES if not (folder / name).exists()] if is_folder else []
        if missing or (not is_folder and _looks_like_a_path(self.model)):
            what = f"holds no {missing[0]}" if missing else "is no folder"
            raise FileNotFoundError(f"{folder} {what}: give `model` {_WANTED}.")
        try:
            return library.WhisperModel(
                str(folder) if is_folder else self.model,
                device=self.device,
                compute_type=self.compute_type,
                cpu_threads=self.cpu_threads,
                num_workers=self.workers,
            )
        except OSError as error:
            if is_folder:
                raise
            raise FileNotFoundError(
                f"the model {self.model!r} is neither in the library's cache nor to be had from its hub, which cannot "
                f"be reached or does not know it: give `model` {_WANTED}."
            ) from error


_WANTED = f"a folder that holds {', '.join(FILES)} and a vocabulary, as ct2-transformers-converter makes it"


def _looks_like_a_path(name: str) -> bool:
    return name.startswith(("/", "~", ".")) or "\\" in name or name.count("/") > 1


def _next(segments: Iterator[Any]) -> Any:
    return next(segments, None)


async def _gathered(item: Audio | Utterance) -> NDArray[np.float32]:
    """All of the sound, when it has ended; brought to Whisper's rate while it is spoken."""
    import numpy as np

    resampler = Resampler(RATE_HZ)
    parts = [resampler.feed(item)] if isinstance(item, Audio) else [resampler.feed(audio) async for audio in item]
    return np.concatenate([*parts, resampler.flush()])
