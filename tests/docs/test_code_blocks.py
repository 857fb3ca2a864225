"""Every block of code on the pages runs, page by page, as a reader would paste it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "changes/README.md")),
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
# Pages that tests of their own play, since they need a server, or files of a certain name.
PLAYED = {"tutorial.md": "test_tutorial.py", "clients.md": "test_clients_page.py"}
# What a reader has, besides what the project installs.
COMMANDS = {".", "cd", "curl", "docker", "journalctl", "mkdir", "printf", "python3", "sudo", "systemctl"}
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def of(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(blocks(page, language) for language in languages)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in of("python") if page.name not in PLAYED], ids=name)
def test_each_block_of_a_page_runs(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("played_by", PLAYED.values())
def test_a_page_that_is_left_out_here_is_played_elsewhere(played_by):
    assert (Path(__file__).parent / played_by).is_file()


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_first_example_prints_what_it_says_also_under_python_c(page):
    example = blocks(ROOT / page)[0]
    said = re.search(r"# (\[.*\])$", example, re.MULTILINE)
    assert said is not None
    assert len(example.splitlines()) == 12
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == said[1]


@pytest.mark.parametrize("page", of("sh"), ids=name)
def test_each_command_of_a_page_exists(page):
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
        if not words:
            continue
        assert words[0] in COMMANDS or words[0].startswith(".nox/") or shutil.which(words[0], path=PATH), line
        for module in re.findall(r"python -m ([\w.]+)", line):
            assert importlib.util.find_spec(module) is not None, line
        for file in re.findall(r"\b(?:examples|tests)/[\w/]+\.\w+", line):
            assert (ROOT / file).is_file(), line


@pytest.mark.parametrize("page", of("json"), ids=name)
def test_each_line_of_json_is_json(page):
    for line in "".join(blocks(page, "json")).splitlines():
        assert isinstance(json.loads(line), dict)


def test_no_page_tells_anyone_to_install_the_strangers_library():
    for page in PAGES:
        assert not re.search(r"pip install [\"']?ezflow(?!-trio)", page.read_text(encoding="utf-8"))
