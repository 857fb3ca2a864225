"""The wheel and the sdist hold what they should, and nothing else."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaged import IN_CHECKOUT, ROOT, Built, in_git, run

import ezflow


@pytest.fixture(scope="module")
def in_wheel(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        return message_from_bytes(wheel.read(f"ezflow_trio-{ezflow.__version__}.dist-info/METADATA"))


@IN_CHECKOUT
def test_the_wheel_holds_what_git_holds_of_the_packages_and_nothing_else(in_wheel):
    assert in_wheel == in_git("ezflow", "stdlib_modules")


def test_the_wheel_holds_what_is_not_code(in_wheel):
    assert {"ezflow/py.typed", "stdlib_modules/py.typed", "ezflow/weights.toml"} <= in_wheel
    assert {"ezflow/licences/Apache-2.0.txt", "ezflow/server/playground/index.html"} <= in_wheel


@IN_CHECKOUT
def test_the_sdist_holds_what_git_holds(built):
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert held - {"PKG-INFO"} == in_git()


def test_the_wheel_of_the_sdist_is_that_of_the_checkout_byte_for_byte(built):
    assert built.wheel_of_sdist.name == built.wheel.name
    assert built.wheel_of_sdist.read_bytes() == built.wheel.read_bytes()


def test_the_distribution_is_not_called_as_the_strangers_library(metadata, built):
    assert (metadata["Name"], metadata["Version"]) == ("ezflow-trio", ezflow.__version__)
    assert built.wheel.name.startswith("ezflow_trio-")
    said = str(metadata.get_payload())
    assert "another author's library" in said
    assert not re.search(r"pip install [\"']?ezflow(?![-_]trio)", said)


def test_no_file_of_the_wheel_tells_anyone_to_install_the_strangers_library(in_wheel):
    for name in in_wheel:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"pip install [^\n]*?[\"' ]ezflow(?![-_]trio)\b", text), name


def test_the_description_is_the_readme(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# ezflow\n")


def test_the_licence_is_told_and_goes_along(metadata, built):
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE", "docs/licences.md"]
    with zipfile.ZipFile(built.wheel) as wheel:
        for name in ("LICENSE", "NOTICE", "docs/licences.md"):
            here = wheel.read(f"ezflow_trio-{ezflow.__version__}.dist-info/licenses/{name}")
            assert here == (ROOT / name).read_bytes()


def test_the_index_would_take_them(built):
    """twine's check: the description can be shown, the metadata is whole."""
    run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel, cwd=Path(built.sdist.parent))
