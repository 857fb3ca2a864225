"""The exit codes that docs/command-line.md tells are those that the commands have."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import PAGE, section
from programs import listening

from ezflow.cli import main
from ezflow.weights import DEFAULT_MODEL, find

FLOWS = Path(__file__).parents[1] / "commands" / "run_flows.py"
NOBODY = "http://127.0.0.1:1"
TABLE = PAGE.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("##")[0]

Case = Callable[["Shell"], int]


class Shell:
    """Runs commands, and says the exit codes that a shell would show."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def code(self, *arguments: object) -> int:
        """Of a command that is run in this process."""
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        return int(ended.value.code or 0)

    def process(self, *arguments: object, typed: str = "", **signals: signal.Signals) -> int:
        """Of one in a process of its own, which is sent each signal when it has said the word."""
        with subprocess.Popen(
            [sys.executable, "-m", "ezflow", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(typed)
                process.stdin.close()
                for word, how in signals.items():
                    assert any(word in line for line in process.stdout)
                    process.send_signal(how)
                process.stdout.read()
                code = process.wait(30)
            finally:
                process.kill()
        return 128 - code if code < 0 else code

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def interrupted(self, command: str) -> int:
        """Of a command that Ctrl+C ends while it reads a file."""
        return self.code(command, self.file("interrupted.py", "raise KeyboardInterrupt"))


def run(*arguments: object) -> Case:
    return lambda shell: shell.code("run", FLOWS, "--input", "x", *arguments)


def run_until(how: signal.Signals) -> Case:
    return lambda shell: shell.process("run", FLOWS, "--input", "x", "--flow", "waits", working=how)


def talk(flow: str, *arguments: object, **signals: signal.Signals) -> Case:
    return lambda shell: shell.process("talk", f"{shell.url}/{flow}", *arguments, typed="x\n", **signals)


def serve_until(*how: signal.Signals) -> Case:
    """Signals: the first when it listens, a second when a module is being released."""
    words = ("Listening", "closes")[: len(how)]
    target = f"{FLOWS}:{'slow_to_close' if len(how) > 1 else 'voice'}"
    return lambda shell: shell.process("serve", target, "--port", 0, **dict(zip(words, how, strict=True)))


def always(*arguments: object) -> Case:
    return lambda shell: shell.code(*arguments)


def apart(*arguments: object) -> Case:
    """In a process of its own: `serve` sees to it that its process ends."""
    return lambda shell: shell.process(*arguments)


def again(*arguments: object) -> Case:
    return lambda shell: [shell.code(*arguments) for _ in range(2)][-1]


CASES: dict[tuple[str, int], list[Case]] = {
    ("serve", 0): [serve_until(signal.SIGINT), serve_until(signal.SIGTERM)],
    ("serve", 1): [
        apart("serve", f"{FLOWS}:wrong"),
        apart("serve", f"{FLOWS}:cannot_open", "--port", 0),
        lambda shell: shell.process("serve", f"{FLOWS}:voice", "--port", shell.url.rpartition(":")[2]),
    ],
    ("serve", 2): [apart("serve", "nowhere.py"), apart("serve", f"{FLOWS}:voice", "--host", "0.0.0.0")],
    ("serve", 130): [serve_until(signal.SIGINT, signal.SIGINT)],
    ("serve", 143): [serve_until(signal.SIGTERM, signal.SIGTERM)],
    ("run", 0): [run()],
    ("run", 1): [
        lambda shell: shell.code("run", f"{FLOWS}:wrong", "--input", "x"),
        run("--flow", "cannot_open"),
        run("--flow", "remote"),
        run("--flow", "waits", "--timeout", 0.1),
    ],
    ("run", 2): [
        always("run", "nowhere.py"),
        run("--set", "NOBODY=asks"),
        run("--input", "nowhere.wav"),
        run("--entry", "nowhere"),
        run("--options", '{"nobody": 1}'),
        run("--unknown"),
    ],
    ("run", 130): [run_until(signal.SIGINT)],
    ("run", 143): [run_until(signal.SIGTERM)],
    ("check", 0): [always("check", f"{FLOWS}:voice")],
    ("check", 1): [always("check", f"{FLOWS}:wrong")],
    ("check", 2): [always("check", "nowhere.py")],
    ("check", 130): [lambda shell: shell.interrupted("check")],
    ("graph", 0): [always("graph", f"{FLOWS}:voice"), always("graph", f"{FLOWS}:wrong")],
    ("graph", 2): [always("graph", "nowhere.py")],
    ("graph", 130): [lambda shell: shell.interrupted("graph")],
    ("talk", 0): [talk("counts")],
    ("talk", 1): [talk("remote"), talk("counts", "--entry", "nowhere"), always("talk", NOBODY)],
    ("talk", 2): [
        always("talk", NOBODY, "--token-file", "nowhere"),
        lambda shell: shell.code("talk", NOBODY, shell.file("broken.wav", "RIFF")),
        always("talk", NOBODY, "nowhere.wav"),
        always("talk", "nowhere"),
    ],
    ("talk", 130): [talk("ponders", pondering=signal.SIGINT)],
    ("top", 0): [lambda shell: shell.code("top", shell.url, "--once")],
    ("top", 1): [always("top", NOBODY)],
    ("top", 2): [always("top", NOBODY, "--token-file", "nowhere"), always("top", "nowhere")],
    ("config", 0): [always("config")],
    ("config", 2): [always("config", "nowhere.py"), always("config", "--port", "http")],
    ("config", 130): [lambda shell: shell.interrupted("config")],
    ("modules", 0): [lambda shell: shell.code("modules", shell.file("empty.py", ""))],
    ("modules", 1): [lambda shell: shell.code("modules", shell.file("broken.py", "raise ValueError"))],
    ("modules", 2): [always("modules", "nowhere")],
    ("modules", 130): [lambda shell: shell.interrupted("modules")],
    ("new module", 0): [always("new", "module", "Shouter")],
    ("new module", 1): [
        always("new", "module", "5"),
        lambda shell: max(shell.code("new", "module", "Twice") for _ in range(2)),
    ],
    ("models list", 0): [always("models", "list")],
    ("models pull", 0): [always("models", "pull", DEFAULT_MODEL)],
    ("models pull", 1): [always("models", "pull", "nothing")],
    ("completion", 0): [always("completion", "bash")],
    ("completion", 2): [always("completion", "cobol")],
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server for those that ask one."""
    with listening([sys.executable, "-m", "ezflow", "serve", f"{FLOWS}:served", "--port", "0"]) as url:
        yield url


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize(("command", "code"), CASES)
def test_a_command_has_the_code_that_the_page_tells(command, code, url, tmp_path, monkeypatch):
    if (command, code) == ("models pull", 0) and find(DEFAULT_MODEL) is None:
        pytest.skip("the model is not here: ezflow models pull")
    monkeypatch.chdir(tmp_path)
    for case in CASES[command, code]:
        assert case(Shell(tmp_path, url)) == code


def test_each_code_that_the_page_tells_is_tried():
    rows = re.findall(r"^\| `([a-z ]+)` \|(.*)\|$", TABLE, re.MULTILINE)
    told = set()
    for command, cells in rows:
        *plain, signals = (cell.strip() for cell in cells.split("|"))
        told |= {(command, code) for code, cell in enumerate(plain) if cell}
        told |= {(command, int(code)) for code in re.findall(r"130|143", signals)}
    assert told == set(CASES)


def test_the_page_tells_the_codes_of_every_command():
    commands = set(re.findall(r"^## `ezflow ([a-z ]+)`", section(), re.MULTILINE))
    assert commands == {command for command, _ in CASES}
