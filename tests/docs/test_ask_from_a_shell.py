"""docs/how-to/ask-from-a-shell.md, played: its flow saved, its commands run in a shell, what they print compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ask-from-a-shell.md"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_reader_who_does_what_the_page_says_sees_what_it_says(tmp_path):
    program = tmp_path / "bin" / "ezflow"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ezflow "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    page = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"```\n(flow: .*?)```", page, re.DOTALL)
    assert shown is not None
    said = told = ""
    compared = 0
    for language, text in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            (tmp_path / "flow.py").write_text(text)
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
            )
            said, told = done.stdout, told or done.stderr
        else:
            pattern = ".*?".join(map(re.escape, text.split("…")))
            assert re.fullmatch(pattern, said), said
            compared += 1
    assert compared == 3
    assert (tmp_path / "answer.wav").is_file()
    # What is drawn on a terminal are the lines that stand at the end of a log; its times are those of a fast machine.
    drawn = [line for line in shown[1].splitlines() if not line.startswith("You said")]
    assert [shape(line) for line in drawn] == [shape(line) for line in told.splitlines() if not line.startswith(" ")]


def shape(line: str) -> str:
    return re.sub(r" *\d+\.\d\d s", " _", line)
