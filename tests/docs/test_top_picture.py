"""The picture of `ezflow top` can be taken anew, of a real server under load; it is in .artifacts of a CI run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chromium import CHROMIUM
from top_picture import PICTURE, screen, served, take


@pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on the PATH: no picture of ezflow top is taken (apt install chromium)",
)
def test_a_picture_of_a_server_under_load_is_taken(pytestconfig: pytest.Config):
    folder = pytestconfig.rootpath / ".artifacts"
    folder.mkdir(exist_ok=True)
    with served() as url:
        frame = screen(url)
    for stage in ("ollama", "sentences", "gpt_sovits"):
        assert frame.count(stage) >= 3
    for user in ("ann", "emil"):
        assert user in frame
    assert "connections_in_use 14" in frame
    take(folder / "top.png", frame)
    assert (folder / "top.png").stat().st_size > 10_000


def test_the_page_shows_it():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "watch-it-run.md"
    assert f"../pictures/{PICTURE.name}" in page.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size < 200_000
