"""The pages as a site: built without a warning, whole without a network. The `docs` session has what builds them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import ezflow
import ezflow.client
import ezflow.testing
import ezflow.testing.backends
from ezflow import Module
from ezflow.catalog import installed

DOCS = Path(__file__).parents[2] / "docs"
BUILT = pytest.mark.skipif(
    find_spec("sphinx") is None, reason='Sphinx is not installed: pip install -e ".[docs]", or run nox -s docs'
)


def build(pages: Path, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", str(pages), str(into)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    into = tmp_path_factory.mktemp("site")
    done = build(DOCS, into)
    assert done.returncode == 0, done.stderr
    return into


@BUILT
def test_the_site_fetches_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"([^\"]*)\"", text)
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


@BUILT
def test_the_site_names_no_folder_of_this_machine(site):
    for page in site.rglob("*.html"):
        assert str(DOCS.parent) not in page.read_text(encoding="utf-8"), page.name


@BUILT
@pytest.mark.parametrize(
    "broken",
    [
        "[a page](nowhere.md)",
        "[a heading](index.md#nowhere)",
        "{py:class}`ezflow.Nowhere`",
        "![a picture](nowhere.svg)",
    ],
)
def test_a_broken_reference_fails(broken, tmp_path):
    shutil.copy(DOCS / "conf.py", tmp_path)
    (tmp_path / "index.md").write_text(f"# A page\n\n{broken}\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "built")
    assert done.returncode != 0
    assert "nowhere" in done.stderr.lower()


def documented(page: str) -> set[str]:
    """The last names of what a reference page documents."""
    text = (DOCS / "reference" / page).read_text(encoding="utf-8")
    return set(re.findall(r"^\.\. (?:auto\w+|decorator):: (?:[\w.]+\.)?(\w+)", text, re.MULTILINE))


def test_each_public_name_is_in_the_reference():
    pages = [documented(page.name) for page in (DOCS / "reference").glob("*.rst")]
    assert set(ezflow.__all__) <= set().union(*pages)
    assert set(ezflow.testing.__all__) | set(ezflow.testing.backends.__all__) <= documented("testing.rst")
    assert set(ezflow.client.__all__) <= documented("client.rst")


def test_each_preset_and_its_options_are_in_the_reference():
    defined = [value for file in installed() for value in vars(file).values() if isinstance(value, type)]
    presets = [cls for cls in defined if issubclass(cls, Module) and cls.__module__.startswith("stdlib_modules")]
    names = {cls.__name__ for cls in presets} | {cls.options.__name__ for cls in presets if cls.options is not None}
    assert "Moonshine" in names
    assert names <= documented("presets.rst")
