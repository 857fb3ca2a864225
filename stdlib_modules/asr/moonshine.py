"""`Moonshine`: English speech to text while it is spoken, with the tiny model in the package, on the CPU."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from ezflow import Audio, Module, Transcript, Turn, Utterance, module, resource

from ..sound import Resampler, slices

if TYPE_CHECKING:
    import numpy as np
    from moonshine_voice.transcriber import Stream, Transcriber
    from numpy.typing import NDArray

__all__ = ["Moonshine"]

T = TypeVar("T")

RATE_HZ = 16_000
PIECE_S = 4.0  # of a recording: cheaper than small pieces, as each pass goes over the open line again
QUIET = 0.06  # of the loudest so far: less is a pause
BREATH_S = 0.1  # a pause as short as this is part of the speech
PAUSE_S = 0.25  # from here on a pause is worth a pass, which is mostly done when it has ended the utterance
ENDING_S = 0.7  # a pause that ends an utterance is no longer than this: more may hide a word said softly
PAD_S = 0.1  # of silence around an item: a word that begins at once is else heard twice ("Yes, yes.")

above_0 = attrs.validators.gt(0.0)


@module
class Moonshine(Module[Audio | Utterance, str]):
    """Gives the words of each item, once, when it has ended; nothing for silence or noise, a guess for half a word.

    Meanwhile the client gets a `Transcript` with `final=False` whenever the words change, and a final one
    before they go on. A live Utterance is listened to every `update_s`; a recording in pieces of 4 s.
    All turns share one model, one at work at a time and in the order they ask: the library would serialise
    them itself, and takes twice as long when called from several threads. A cancelled turn waits for its pass
    over the model (0.1 to 0.4 s); its stream is closed at once, or by the pass that is at work then.
    The library's own voice detector has one state for the whole process: next to other sessions a line may be
    cut some milliseconds elsewhere, and a doubtful word heard otherwise. Words never pass between sessions.
    Takes: Audio or Utterance of any rate and channels. Gives: str, tidied: one line, single spaces.
    Raises: MissingDependency; ModuleOpenError if the weights are not there.
    Source: moonshine-voice 0.1.0 (MIT), which holds the tiny English weights (MIT).
    """

    model_dir: str = ""  # a folder of Moonshine weights; by default those in the package
    architecture: str = "tiny"  # of that model: tiny, base, tiny-streaming, small-streaming …
    update_s: float = attrs.field(default=0.5, validator=above_0)
    threshold: float = attrs.field(default=0.3, validator=[above_0, attrs.validators.lt(1.0)])
    worker: _Worker = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.worker = _Worker(await trio.to_thread.run_sync(self._load))
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self.worker.close()

    async def process(self, item: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        text = await self._transcribe(item, turn)
        if text:
            yield text

    async def _transcribe(self, item: Audio | Utterance, turn: Turn) -> str:
        worker, listening = self.worker, _Listening(self.worker.transcriber)
        pace, shown = _Pace(self.update_s), ""
        try:
            async with aclosing(_spoken(item)) as spoken:
                async for audio in spoken:
                    if not pace.due_with(audio):
                        continue
                    text = await worker.do(listening.hear, pace.take())
                    if text != shown:
                        shown = text
                        await turn.reply(Transcript(text, final=False))
            text = shown if pace.all_heard else await worker.do(listening.finish, pace.take())
        finally:
            await worker.retire(listening)
        if text or shown:
            await turn.reply(Transcript(text))
        return text

    def _load(self) -> Transcriber:
        with self.needs("moonshine-voice", extra="speech"):
            from moonshine_voice import string_to_model_arch
            from moonshine_voice.transcriber import Transcriber
            from moonshine_voice.utils import get_model_path
        with self.needs("soxr", extra="speech"):
            import soxr  # noqa: F401
        folder = Path(self.model_dir or get_model_path("tiny-en"))
        if not (folder / "tokenizer.bin").exists():
            raise FileNotFoundError(
                f"there are no Moonshine weights in {folder}: set model_dir to a folder that holds them, or "
                "install the release that brings them along: pip install moonshine-voice==0.1.0"
            )
        # Without return_audio_data=false each pass copies the whole sound into Python lists.
        options = {"return_audio_data": "false", "vad_threshold": str(self.threshold)}
        return Transcriber(folder, string_to_model_arch(self.architecture), options=options)


async def _spoken(item: Audio | Utterance) -> AsyncGenerator[Audio, None]:
    """The sound of an item as it is spoken, none of its pieces longer than a pass should be."""
    if isinstance(item, Audio):
        for piece in slices(item, PIECE_S):
            yield piece
        return
    async for audio in item:
        for piece in slices(audio, PIECE_S):
            yield piece


class _Pace:
    """Gathers sound until a pass over the model is worth it.

    That is every `update_s` of speech, and once in each pause, early enough to be done before the pause has
    ended the utterance: `all_heard` then says that no pass is left to do.
    """

    def __init__(self, update_s: float) -> None:
        self._update_s = update_s
        self._waiting: list[Audio] = []
        self._waiting_s = self._quiet_s = 0.0
        self._loudest = 0.0
        self._speech_waits = self._in_pause = False

    @property
    def all_heard(self) -> bool:
        """Whether the last pass was made in this pause, and nothing but the pause has come since."""
        return self._in_pause and not self._speech_waits and self._quiet_s <= ENDING_S

    def due_with(self, audio: Audio) -> bool:
        """Take this sound too: is a pass worth it now?"""
        self._waiting.append(audio)
        self._waiting_s += audio.duration_s
        loudness = _loudness(audio)
        self._loudest = max(self._loudest, loudness)
        if loudness > QUIET * self._loudest:
            self._quiet_s, self._speech_waits = 0.0, True
        else:
            self._quiet_s += audio.duration_s
        if self._waiting_s >= PIECE_S:
            return True
        if self._quiet_s < PAUSE_S:
            return self._quiet_s < BREATH_S and self._waiting_s >= self._update_s
        return self._speech_waits

    def take(self) -> list[Audio]:
        """What has been gathered, for the pass."""
        gathered, self._waiting = self._waiting, []
        self._waiting_s, self._speech_waits = 0.0, False
        self._in_pause = self._quiet_s >= PAUSE_S
        return gathered


def _loudness(audio: Audio) -> float:
    import numpy as np

    samples = np.frombuffer(audio.pcm, dtype="<i2").astype(np.float32)
    return float(np.sqrt(np.mean(np.square(samples)))) if samples.size else 0.0


class _Worker:
    """The transcriber, and the one thread at a time that may use it."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber = transcriber
        self._turn = trio.CapacityLimiter(1)
        self._retired: deque[_Listening] = deque()

    async def do(self, work: Callable[[list[Audio]], T], sound: list[Audio]) -> T:
        """Work on this sound in a thread, when those who asked before have had theirs."""

        def tidied() -> T:
            try:
                return work(sound)
            finally:
                self._close_retired()

        try:
            return await trio.to_thread.run_sync(tidied, limiter=self._turn)
        finally:
            await self._tidy()  # a stream may have come when the thread had looked, but had not left yet

    async def retire(self, listening: _Listening) -> None:
        """Close a stream without waiting for other turns: whoever is at work does it when done."""
        if not listening.open:
            return
        self._retired.append(listening)
        await self._tidy()

    async def _tidy(self) -> None:
        if self._retired and not self._turn.borrowed_tokens:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._close_retired, limiter=self._turn)

    async def close(self) -> None:
        self._close_retired()
        await trio.to_thread.run_sync(self.transcriber.close)

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.popleft().close()


class _Listening:
    """One stream of the transcriber: what one item says so far. Used by one thread at a time."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber
        self._stream: Stream | None = None
        self._resampler = Resampler(RATE_HZ)

    @property
    def open(self) -> bool:
        return self._stream is not None

    def hear(self, heard: list[Audio]) -> str:
        """The words up to and with this sound."""
        return self._pass([self._resampler.feed(audio) for audio in heard])

    def finish(self, heard: list[Audio]) -> str:
        """The words of all of it; the stream is closed."""
        sound = [self._resampler.feed(audio) for audio in heard]
        try:
            # Not Stream.stop(): it leaves out up to half a second at the end that was not yet looked at.
            return self._pass([*sound, self._resampler.flush(), _silence()])
        finally:
            self.close()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _pass(self, sound: list[NDArray[np.float32]]) -> str:
        import numpy as np

        if self._stream is None:
            self._stream = self._transcriber.create_stream(update_interval=float("inf"))
            self._stream.start()
            sound = [_silence(), *sound]
        self._stream.add_audio(np.concatenate(sound).tolist(), RATE_HZ)
        lines = self._stream.update_transcription(self._transcriber.MOONSHINE_FLAG_FORCE_UPDATE).lines
        return _tidy(line.text for line in lines)


def _silence() -> NDArray[np.float32]:
    import numpy as np

    return np.zeros(round(PAD_S * RATE_HZ), np.float32)


def _tidy(lines: Iterable[str]) -> str:
    """The lines as one, single spaces between words, no comma twice."""
    return re.sub(r",(?:\s*,)+", ",", " ".join(" ".join(lines).split()))
