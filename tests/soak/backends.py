"""The model servers' stand-in, which now and then dies, freezes or talks nonsense; and the times at which it did.

It is a process of its own (served/stubs.py), so that its death is a death (SIGKILL) and its freezing a freezing
(SIGSTOP). `python -m tests.soak.backends CORES [PORT]`; SIGUSR1 has it talk nonsense for NONSENSE_S.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from math import inf
from time import monotonic

import trio

from ..bench.served.processes import ROOT
from ..bench.served.stubs import Connection, main

NONSENSE_S = 1.0
FRAME_BYTES = 640  # 20 ms
SPOKEN_BYTES = 8 * FRAME_BYTES
WAV_BYTES = 44  # of a WAV's header
CHUNKS = (
    b"\0\xff no HTTP at all \r\n\r\n",
    b"6\r\n{oops\n\r\n",
    b'c\r\n{"done":12}\n\r\n',
    b"zz\r\n",
    b"3\r\n\xff\xfe\n\r\n",
)


def spoken(words: str) -> bytes:
    """Sound that the stand-in understands, 16 kHz, mono: the words themselves, as long as a word must be."""
    return words.encode().ljust(SPOKEN_BYTES)


class Nonsense(Connection):
    """While it is time for nonsense, each piece that is due goes out as something else. It hears what is `spoken`."""

    until = 0.0

    def _asked(self, path: str, body: bytes) -> None:
        if path == "/v1/audio/transcriptions":
            _, _, sound = body.partition(b"RIFF")
            self._whole({"text": sound[WAV_BYTES - 4 :].split(b"  ", 1)[0].decode()})
        else:
            super()._asked(path, body)

    def send(self, data: bytes) -> None:
        super().send(data if monotonic() > self.until else random.choice(CHUNKS))


class Backends:
    """The stand-in, seen from those who have to bear with it. `close` it."""

    def __init__(self, cores: str) -> None:
        self.times: list[tuple[str, float, float]] = []
        self._cores = cores
        self._process = self._start("0")
        assert self._process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        if found is None:
            raise RuntimeError("the backends' stand-in did not start")
        self.port = int(found[1])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def disturbed(self, begin: float, end: float, *kinds: str) -> bool:
        """Was there a fault of these kinds (any, if none is named) between two times?"""
        return any(first <= end and begin <= last for kind, first, last in self.times if not kinds or kind in kinds)

    async def misbehave(self, rng: random.Random) -> None:
        """One fault, from its begin to its end."""
        if self._process.poll() is not None:
            raise RuntimeError("the backends' stand-in has died by itself: it has said why")
        kind = rng.choice(("dead", "frozen", "nonsense"))
        begin = monotonic()
        self.times.append((kind, begin, inf))
        if kind == "dead":
            self.close()
            await trio.sleep(rng.uniform(0.1, 1.0))
            self._process = self._start(str(self.port))
            await self._listens()
        elif kind == "frozen":
            os.kill(self._process.pid, signal.SIGSTOP)
            try:
                await trio.sleep(rng.uniform(0.2, 2.0))
            finally:
                os.kill(self._process.pid, signal.SIGCONT)
        else:
            os.kill(self._process.pid, signal.SIGUSR1)
            await trio.sleep(NONSENSE_S + 0.2)
        self.times[-1] = (kind, begin, monotonic())

    async def _listens(self) -> None:
        with trio.fail_after(30):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                except OSError:
                    await trio.sleep(0.02)
                else:
                    return

    def _start(self, port: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.soak.backends", self._cores, port]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _talk_nonsense(*_: object) -> None:
    Nonsense.until = monotonic() + NONSENSE_S


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _talk_nonsense)
    main(Nonsense)
