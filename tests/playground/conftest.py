"""A real Chromium, with a file for a microphone, and the servers that its pages come from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, FLAGS
from hearing import write_wav
from playground_page import Playground
from playwright.sync_api import Browser, sync_playwright
from served import TOKEN, Server, serving
from speech import silence

HERE = Path(__file__).parent
FLOWS = HERE / "playground_flows.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a Chromium skip these tests, and say so; in CI, where it must not be missing, let them fail."""
    if CHROMIUM is not None or os.environ.get("CI"):
        return
    missing = pytest.mark.skip(reason="no Chromium on the PATH: the playground is not tested (apt install chromium)")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(missing)


@pytest.fixture(scope="package")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The WAV that the microphone of the browser gives, once, from its beginning, each time that it is opened."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    write_wav(path, silence(1))
    return path


@pytest.fixture(scope="package")
def browser(microphone: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None, "there is no Chromium on the PATH: apt install chromium"
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def flows_url() -> Iterator[str]:
    """The URL of a server with the flows of `playground_flows.py`."""
    with serving(FLOWS) as server:
        yield server.url


@pytest.fixture(scope="package")
def guarded_url() -> Iterator[str]:
    """The URL of a server with the same flows that wants a token: `TOKEN`."""
    with serving(FLOWS, EZFLOW_TOKENS=TOKEN) as server:
        yield server.url


@pytest.fixture
def flows_server() -> Iterator[Server]:
    """The same flows on a server that a test may kill and begin again."""
    with serving(FLOWS) as server:
        yield server


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Playground]]:
    """`visit(url)` opens a playground as a new visitor; at the end the browser must have had nothing to complain of.

    Further arguments are those of the browser's context, such as `color_scheme="dark"`.
    """
    tabs: list[Playground] = []

    def visit(url: str, **context: Any) -> Playground:
        visitor = browser.new_context(permissions=["microphone"], **context)
        visitor.add_init_script(path=HERE / "in_page.js")
        tabs.append(Playground(visitor, url))
        return tabs[-1].open()

    yield visit
    for tab in tabs:
        tab.page.context.close()
    assert [said for tab in tabs for said in tab.unexpected()] == []


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, from npm in the version that the lock file pins."""
    folder = pytestconfig.cache.mkdir("axe")  # type: ignore[union-attr]  # tests run with pytest's cache
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["axe-core"]
    package = folder / "node_modules" / "axe-core"
    manifest = package / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text())["version"] != wanted:
        npm = shutil.which("npm")
        assert npm is not None, "npm is missing, with which axe-core is fetched: apt install npm"
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return (package / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def album(pytestconfig: pytest.Config) -> Path:
    """The folder for screenshots."""
    folder = pytestconfig.rootpath / ".artifacts" / "playground"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
