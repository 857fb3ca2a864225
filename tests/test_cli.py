"""The command line, as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from programs import listening

FLOW = """
from ezflow import Audio, Latest, Module, Turn, module

@module
class Upper(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text.upper()

@module
class Speak(Module[str, Audio]):
    async def process(self, text: str, turn: Turn) -> Audio:
        return Audio(b"", 8000, text=text)

flow = Upper() >> Speak()
wrong = Speak() >> Upper()
flows = {"good": flow, "latest": Latest(flow)}
number = 5
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    file = tmp_path / "pipeline.py"
    file.write_text(FLOW)
    return file


def ezflow(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ezflow", *map(str, arguments)]
    env = os.environ | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_check_prints_the_report_of_a_good_flow(target):
    done = ezflow("check", f"{target}:flow")
    assert done.returncode == 0
    assert done.stdout == (
        "✅ Pipeline verified\nupper -> speak\n0 upper   (in: str, out: str)\n1 speak   (in: str, out: Audio)\n"
    )


def test_check_exits_1_for_a_faulty_flow_and_says_what_to_write(target):
    done = ezflow("check", f"{target}:wrong")
    assert done.returncode == 1
    assert "Speak gives Audio, but Upper takes str" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_check_without_a_name_takes_all_flows_of_the_file(target):
    done = ezflow("check", target)
    assert done.returncode == 0
    assert done.stdout.count("✅") == 2


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_the_output_s_encoding_does_not_know_is_replaced(target, encoding):
    good = ezflow("check", f"{target}:flow", PYTHONIOENCODING=encoding)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("? Pipeline verified\n")
    faulty = ezflow("serve", f"{target}:wrong", PYTHONIOENCODING=encoding)
    assert (faulty.returncode, "Speak gives Audio, but Upper takes str" in faulty.stderr) == (1, True)
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:flow", "--port", "0"]
    with listening(command, PYTHONIOENCODING=encoding):
        pass  # it says so, and ends in order


def test_graph_draws_as_text_and_for_mermaid(target):
    assert ezflow("graph", f"{target}:flow").stdout == "upper -> speak\n"
    drawn = ezflow("graph", f"{target}:flow", "--format", "mermaid").stdout
    assert drawn.startswith("flowchart LR\n")
    assert 's0 -->|"str"| s1' in drawn


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}/nothing.py", "is no file"),
        ("{}/pipeline.py:nothing", "has no 'nothing'; its flows: flow, wrong"),
        ("{}/pipeline.py:number", "number in"),
    ],
)
def test_a_target_that_is_not_there_exits_2_and_says_why(target, given, said):
    done = ezflow("check", given.format(target.parent))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_models_list_names_the_licence(tmp_path):
    done = ezflow("models", "list")
    assert done.returncode == 0
    assert "qwen2.5-coder-0.5b-instruct-q4_k_m" in done.stdout
    assert "Apache-2.0" in done.stdout


def test_serve_refuses_a_public_host_a_taken_port_and_a_faulty_flow(target):
    public = ezflow("serve", f"{target}:flow", "--host", "0.0.0.0")
    assert (public.returncode, "--insecure" in public.stderr) == (2, True)
    for wrong in (["--port", 99999], ["--grace", "nan"], ["--trust", "foo"], ["--tokens", target.parent]):
        refused = ezflow("serve", f"{target}:flow", *wrong)
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    faulty = ezflow("serve", f"{target}:wrong", "--port", 0)
    assert (faulty.returncode, "❌" in faulty.stderr) == (1, True)


def test_a_thread_of_a_file_that_cannot_be_loaded_does_not_keep_serve(target):
    target.write_text("import threading as t\nt.Thread(target=t.Event().wait, name='stays').start()\nfault")
    done = ezflow("serve", target, "--port", 0)
    assert (done.returncode, "name 'fault' is not defined" in done.stderr) == (1, True)
    assert "threads that a module has started do not end (stays)" in done.stderr


BROKEN = """
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

@module
class Broken(Module[str, str]):
    which: str

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        raise ValueError(f"no {self.which}")
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return text

broken = Broken("first") >> Broken("second")
"""


def test_serve_names_every_module_that_cannot_be_opened(target):
    target.write_text(FLOW + BROKEN)
    done = ezflow("serve", f"{target}:broken", "--port", 0)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]  # before it, the log has a traceback of each
    assert sorted(said.removeprefix("ezflow: ").split("; ")) == [
        "Broken could not open: ValueError: no first",
        "Broken could not open: ValueError: no second",
    ]
    assert "ExceptionGroup" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_prints_its_report_and_url_answers_and_ends_on_a_signal(target, how):
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:flow", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = []
            assert server.stdout is not None
            while not (lines and lines[-1].startswith("Listening")):
                lines.append(server.stdout.readline())
            assert "✅ Pipeline verified\n" in lines
            url = re.search(r"http://\S+", lines[-1])
            assert url is not None
            body = b'{"user": "ann", "input": "hello"}'
            with urllib.request.urlopen(f"{url[0]}/turns", body, timeout=10) as response:
                assert b'"reason":"done"' in response.read()
            taken = ezflow("serve", f"{target}:flow", "--port", url[0].rpartition(":")[2])
            assert taken.returncode == 1
            assert "Traceback" not in taken.stderr
            server.send_signal(how)
            assert server.wait(10) == 0
        finally:
            server.kill()


SLOW_TO_ANSWER = """
import trio

@module
class Slow(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("taken")
        await trio.sleep(0.5)
        return text

slow = Slow()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_server_whose_words_nobody_reads_any_more_still_ends_in_order(target):
    target.write_text(FLOW + SLOW_TO_ANSWER)
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:slow", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            server.stdout.close()
            with urllib.request.urlopen(f"{url}/turns", b'{"user": "ann", "input": "hello"}', timeout=10) as response:
                assert b"turn.started" in response.readline()
                server.terminate()
                assert b'"reason":"done"' in response.read()
            assert server.wait(10) == 0
            (told,) = server.stderr.read().splitlines()
            assert "what the server says is heard by nobody from here on: " in told
        finally:
            server.kill()


def test_serve_takes_the_names_and_origins_that_may_use_it(target):
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:flow", "--port", "0"]
    command += ["--allow-host", "box.lan", "--allow-origin", "http://page.example"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            for host, status in (("box.lan", 200), ("evil.example", 403)):
                headers = {"Host": host, "Origin": "http://page.example"}
                request = urllib.request.Request(f"{url}/turns", b'{"user": "ann", "input": "hi"}', headers)
                assert status_of(request) == status
        finally:
            server.terminate()
            server.wait(10)


SLOW_TO_OPEN = """
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
import trio

@module
class Slow(Module[str, str]):
    which: str
    opens_s: float = 0.0
    closes_s: float = 0.0

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        print("opening", self.which, flush=True)
        await trio.sleep(self.opens_s)
        print("open", self.which, flush=True)
        try:
            yield
        finally:
            print("releasing", self.which, flush=True)
            await trio.sleep(self.closes_s)
            print("released", self.which, flush=True)

    async def process(self, text: str, turn: Turn) -> str:
        return text

opens_slowly = Slow("a") >> Slow("b", opens_s=3600)
closes_slowly = Slow("a") >> Slow("b", closes_s=3600)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_modules_open_releases_those_that_are_open(target, how):
    target.write_text(FLOW + SLOW_TO_OPEN)
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:opens_slowly", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            seen = [server.stdout.readline() for _ in range(3)]
            assert sorted(seen) == ["open a\n", "opening a\n", "opening b\n"]
            server.send_signal(how)
            assert server.wait(10) == 0
            rest = server.stdout.read()
            assert "released a" in rest
            assert "Traceback" not in rest
        finally:
            server.kill()


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_second_signal_while_modules_are_released_ends_serve_at_once(target):
    target.write_text(FLOW + SLOW_TO_OPEN)
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:closes_slowly", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            for word in ("Listening", "releasing b"):
                assert any(line.startswith(word) for line in server.stdout)
                server.send_signal(signal.SIGINT)
            assert server.wait(10) == -signal.SIGINT
        finally:
            server.kill()


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_second_ctrl_c_ends_a_script_whose_modules_are_being_released(target):
    # A program that a shell starts in the background, as CI may be, ignores SIGINT and passes that on.
    heeds = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = f"{heeds}import trio\ntrio.run(closes_slowly.collect, ['x'])\n"
    target.write_text(FLOW + SLOW_TO_OPEN + script)
    with subprocess.Popen(
        [sys.executable, str(target)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert any(line.startswith("releasing b") for line in program.stdout)
            program.send_signal(signal.SIGINT)
            assert program.wait(10) != 0
            assert "KeyboardInterrupt" in program.stdout.read()
        finally:
            program.kill()


STUBBORN = """
import trio

@module
class Stubborn(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("taken")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
        return text

stubborn = Stubborn()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_serve_at_once_whatever_a_stage_does(target, how):
    target.write_text(FLOW + STUBBORN)
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:stubborn", "--port", "0", "--grace", "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            with urllib.request.urlopen(f"{url}/turns", b'{"user": "ann", "input": "hello"}', timeout=10) as response:
                assert b"turn.started" in response.readline()
                assert b"taken" in response.readline()
                server.send_signal(how)
                assert any(line.startswith("Shutting down") for line in server.stdout)
                server.send_signal(how)
                assert server.wait(10) == -how
                assert "Stopped at once" in server.stdout.read()
        finally:
            server.kill()


def test_serve_takes_tokens_from_a_file_and_needs_none_for_trusted_networks(target):
    token = "a-token-of-more-than-16"
    (target.parent / "tokens").write_text(f"# ours\n{token} ann\n")
    command = [sys.executable, "-m", "ezflow", "serve", f"{target}:flow", "--port", "0", "--host", "0.0.0.0"]
    command += ["--tokens", str(target.parent / "tokens"), "--trust", "127.0.0.0/8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            found = next(found for line in server.stdout if (found := re.search(r"http://\S+:(\d+)", line)))
            url, bearer = f"http://127.0.0.1:{found[1]}", {"Authorization": f"Bearer {token}"}
            for user, headers, status in (("ann", bearer, 200), ("bob", bearer, 403), ("ann", {}, 401)):
                body = f'{{"user": "{user}", "input": "hi"}}'.encode()
                assert status_of(urllib.request.Request(f"{url}/turns", body, headers)) == status
            assert status_of(urllib.request.Request(f"{url}/heartbeat?user=ann")) == 200
        finally:
            server.terminate()
            server.wait(10)


def status_of(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
