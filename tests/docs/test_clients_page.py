"""docs/clients.md: its code runs against a server, of fakes that are called as the voice example's stages are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
SERVED = """
from ezflow import Latest
from ezflow.testing import FakeASR, FakeLLM, FakeTTS, FakeVAD

voice = FakeASR() >> FakeLLM(each_s=0.05).named("local_llm").shown() >> FakeTTS().named("hibari")
flows = {"voice": voice, "live": FakeVAD() >> Latest(voice)}
"""
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SCRIPTS = re.findall(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
# What each block prints, of the words that the fake language model says.
SAID = [
    r"You.*said.*How.*have\?\..*\nEntryError Entry nowhere does not exist",
    r"You( said( How)?)?",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    file = tmp_path_factory.mktemp("served") / "fakes.py"
    file.write_text(SERVED, encoding="utf-8")
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = next(re.search(r"http://[\d.:]+", line) for line in server.stdout if line.startswith("Listening"))
        assert found is not None
        yield found[0]
        server.terminate()
        server.communicate(timeout=20)


@pytest.mark.parametrize(("block", "said"), list(zip(BLOCKS, SAID, strict=True)))
def test_each_python_block_of_the_page_runs_and_says_what_the_server_says(block, said, url):
    script = block.replace("http://127.0.0.1:3421", url)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.match(said, done.stdout, re.DOTALL), done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_javascript_block_of_the_page_runs_in_node(url, tmp_path):
    (script,) = SCRIPTS
    program = tmp_path / "page.mjs"
    client = (ROOT / "examples" / "clients" / "javascript" / "ezflow.js").as_uri()
    program.write_text(script.replace("./ezflow.js", client).replace("http://127.0.0.1:3421", url), encoding="utf-8")
    done = subprocess.run(["node", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "You\n" in done.stdout
    assert "s of sound" in done.stdout
