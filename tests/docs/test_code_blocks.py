"""Every Python block of the README and of docs/ runs, page by page, as a reader would paste it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_each_block_of_a_page_runs(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_first_example_prints_what_it_says_also_under_python_c(page):
    example = blocks(ROOT / page)[0]
    said = re.search(r"# (\[.*\])$", example, re.MULTILINE)
    assert said is not None
    assert len(example.splitlines()) == 12
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == said[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_to_a_file_leads_to_one(page):
    for target in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target


def test_no_page_tells_anyone_to_install_the_strangers_library():
    for page in PAGES:
        assert not re.search(r"pip install [\"']?ezflow(?!-trio)", page.read_text(encoding="utf-8"))
