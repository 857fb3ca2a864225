"""What the editor says: mypy and pyright accept tests/typing/right.py, and reject each marked line of wrong.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing"
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[tuple[str, int], str]]:
    """By checker: the code or rule of the first complaint about each line of the two files."""
    files = [str(HERE / "right.py"), str(HERE / "wrong.py")]
    return {"mypy": mypy(files), "pyright": pyright(files)}


def mypy(files: list[str]) -> dict[tuple[str, int], str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--output=json"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT, check=False)
    complaints = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert complaints, done.stderr
    return first((c["file"], c["line"], c["code"]) for c in complaints if c["severity"] == "error")


def pyright(files: list[str]) -> dict[tuple[str, int], str]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=HERE, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2, done.stdout
    return first(
        (c["file"], c["range"]["start"]["line"] + 1, c.get("rule", "syntax"))
        for c in report["generalDiagnostics"]
        if c["severity"] == "error"
    )


def first(complaints) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for file, line, code in complaints:
        found.setdefault((Path(file).name, line), code)
    return found


def expected(checker: str) -> dict[tuple[str, int], str]:
    lines = (HERE / "wrong.py").read_text().splitlines()
    marks = {number: re.search(rf"# .*{checker}: ([\w-]+)", line) for number, line in enumerate(lines, 1)}
    return {("wrong.py", number): mark[1] for number, mark in marks.items() if mark}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_each_wrong_composition_is_rejected_and_nothing_else(checker, verdicts):
    assert len(expected(checker)) >= 13
    assert verdicts[checker] == expected(checker)
