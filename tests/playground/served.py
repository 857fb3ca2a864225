"""A server for a browser: `ezflow serve` as a process of its own, which can be killed and begun again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

START_S = 120.0
END_S = 20.0
TOKEN = "a-token-for-tests-alone"


class Server:
    """`ezflow serve FILE` on a port that stays the same."""

    def __init__(self, target: Path, **environment: str) -> None:
        self.url = ""
        self._target = target
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        self._reader = Thread()
        self._said: list[str] = []

    def start(self) -> None:
        """Returns when it listens: with its models open."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "ezflow", "serve", str(self._target), "--port", port]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        self._said = []
        urls: SimpleQueue[str] = SimpleQueue()
        self._reader = Thread(target=self._read, args=(self._process, urls))
        self._reader.start()
        try:
            url = urls.get(timeout=START_S)
        except Empty:
            url = ""
        if not url:
            self.kill()
            raise AssertionError("".join(self._said))
        self.url = url

    def _read(self, process: subprocess.Popen[str], urls: SimpleQueue[str]) -> None:
        """Read what it says to its end: a pipe that nobody reads would make it wait."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._said.append(line)
                if found := re.search(r"Listening on (http://\S+)", line):
                    urls.put(found[1])
        urls.put("")

    def hang(self) -> None:
        """Let it answer nothing, but end no connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would: it says nothing to anyone."""
        self._end(kill=True)

    def stop(self) -> None:
        """End it as a signal does, and see that it says so by its exit code; whether or not it runs."""
        self._end(kill=False)

    def _end(self, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(timeout=END_S)
        finally:
            process.kill()
            self._reader.join()
        assert kill or process.returncode == 0, "".join(self._said)


@contextmanager
def serving(target: Path, **environment: str) -> Iterator[Server]:
    server = Server(target, **environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()
