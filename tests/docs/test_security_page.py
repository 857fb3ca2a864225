"""docs/security.md says what is so: the limits, the tests that hold them, and what ruff is told to overlook."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from ezflow.server.config import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
LIMITS = PAGE.partition("## Limits")[2].partition("\n## ")[0]
TESTS = {
    path.stem: set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    for path in (ROOT / "tests").rglob("test_*.py")
}


@pytest.mark.parametrize(("file", "test"), re.findall(r"`(test_\w+)::(test_\w+)`", PAGE))
def test_each_test_that_holds_a_promise_is_there(file, test):
    assert test in TESTS[file]


def test_each_setting_that_is_a_limit_has_its_row():
    named = {
        name for line in LIMITS.splitlines() for name in re.findall(r"`(\w+)`", line.partition("|")[2].split("|")[0])
    }
    bounds = {field.name for field in attrs.fields(Settings) if field.type in ("int", "float", int, float)}
    assert bounds - {"port", "workers", "block_s"} <= named


def test_what_the_linter_is_told_to_overlook_is_said():
    found = {
        (path.relative_to(ROOT).as_posix(), rule)
        for folder in ("ezflow", "stdlib_modules", "examples")
        for path in (ROOT / folder).rglob("*.py")
        for rule in re.findall(r"# noqa: (S\d+)", path.read_text(encoding="utf-8"))
    }
    assert found == set(re.findall(r"\| `([\w/]+\.py)` \| `(S\d+)` \|", PAGE))
