"""The wheel, installed with its core dependencies in an empty place, as its user has it: no checkout far and wide."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaged import ROOT, Installed, run
from programs import asked, listening, texts, turn

import ezflow

PLAYGROUND = ROOT / "ezflow" / "server" / "playground"
FLOW = "from ezflow.testing import FakeLLM\nflow = FakeLLM()\n"
TYPED = """\
from ezflow.testing import FakeLLM
from stdlib_modules.text.sentences import Sentences

flow = FakeLLM() >> Sentences()
reveal_type(flow)
"""


@pytest.fixture(scope="module")
def user(installed: Installed) -> Installed:
    (installed.folder / "flow.py").write_text(FLOW, encoding="utf-8")
    return installed


def test_nothing_of_it_comes_from_the_checkout(user):
    where = (
        "import ezflow, stdlib_modules, sys; print(ezflow.__file__, stdlib_modules.__path__[0], *sys.path, sep='\\n')"
    )
    imported, modules, *path = user.run("python", "-c", where).splitlines()
    assert Path(imported).is_relative_to(user.prefix)
    assert Path(modules).is_relative_to(user.prefix)
    assert not [place for place in path if place and Path(place).resolve().is_relative_to(ROOT)]


def test_the_command_says_its_version(user):
    assert user.run("ezflow", "--version") == f"ezflow {ezflow.__version__}\n"
    assert user.run("python", "-m", "ezflow", "--version") == f"ezflow {ezflow.__version__}\n"


def test_two_lines_are_served_with_the_playground(user):
    command = [user.program("ezflow"), "serve", str(user.folder / "flow.py"), "--port", "0"]
    with listening(command, cwd=user.folder, PYTHONPATH="") as url:
        events = turn(url, user="ann", input="hello")
        assert events[-1]["type"] == "turn.ended"
        assert "hello" in "".join(texts(events))
        files = [path for path in PLAYGROUND.iterdir() if path.suffix in (".html", ".css", ".js", ".svg")]
        assert len(files) > 30
        for file in files:
            with asked(f"{url}/playground/{file.name}") as answer:
                assert answer.read() == file.read_bytes()


def test_flows_are_checked_and_drawn(user):
    assert "✅ Pipeline verified" in user.run("ezflow", "check", "flow.py")
    assert user.run("ezflow", "graph", "flow.py") == "fake_llm\n"


def test_the_presets_are_listed_also_those_whose_extra_is_missing(user):
    listed = user.run("ezflow", "modules")
    kinds = {path.parent.name for path in (ROOT / "stdlib_modules").glob("*/__init__.py")} - {"http"}
    assert {line.partition("/")[0] for line in listed.splitlines() if not line.startswith(" ")} == kinds
    assert re.search(r"^  Sentences  str -> str", listed, re.MULTILINE)
    assert re.search(r"^  Moonshine  .*not installed: moonshine-voice", listed, re.MULTILINE)
    assert re.search(r"^  Ollama  .*not installed: httptools", listed, re.MULTILINE)
    assert "cannot be imported" not in listed


def test_a_preset_whose_extra_is_missing_is_checked_and_when_opened_says_what_to_install(user):
    remote = "from stdlib_modules.llm.ollama import Ollama\nflow = Ollama('a-model')\n"
    (user.folder / "remote.py").write_text(remote, encoding="utf-8")
    assert "✅" in user.run("ezflow", "check", "remote.py")
    said = user.run("ezflow", "serve", "remote.py", "--port", 0, code=1)
    assert 'Ollama needs httptools, which is not installed: pip install "ezflow-trio[http]"' in said


def test_the_weights_and_their_licences_are_known(user):
    assert "Apache-2.0" in user.run("ezflow", "models", "list")


def test_a_new_module_passes_its_own_test(user):
    user.run("ezflow", "new", "module", "Shouter")
    assert "2 passed" in user.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shouter.py")


def test_a_type_checker_sees_the_types_of_both_packages(user):
    (user.folder / "typed.py").write_text(TYPED, encoding="utf-8")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", user.program("python")]
    said = run(*mypy, "--cache-dir", user.folder / "mypy", "typed.py", cwd=user.folder)
    assert 'Revealed type is "ezflow.flow.Flow[str, str]"' in said


def test_what_needs_an_extra_says_which(user):
    user.run("ezflow", "new", "module", "Repeats", "--http")
    pytest_run = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_repeats.py")
    assert 'pip install "ezflow-trio[http]"' in user.run(*pytest_run, code=1)
    assert 'pip install "ezflow-trio[client]"' in user.run("ezflow", "talk", "http://127.0.0.1:1", code=1)
    assert 'pip install "ezflow-trio[observe]"' in user.run(
        "ezflow", "serve", "flow.py", "--metrics", "--port", 0, code=1
    )
