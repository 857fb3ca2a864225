"""The sound of answers, as WAV files."""

from __future__ import annotations

import wave
from pathlib import Path

from ..errors import SettingsError
from ..events import Event
from ..items import Audio

__all__ = ["Recording"]


class Recording:
    """Writes each answer's sound to a file of its own, as it comes: `answer.wav`, `answer-2.wav`, …

    Sound keeps the rate it comes in. What another stage says in the same answer, or in another rate, has a file
    `answer-STAGE-RATE.wav`.
    Raises: SettingsError at once for a file that no folder can hold; OSError.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise SettingsError(f"{path} cannot be written: it needs a folder that is there, and a name of its own.")
        self._path = path
        self._answers = 0
        self._files: dict[tuple[str, int, int], tuple[Path, wave.Wave_write]] = {}

    def take(self, event: Event) -> None:
        sound = event.item
        if not isinstance(sound, Audio):
            return
        kind = (event.stage or "", sound.rate_hz, sound.channels)
        if kind not in self._files:
            self._files[kind] = self._begin(*kind)
        self._files[kind][1].writeframes(sound.pcm)

    def end(self) -> list[Path]:
        """The answer is over: the files that it is in."""
        for _, file in self._files.values():
            file.close()
        written = [path for path, _ in self._files.values()]
        self._files.clear()
        return written

    def _begin(self, stage: str, rate_hz: int, channels: int) -> tuple[Path, wave.Wave_write]:
        self._answers += not self._files
        number = f"-{self._answers}" if self._answers > 1 else ""
        kind = f"-{stage}-{rate_hz}" if self._files else ""
        path = self._path.with_name(f"{self._path.stem}{number}{kind}{self._path.suffix}")
        path.touch()  # raises here if it may not: `wave` would leave a traceback on standard error besides
        file = wave.open(str(path), "wb")  # noqa: SIM115  (open as long as the answer goes on)
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        return path, file
