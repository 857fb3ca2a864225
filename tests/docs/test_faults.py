"""docs/presets.md says of each preset what it does."""

from __future__ import annotations

from faults import PAGE, section, tables
from test_presets import NAMES, of


async def test_the_table_of_faults_is_what_the_presets_do():
    assert section() == await tables()


def test_each_preset_is_described():
    page = PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{of(name)}` |" in page
