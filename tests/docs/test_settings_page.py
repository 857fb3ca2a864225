"""docs/configuration.md is what can be set."""

from __future__ import annotations

import re

from settings import PAGE, section, table

from ezflow.server.config import Settings
from ezflow.server.sources import configured
from ezflow.written import read


def test_the_page_is_what_the_settings_say():
    assert section() == table(), "run: python -m tests.docs.settings"


def test_the_file_that_the_page_shows_is_one(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "ezflow.toml"
    file.write_text(block, encoding="utf-8")
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-27-characters-xy ann\n")
    written = read(file)
    here = {"tokens_file": str(tokens), "store": f"sqlite:///{tmp_path}/history.db"}
    settings = configured(here, written, {}).made()
    assert settings != Settings()
    assert "OLLAMA_URL" in written.values
