"""What is asked: a WAV, or lines, typed or piped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import trio

from ..errors import SettingsError
from ..items import Audio

__all__ = ["Inputs", "read_input", "sound_in"]

PIECE = 64 * 1024


class Inputs:
    """Questions from a file descriptor, as they come: each line is one, but a WAV is one as a whole."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._rest = b""
        self._ended = False
        self._begun = False

    async def next(self) -> str | Audio | None:
        """The next question; None after the last. Raises: SettingsError for a WAV that is none."""
        if not self._begun:
            self._begun = True
            while len(self._rest) < 4 and b"\n" not in self._rest and await self._more():
                pass
            if self._rest[:4] == b"RIFF":
                return await self._sound()
        while True:
            while b"\n" not in self._rest and await self._more():
                pass
            if not self._rest:
                return None
            line, _, self._rest = self._rest.partition(b"\n")
            if text := line.decode(errors="replace").strip():
                return text

    async def _sound(self) -> Audio:
        pieces = [self._rest]
        self._rest = b""
        while await self._more():
            pieces.append(self._rest)
            self._rest = b""
        return sound_of(b"".join(pieces), "standard input")

    async def _more(self) -> bool:
        """Read what comes next; False at the end."""
        if self._ended:
            return False
        # A thread that is left waiting for a terminal dies with the process: it holds no lock of Python's.
        piece = await trio.to_thread.run_sync(os.read, self._source, PIECE, abandon_on_cancel=True)
        self._ended = not piece
        self._rest += piece
        return bool(piece)


def sound_in(file: Path) -> Audio:
    """A WAV's sound. Raises: SettingsError."""
    try:
        return sound_of(file.read_bytes(), file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error


def sound_of(data: bytes, name: str | Path) -> Audio:
    """A WAV's sound. Raises: SettingsError."""
    try:
        return Audio.from_wav(data)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error


def read_input(given: str, stdin: BinaryIO) -> str | Audio:
    """What a command line gives as a question: a text, the name of a WAV, or `-` for what standard input holds.

    Raises: SettingsError for a WAV that is none or cannot be read, and where nothing is asked.
    """
    if given == "-":
        data = stdin.read()
        if not data:
            raise SettingsError("standard input is empty: write what is asked there, or --input TEXT.")
        if data[:4] == b"RIFF":
            return sound_of(data, "standard input")
        return data.decode(errors="replace").rstrip("\r\n")
    return sound_in(Path(given)) if given.lower().endswith(".wav") else given
