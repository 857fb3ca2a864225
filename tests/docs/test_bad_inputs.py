"""Every line of docs/bad-inputs.md is what a server answers."""

from __future__ import annotations

import pytest
from bad_inputs import HEAD, PAGE, SECTIONS, produced


@pytest.mark.parametrize("title", SECTIONS)
async def test_what_the_page_says_is_what_the_server_answers(title, caplog):
    said = PAGE.read_text(encoding="utf-8")
    section = f"## {title}\n" + said.partition(f"## {title}\n")[2].partition("\n## ")[0].rstrip() + "\n"
    assert section == await produced(title)
    assert "Traceback" not in section


def test_the_page_has_these_sections_and_no_other():
    said = PAGE.read_text(encoding="utf-8")
    assert said.startswith(HEAD)
    assert [line[3:] for line in said.splitlines() if line.startswith("## ")] == list(SECTIONS)
