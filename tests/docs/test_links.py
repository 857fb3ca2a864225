"""Each link of each page in the repository leads to what the repository holds: a file, a folder, a heading."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout: what it holds is not known"
)


@pytest.fixture(scope="module")
def held() -> set[Path]:
    """The files of the repository, with those that are about to be added to it, but without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {ROOT / name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)}


def broken_links(page: Path, held: set[Path]) -> list[str]:
    return [link for link in links(page) if not leads_somewhere(page, link, held)]


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead to within the repository; what is code is no link."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    inline = re.findall(r"\]\(<?([^)\s>]+)", text)
    defined = re.findall(r"^\[[^\]]+\]: *(\S+)", text, re.MULTILINE)
    return [link for link in [*inline, *defined] if not re.match(r"[a-z][a-z+.-]*:", link)]


def leads_somewhere(page: Path, link: str, held: set[Path]) -> bool:
    path, _, heading = link.partition("#")
    target = (page.parent / path).resolve() if path else page.resolve()
    is_held = target in held or any(target in file.parents for file in held)
    return is_held and (not heading or target.suffix != ".md" or heading in headings(target))


def headings(page: Path) -> set[str]:
    """The names by which a page's headings can be linked to."""
    found = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_each_link_of_each_page_leads_to_what_the_repository_holds(held):
    pages = sorted(file for file in held if file.suffix == ".md")
    assert ROOT / "examples" / "clients" / "curl" / "README.md" in pages
    broken = {str(page.relative_to(ROOT)): found for page in pages if (found := broken_links(page, held))}
    assert broken == {}


def test_each_symbolic_link_leads_to_what_the_repository_holds(held):
    symbolic = [file for file in held if file.is_symlink()]
    assert [str(file.relative_to(ROOT)) for file in symbolic if file.resolve() not in held] == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a page](other.md), [a part](other.md#two-words), [here](#a-page), [a folder](.), [far](https://a.b)", []),
        ("[a page](nowhere.md)", ["nowhere.md"]),
        ("![a picture](nowhere.png)", ["nowhere.png"]),
        ("[`code`](nowhere.py), `more`", ["nowhere.py"]),
        ("[a part](other.md#three)", ["other.md#three"]),
        ("[a part](#nowhere)", ["#nowhere"]),
        ("See [it][1].\n\n[1]: nowhere.md", ["nowhere.md"]),
        ("[not in the repository](ignored.md)", ["ignored.md"]),
        ("`[code](nowhere.md)`\n\n```\n[code](nowhere.md)\n```\n", []),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text, broken, tmp_path):
    page, other, ignored = tmp_path / "page.md", tmp_path / "other.md", tmp_path / "ignored.md"
    page.write_text(f"# A page\n\n{text}\n", encoding="utf-8")
    other.write_text("# Two words\n", encoding="utf-8")
    ignored.write_text("# Ignored\n", encoding="utf-8")
    assert broken_links(page, {page, other}) == broken
