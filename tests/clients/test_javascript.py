"""The JavaScript client (ezflow.js) and the browser's sound (sound.js, microphone.js), run by Node's own test runner.

What they say to a server and make of its answers is tested on a server whose every word the test says itself, and on
one of ezflow's; the types by TypeScript, which npm fetches in this release.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import scenario
import trio

from ezflow import Audio, Latest, Module, Transcript, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run
from ezflow.testing import FakeASR, FakeTTS, FakeVAD

PLAYGROUND = Path(__file__).parents[2] / "ezflow" / "server" / "playground"
EXAMPLE = Path(__file__).parents[2] / "examples" / "clients" / "javascript"
TESTS = Path(__file__).with_name("javascript")
TYPESCRIPT = "typescript@5.9.3"
TOKEN = "a-token-of-the-tests"
WITHIN_S = 120


def node(*arguments: str | Path) -> list[str]:
    """The command line of Node, which has a WebSocket of its own from release 22 on."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: the JavaScript client is not tested (Node 20 or later is needed)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.removeprefix("v").partition(".")[0])
    return [program, *(["--experimental-websocket"] if major < 22 else []), *map(str, arguments)]


def run_tests(name: str) -> list[str]:
    return node("--test", "--test-reporter=spec", TESTS / f"{name}.test.mjs")


@pytest.mark.parametrize("name", ["http", "socket", "sound", "microphone"])
def test_the_client_and_its_sound(name):
    ran = subprocess.run(run_tests(name), capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


def test_every_test_of_javascript_is_run():
    assert {path.name.partition(".")[0] for path in TESTS.glob("*.test.mjs")} == {
        "http",
        "socket",
        "sound",
        "microphone",
        "server",
    }


@module
class Says(Module[str, str]):
    """Answers; but what is asked `forever` never ends, and `fail` fails."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        if text == "fail":
            raise RuntimeError("it failed")
        yield "You said "
        if text == "forever":
            await trio.sleep_forever()
        yield f"{text}."


@module
class Measures(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        level = int.from_bytes(sound.pcm[:2], "little")
        return f"{sound.samples} samples of {level} at {sound.rate_hz}"


@module
class Hears(Module[Audio, str]):
    """Understands the same whatever is said."""

    async def process(self, sound: Audio, turn: Turn) -> str:
        await turn.reply(Transcript("How many legs?"))
        return "How many legs?"


@module
class Stubborn(Module[str, str]):
    """Does not leave when it is cancelled, until `release` is set."""

    release: trio.Event

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("working")
        with trio.CancelScope(shield=True):
            await self.release.wait()
        return text


@pytest.fixture
def served():
    """`async with served((flows, settings), …) as urls:` has servers; what holds one up is released at the end."""

    @asynccontextmanager
    async def serve(
        *servers: tuple[Any, dict[str, Any]], release: trio.Event | None = None
    ) -> AsyncIterator[list[str]]:
        stop = trio.Event()
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                try:
                    yield [
                        await nursery.start(
                            partial(run, flows, Settings(port=0, grace_s=1.0, **more), say=lambda line: None, stop=stop)
                        )
                        for flows, more in servers
                    ]
                finally:
                    stop.set()
                    if release is not None:
                        release.set()

    return serve


async def test_the_client_with_a_server(served):
    voice = FakeASR() >> Says().shown() >> FakeTTS(char_s=0.01)
    release = trio.Event()
    flows = {"voice": voice, "live": FakeVAD() >> Latest(voice), "measure": Measures(), "stubborn": Stubborn(release)}
    guarded = {"tokens": (f"{TOKEN} ann eager",), "rate_per_s": 0.01, "rate_burst": 3}
    async with served((flows, {"cleanup_s": 0.0}), (voice, guarded), release=release) as (url, guarded_url):
        env = {"TEST_URL": url, "TEST_GUARDED_URL": guarded_url, "EZFLOW_TOKEN": TOKEN}
        await performed(run_tests("server"), **env)


async def test_the_snippets_of_the_readme_run(served, tmp_path):
    blocks = re.findall(r"```js\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    snippets = [block for block in blocks if "sound.js" not in block]  # which the browser's tests run, as page.html
    assert len(snippets) == len(blocks) - 1 > 0
    (tmp_path / "question.wav").write_bytes(Audio(bytes(32_000), 16_000).to_wav())
    said = []
    voice = Hears() >> Says().named("local_llm").shown() >> FakeTTS()
    async with served(({"voice": voice}, {})) as (url,):
        for number, snippet in enumerate(snippets):
            program = tmp_path / f"{number}.mjs"
            client = (EXAMPLE / "ezflow.js").as_uri()
            program.write_text(snippet.replace("./ezflow.js", client).replace("http://127.0.0.1:3421", url))
            said.append(await performed(node(program), cwd=tmp_path))
    asked, recorded, refused = said
    assert "You said " in asked
    assert "s of sound Int16Array" in asked
    assert recorded == "How many legs?\n"
    assert Audio.from_wav(tmp_path / "answer.wav").rate_hz == 24_000
    assert "EntryError entry Entry nowhere does not exist" in refused


async def performed(command: list[str], cwd: Path | None = None, **env: str) -> str:
    """Run a program to its end; what it printed."""
    ran = await trio.run_process(
        command, cwd=cwd, env={**os.environ, **env}, capture_stdout=True, capture_stderr=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout.decode()}\n{ran.stderr.decode()}"
    return ran.stdout.decode()


@pytest.mark.model
def test_the_client_passes_the_scenario(voice_url, tmp_path):
    question = scenario.write_question(tmp_path / "question.wav")
    scenario.perform(node(EXAMPLE / "scenario.mjs"), voice_url, question)


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, dict[int, str]]:
    """What TypeScript finds wrong in usage.ts and wrong.ts, by the line."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: the types of the JavaScript client are not checked")
    folder = tmp_path_factory.mktemp("typescript")
    npm = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", TYPESCRIPT]
    installed = subprocess.run(npm, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert installed.returncode == 0, f"{TYPESCRIPT} could not be installed:\n{installed.stderr}"
    options = {
        "strict": True,
        "noEmit": True,
        "noUncheckedIndexedAccess": True,
        "target": "ES2022",
        "lib": ["ES2022", "DOM"],
        "module": "ESNext",
        "moduleResolution": "bundler",
        "types": [],
        "paths": {"ezflow/*": [f"{PLAYGROUND}/*"]},
    }
    files = ["usage.ts", "wrong.ts"]
    project = folder / "tsconfig.json"
    project.write_text(json.dumps({"compilerOptions": options, "files": [str(TESTS / file) for file in files]}))
    command = node(folder / "node_modules" / "typescript" / "bin" / "tsc", "--project", project, "--pretty", "false")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False, cwd=TESTS)
    found: dict[str, dict[int, str]] = {file: {} for file in files}
    for file, line, error in re.findall(r"^(\S+)\((\d+),\d+\): error (.*)", ran.stdout, re.MULTILINE):
        found[file][int(line)] = error
    return found


def test_the_types_allow_what_the_client_can_do(errors):
    assert errors["usage.ts"] == {}


def test_the_types_refuse_what_it_cannot(errors):
    lines = (TESTS / "wrong.ts").read_text().splitlines()
    assert [*errors["wrong.ts"]] == [number for number, line in enumerate(lines, 1) if line.endswith("// wrong")]


def test_every_public_name_has_a_type():
    for name in ("ezflow", "sound"):
        pattern = re.compile(r"^export (?:async )?(?:declare )?(?:class|function) (\w+)", re.MULTILINE)
        code, types = ((PLAYGROUND / f"{name}{end}").read_text() for end in (".js", ".d.ts"))
        assert pattern.findall(code) == pattern.findall(types) != []


def test_the_example_is_the_playgrounds_own_client():
    for name in ("ezflow.js", "ezflow.d.ts"):
        link = EXAMPLE / name
        assert link.is_symlink()
        assert not Path(os.readlink(link)).is_absolute()
        assert link.resolve() == PLAYGROUND / name
