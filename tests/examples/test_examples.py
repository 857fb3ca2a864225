"""What holds of every example: it passes the check, says how it is run, and is in the table and the tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import EXAMPLES

FILES = sorted(EXAMPLES.glob("*.py"))
TESTS = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=lambda file: file.stem)


@each([file for file in FILES if re.search(r"^flows? = ", file.read_text(encoding="utf-8"), re.MULTILINE)])
def test_ezflow_check_passes(file):
    command = [sys.executable, "-m", "ezflow", "check", str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pipeline verified" in done.stdout


@each(FILES)
def test_its_docstring_says_how_it_is_run_and_so_does_the_table(file):
    about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert about is not None
    assert re.search(rf"(python|ezflow serve) examples/{file.name}", about)
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| \[`{file.name}`\]\({file.name}\) \|.*$", table, re.MULTILINE)
    assert f"examples/{file.name}" in row


@each(FILES)
def test_a_test_runs_it(file):
    assert file.stem in TESTS
