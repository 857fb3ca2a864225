"""A server for a browser: `ezflow serve` as a process of its own, which can be killed and begun again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

END_S = 20.0
TOKEN = "a-token-for-tests-alone"


class Server:
    """`ezflow serve FILE` on a port that stays the same."""

    def __init__(self, target: Path, **environment: str) -> None:
        self.url = ""
        self._target = target
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens: with its models open."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "ezflow", "serve", str(self._target), "--port", port]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if found := re.search(r"Listening on (http://\S+)", line):
                self.url = found[1]
                return
        raise AssertionError("".join(said))

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
            said, _ = process.communicate(timeout=END_S)
        finally:
            process.kill()
        assert kill or process.returncode == 0, said


@contextmanager
def serving(target: Path, **environment: str) -> Iterator[Server]:
    server = Server(target, **environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()
