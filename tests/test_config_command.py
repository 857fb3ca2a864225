"""`ezflow config`, and commands that take a file's values, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from programs import listening

FLOW = """
from ezflow import setting
from ezflow.testing import FakeLLM

flow = FakeLLM(setting("REPLY", "hello"), first_s=setting("FIRST_S", 0.25))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "ezflow.toml").write_text("[server]\nport = 0\nmax_sessions = 50\nturn_s = 30\n[values]\nFIRST_S = 1\n")
    return tmp_path


def ezflow(
    folder: Path, *arguments: str, passed: tuple[int, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ezflow", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
        pass_fds=passed,
    )  # fmt: skip


def test_a_run_that_mixes_all_four_sources_shows_the_source_of_each(folder):
    done = ezflow(
        folder, "config", "flow.py", "--turn-s", "20", "--no-playground", "--set", "REPLY=hi",
        EZFLOW_MAX_SESSIONS="60", EZFLOW_ORIGINS="https://a.example,https://b.example",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    shown = {line.partition(" = ")[0]: line.partition(" = ")[2].split("  # ") for line in done.stdout.splitlines()}
    told = {name: (value[0].strip(), value[1]) for name, value in shown.items() if len(value) == 2}
    assert told["port"] == ("0", "ezflow.toml")
    assert told["max_sessions"] == ("60", "EZFLOW_MAX_SESSIONS")
    assert told["origins"] == ('["https://a.example", "https://b.example"]', "EZFLOW_ORIGINS")
    assert told["turn_s"] == ("20.0", "--turn-s")
    assert told["playground"] == ("false", "--no-playground")
    assert told["grace_s"] == ("5.0", "default")
    assert told["REPLY"] == ('"hi"', "--set")
    assert told["FIRST_S"] == ("1.0", "ezflow.toml")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["serve", "flow.py", "--config", "none.toml"], {}, "none.toml cannot be read: No such file or directory."),
        (["serve", "flow.py"], {"EZFLOW_TURNS": "3"}, "EZFLOW_TURNS is in the environment, and is no setting. Did you"),
        (["serve", "flow.py", "--port", "http"], {}, "--port: 'http' is not what is needed: a whole number."),
        (
            ["check", "flow.py", "--set", "REPLAY=x"],
            {},
            "--set gives REPLAY, which flow.py does not ask for. Did you me",
        ),
        (["check", "flow.py"], {"FIRST_S": "soon"}, "FIRST_S: 'soon' is not what is needed: a number."),
        (
            ["config", "--set", "REPLY=x"],
            {},
            "--set gives REPLY, but no file is named that may ask for it: ezflow config",
        ),
    ],
)
def test_what_does_not_fit_ends_a_command_with_2_and_says_why(folder, arguments, environment, said):
    done = ezflow(folder, *arguments, **environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ezflow: {said}")


@pytest.mark.parametrize("given", ["hunter2", "=hunter2"])
def test_a_value_without_a_name_is_refused_without_being_repeated(folder, given):
    done = ezflow(folder, "check", "flow.py", "--set", given)
    assert done.returncode == 2
    assert done.stderr.endswith("argument --set: NAME=VALUE is needed, as in --set OLLAMA_MODEL=qwen3\n")
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(("given", "meant"), [("--prot", "--port"), ("--max-session", "--max-sessions")])
def test_an_option_that_there_is_none_is_answered_with_the_nearest(folder, given, meant):
    done = ezflow(folder, "serve", "flow.py", given, "1")
    assert done.returncode == 2
    said = f"unrecognized arguments: {given}, 1 word too many; did you mean {meant}?"
    assert done.stderr.endswith(f"ezflow serve: error: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "flow.py", "--token", "hunter2"], "--token, 1 word too many; did you mean --tokens?"),
        (["serve", "flow.py", "--token=hunter2"], "--token; did you mean --tokens?"),
        (["config", "flow.py", "--set", "CAMERA_PIN=", "hunter2"], "1 word too many"),
        (["check", "flow.py", "hunter2", "-zhunter2", "--hunter2", "-x"], "-x, 3 words too many"),
    ],
)
def test_what_stands_in_the_wrong_place_of_a_command_line_is_not_repeated(folder, arguments, told):
    done = ezflow(folder, *arguments)
    assert done.returncode == 2
    assert done.stderr.endswith(f"ezflow {arguments[0]}: error: unrecognized arguments: {told}\n")
    assert "hunter2" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="/dev/fd is POSIX")
@pytest.mark.parametrize("option", ["--tokens", "--config"])
@pytest.mark.parametrize("several", [["--workers", "2"], ["--reload"]])
def test_what_each_worker_reads_anew_is_no_pipe(folder, option, several):
    ours, its = os.pipe()
    os.write(its, b"" if option == "--config" else b"a-token-of-more-than-16 ann\n")
    os.close(its)
    try:
        done = ezflow(folder, "serve", "flow.py", option, f"/dev/fd/{ours}", *several, passed=(ours,))
    finally:
        os.close(ours)
    assert done.returncode == 2
    assert done.stderr == f"ezflow: /dev/fd/{ours} is a pipe, but each worker reads it anew: name a file.\n"


def test_a_server_takes_what_its_file_says(folder):
    (folder / "ezflow.toml").write_text("[server]\nport = 0\nplayground = false\n")
    command = [sys.executable, "-m", "ezflow", "serve", "flow.py"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = [next(line for line in server.stdout if line.startswith("Listening on "))]
            server.terminate()
            lines += server.stdout
            assert server.wait(10) == 0
        finally:
            server.kill()
    assert ":3421" not in lines[0]
    assert not [line for line in lines if line.startswith("Playground")]


KEEPS_SECRETS = """
import logging
import os
import warnings
from ezflow import setting
from ezflow.testing import FakeLLM

pin = setting("CAMERA_PIN", secret=True)
told = f"{pin} {os.environ['CAMERA_KEY']}"
logging.getLogger("camera").warning("opened with %s", told)
warnings.warn(f"warned of {told}")
if os.environ.get("FAILS"):
    os.environ["LATER_TOKEN"] = "of-a-file-of-its-own"
    raise ValueError(f"cannot open with {told} {os.environ['LATER_TOKEN']}")
flow = FakeLLM("hello")
"""
HELD = {"CAMERA_PIN": "hunter2", "CAMERA_KEY": "of-the-environment"}


@pytest.mark.parametrize("fails", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [
        "check flow.py", "graph flow.py", "config flow.py", "run flow.py --input x",
        "serve flow.py --log-format json --host no.such.host.invalid --insecure",  # which ends by itself
    ],
)  # fmt: skip
def test_what_a_file_takes_as_secret_is_in_no_line_that_is_said_while_it_is_loaded(folder, command, fails):
    (folder / "flow.py").write_text(KEEPS_SECRETS)
    (folder / "ezflow.toml").unlink()
    done = ezflow(folder, *command.split(), FAILS=fails, **HELD)
    said = done.stdout + done.stderr
    assert done.returncode == (1 if fails or "serve" in command else 0)
    assert "opened with *** ***" in said
    assert "warned of *** ***" in said
    assert ("ValueError: cannot open with *** *** ***\n" in said) == bool(fails)
    assert not [value for value in ("of-a-file-of-its-own\n", *HELD.values()) if value in said]


LEARNS_LATE = """
import os
from contextlib import asynccontextmanager
from ezflow import Module, Turn, module

os.environ["LATER_TOKEN"] = "of-a-file-of-its-own"

@module
class Camera(Module[str, str]):
    password: str

    @asynccontextmanager
    async def lifespan(self):
        raise ValueError(f"refused {self.password} and {os.environ['LATER_TOKEN']}")
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text

flow = Camera("of-a-field")
"""


@pytest.mark.parametrize("command", ["serve flow.py --port 0", "run flow.py --input x"])
def test_what_modules_hold_is_in_no_line_either(folder, command):
    (folder / "flow.py").write_text(LEARNS_LATE)
    done = ezflow(folder, *command.split(), "--config", os.devnull)
    assert done.returncode == 1
    assert done.stderr.endswith("ezflow: Camera could not open: ValueError: refused *** and ***\n")
    assert "of-a-f" not in done.stdout + done.stderr


FAULTY = """
from ezflow import Audio, Module, Turn, module, setting

@module
class Camera(Module[str, Audio]):
    pin: str
    limit: int = 3
    api_key: str = ""

    async def process(self, text: str, turn: Turn) -> Audio:
        return Audio(b"", 8000)

flow = Camera(setting("CAMERA_PIN", secret=True)).named("first") >> Camera("", setting("CAMERA_PIN"), 4242)
"""


@pytest.mark.parametrize("command", ["check flow.py", "serve flow.py --port 0", "run flow.py --input x"])
def test_the_report_of_a_faulty_flow_shows_no_secret(folder, command):
    (folder / "flow.py").write_text(FAULTY)
    done = ezflow(folder, *command.split(), "--config", os.devnull, CAMERA_PIN="hunter2")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "e.g. Camera(pin='***') >> YourStrMaker() >> " in said
    assert "Camera.limit is '***' (str), but int is needed" in said
    assert "Camera.api_key is *** (int), but str is needed" in said
    assert not [value for value in ("hunter2", "4242") if value in said]


REFUSES = """
from ezflow import Module, Turn, module, setting

@module
class Camera(Module[str, str]):
    pin: str

    async def probe(self) -> None:
        raise ValueError(f"{self.pin} is not its pin")

    async def process(self, text: str, turn: Turn) -> str:
        raise ValueError(f"{self.pin} is not its pin. It said: {text}")

flow = Camera(setting("CAMERA_PIN", secret=True))
"""
# Only secrets are hidden for who is told of a fault: what is a guess, or long, is left.
SAID = f"token: 'x' {'y' * 2000}"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_turn_s_error_shows_no_secret_and_all_else(folder, form):
    (folder / "flow.py").write_text(REFUSES)
    done = ezflow(folder, "run", "flow.py", "--config", os.devnull, "--input", SAID, *form, CAMERA_PIN="hunter2")
    assert done.returncode == 1
    assert f"*** is not its pin. It said: {SAID}" in (done.stdout if form else done.stderr)
    assert "hunter2" not in done.stdout + done.stderr


def test_a_client_is_told_no_secret_and_all_else(folder):
    (folder / "flow.py").write_text(REFUSES)
    command = [sys.executable, "-m", "ezflow", "serve", "flow.py", "--config", os.devnull, "--port", "0"]
    with listening(command, cwd=folder, CAMERA_PIN="hunter2") as url:
        for path, name in (("/turns", "input"), ("/input", "Input")):
            body = json.dumps({"user": "ann", name: SAID}).encode()
            request = urllib.request.Request(url + path, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as response:
                told = response.read().decode()
            assert f"*** is not its pin. It said: {SAID}" in told
            assert "hunter2" not in told
        with pytest.raises(urllib.error.HTTPError) as unready:
            urllib.request.urlopen(f"{url}/health/ready", timeout=20)
        with unready.value as response:
            assert json.load(response)["failing"] == {"camera": "ValueError: *** is not its pin"}


def test_a_client_of_a_program_is_told_none_of_what_its_modules_hold(folder):
    program = REFUSES.replace("pin", "password").replace('setting("CAMERA_PIN", secret=True)', '"hunter2"')
    (folder / "flow.py").write_text(program + "\nimport ezflow\nezflow.serve(flow, port=0)\n")
    with listening([sys.executable, "flow.py"], cwd=folder) as url:
        with urllib.request.urlopen(f"{url}/turns", b'{"user": "ann", "input": "x"}', timeout=20) as response:
            assert b"*** is not its password. It said: x" in response.read()


ENDS = """
import sys
import threading
from ezflow import setting
from ezflow.testing import FakeLLM

class Own(BaseException):
    pass

class Ends:
    def __del__(self):
        raise Own(said)

def fails():
    raise Own(said)

flow = FakeLLM("x")
said = f"no {setting('CAMERA_PIN', secret=True)}"
"""


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("fails()", 1, "Own: no ***\n"),
        ("sys.exit(said)", 1, "no ***\n"),
        ("sys.exit(3)", 3, ""),
        ("thread = threading.Thread(target=fails); thread.start(); thread.join()", 0, "Own: no ***\n"),
        ("Ends()", 0, "Own: no ***\n"),
    ],
)
def test_what_python_itself_would_say_of_an_error_shows_no_secret(folder, line, code, told):
    (folder / "flow.py").write_text(ENDS + line)
    done = ezflow(folder, "check", "flow.py", "--config", os.devnull, CAMERA_PIN="hunter2")
    assert (done.returncode, "hunter2" in done.stdout + done.stderr) == (code, False)
    assert done.stderr.endswith(told)


@pytest.mark.parametrize("pin", ["hunter\x1b2", "hunter\x7f[2"])
def test_a_secret_that_would_steer_the_terminal_is_hidden_as_a_whole(folder, pin):
    (folder / "flow.py").write_text(ENDS + "raise ValueError(said)")
    done = ezflow(folder, "check", "flow.py", "--config", os.devnull, CAMERA_PIN=pin)
    assert done.stderr.endswith("ValueError: no ***\n")
