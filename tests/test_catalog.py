"""`ezflow modules` and `ezflow new module`, as a person runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ezflow.catalog import Broken, catalog, folder, installed

MINE = '''
import attrs
from ezflow import Audio, Module, Turn, module

@attrs.frozen
class Options:
    voice: str = "x"
    speed: float = 1.0

@module(options=Options, key="TTS")
class Speaks(Module[str, Audio]):
    """Says a text.

    More of it.
    """

    def load(self):
        with self.needs("a-package-that-nobody-has", extra="mine"):
            pass
        with self.needs("trio", extra="mine"):
            pass

    async def process(self, text: str, turn: Turn) -> Audio:
        return Audio(b"", 8000)

@module
def upper(text: str) -> str:
    """Capitals."""
    return text.upper()

class NotOne:
    pass
'''


def ezflow(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ezflow", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def test_a_folders_modules_are_listed_with_types_options_and_what_is_missing(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text("raise RuntimeError('a test is no module')")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.py").write_text("raise RuntimeError('nor is this')")
    speaks, upper = catalog(folder(tmp_path))
    assert not isinstance(speaks, Broken)
    assert not isinstance(upper, Broken)
    assert (speaks.name, speaks.takes, speaks.gives, speaks.about) == ("Speaks", "str", "Audio", "Says a text.")
    assert (speaks.options_key, speaks.options) == ("TTS", ("voice", "speed"))
    assert speaks.missing == ("a-package-that-nobody-has",)
    assert (upper.name, upper.takes, upper.gives, upper.missing) == ("upper", "str", "str", ())


def test_what_others_import_is_listed_once_where_it_is_defined(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "other.py").write_text(
        "from ezflow.testing import FakeLLM\nfrom ezflow import Module\nalias = FakeLLM\n"
    )
    assert [entry.name for entry in catalog(folder(tmp_path)) if not isinstance(entry, Broken)] == ["Speaks", "upper"]


def test_a_file_that_cannot_be_imported_is_named_and_the_rest_is_listed(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "wrong.py").write_text("import no_such_package_anywhere")
    done = ezflow("modules", tmp_path)
    assert done.returncode == 1
    assert "Speaks  str -> Audio  TTS: voice, speed  (not installed: a-package-that-nobody-has)" in done.stdout
    assert "cannot be imported: ModuleNotFoundError" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_installed_presets_are_listed():
    entries = [entry for entry in catalog(installed()) if not isinstance(entry, Broken)]
    known = {entry.name: entry for entry in entries}
    assert {"Moonshine", "Hibari", "SileroVAD", "LocalLLM", "Ollama", "Sentences", "without_markdown"} <= set(known)
    assert known["Hibari"].place == "tts/hibari.py"
    assert known["Ollama"].options_key == "LLM"
    assert len(entries) == len(known)


@pytest.mark.parametrize("kind", [[], ["--http"]], ids=["plain", "http"])
def test_a_new_module_and_its_test_pass_as_they_are_written(tmp_path, kind):
    done = ezflow("new", "module", "TryMe", *kind, "--in", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "try_me.py").exists()
    pytest_run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_try_me.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert pytest_run.returncode == 0, pytest_run.stdout
    listed = ezflow("modules", tmp_path)
    assert "TryMe  str -> str" in listed.stdout
    again = ezflow("new", "module", "TryMe", "--in", tmp_path)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


@pytest.mark.parametrize("name", ["try_me", "1x", "Try Me", "../X", ""])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    done = ezflow("new", "module", name, "--in", tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "like Shouter" in done.stderr
