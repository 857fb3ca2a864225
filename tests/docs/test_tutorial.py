"""docs/tutorial.md, played as a reader would: files saved under their names, commands run, what they print compared."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
PORT = "3421"
WITHIN_S = 120
INSTALLS = ({"python3", "-m", "venv"}, {".", ".venv/bin/activate"}, {"pip", "install"})


@pytest.mark.model
def test_a_reader_who_does_what_the_tutorial_says_sees_what_it_says(tmp_path):
    checkout = tmp_path / "ezflow"
    checkout.mkdir()
    shutil.copy(ROOT / "pyproject.toml", checkout)  # tools that run inside a checkout take its settings
    with Reader(checkout).reading() as reader:
        for language, text in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            getattr(reader, language)(text.replace(PORT, reader.port))
    assert reader.compared >= 6


class Reader:
    """Someone who sits in a checkout, and has installed what the first step says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said = ""
        self._server: subprocess.Popen[str] | None = None
        self.compared = 0
        with socket.socket() as free:  # the page's port may be taken
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        try:
            yield self
        finally:
            if self._server is not None:
                self._server.terminate()
                self._server.communicate(timeout=30)

    def python(self, text: str) -> None:
        """A file, saved under the name in its first line."""
        name = re.match(r"# (\w+\.py)\n", text)
        assert name is not None, text
        (self._folder / name[1]).write_text(text, encoding="utf-8")

    def sh(self, text: str) -> None:
        """Commands; those that install are left out."""
        for line in text.splitlines():
            words = shlex.split(line)
            if any(what <= set(words) for what in INSTALLS):
                continue
            if words[0] == "cd":
                self._folder = (self._folder / words[1]).resolve(strict=True)
            elif words[:2] == ["ezflow", "serve"]:
                self._serve([*words, "--port", self.port])
            else:
                self._said = self._run(words)

    def text(self, expected: str) -> None:
        """What the last command printed; … stands for anything."""
        pattern = ".*".join(map(re.escape, re.split(r"\n?…\n?", expected.strip())))
        said = re.sub(r" +$", "", self._said, flags=re.MULTILINE).strip()
        assert re.search(pattern, said, re.DOTALL), f"the page says:\n{expected}\nbut:\n{said}"
        self.compared += 1

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            _command(words), cwd=self._folder, env=_environment(), capture_output=True, text=True, timeout=WITHIN_S
        )
        assert done.returncode == (1 if "wrong.py" in words else 0), done.stdout + done.stderr
        return done.stdout

    def _serve(self, words: list[str]) -> None:
        self._server = subprocess.Popen(
            _command(words), cwd=self._folder, env=_environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout is not None
        self._said = ""
        for line in self._server.stdout:
            self._said += line
            if line.startswith("Playground"):
                return
        raise AssertionError(self._said)


def _command(words: list[str]) -> list[str]:
    program, *rest = words
    return {"python": [sys.executable], "ezflow": [sys.executable, "-m", "ezflow"]}.get(program, [program]) + rest


def _environment() -> dict[str, str]:
    """The reader's: she has pytest alone, without the plugins that the checkout's own tests need."""
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | own
