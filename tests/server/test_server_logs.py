"""The log of a server, a process of its own: JSON lines that tell whose they are, and no secret in them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from programs import answer, turn

SERVED = """
import logging
from quart import Blueprint
from ezflow import Module, Turn, module
from stdlib_modules.llm.ollama import Ollama

library = logging.getLogger("some.library")


@module
class Says(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        library.info("took %r", text)
        if text == "bug":
            raise ZeroDivisionError("by zero")
        if text == "leak":
            import os
            library.error("asked with %s", os.environ["THE_API_KEY"], extra={"headers": {"Authorization": "Bearer x"}})
        return text

    def routes(self) -> Blueprint:
        routes = Blueprint("says", __name__)

        @routes.get("/broken")
        async def broken() -> str:
            raise RuntimeError("the route")

        return routes


@module(blocking=True)
def in_thread(text: str) -> str:
    library.info("in a thread")
    return text


talk = Says() >> in_thread
flows = {"talk": talk, "chat": Says() >> Ollama("m", url="http://ann:s3cr3tpw@127.0.0.1:PORT", retries=1)}
"""


class Served:
    """A server that is up, and its log so far."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def lines(self, logger: str = "") -> list[dict[str, Any]]:
        """Each line, which must be JSON; those of one logger and what is below it."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if f"{line['logger']}.".startswith(f"{logger}." if logger else "")]


@contextmanager
def served(tmp_path: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    with socket.socket() as nobody:  # bound, and never listening
        nobody.bind(("127.0.0.1", 0))
        target, log = tmp_path / "served.py", tmp_path / "log"
        target.write_text(SERVED.replace("PORT", str(nobody.getsockname()[1])), encoding="utf-8")
        command = [sys.executable, "-m", "ezflow", "serve", str(target), "--port", "0", *arguments]
        with log.open("w") as stderr:
            env = os.environ | environment
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("Listening"):
                    yield Served(line.split()[2], log)
                    break
            else:
                raise AssertionError("".join(said) + log.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        assert process.returncode == 0, log.read_text()


def test_each_line_is_json_and_tells_whose_it_is(tmp_path):
    with served(tmp_path, "--log-format", "json", "--log-level", "info") as server:
        turn(f"{server.url}/talk", user="ann", input="hello")
        turn(f"{server.url}/talk", user="ann", input="again")
        own = server.lines("some.library")
        whose = [(line["user"], line["turn"], line["flow"], line["stage"], line["event"]) for line in own]
        assert whose == [
            ("ann", 1, "talk", "says", "took 'hello'"),
            ("ann", 1, "talk", "in_thread", "in a thread"),
            ("ann", 2, "talk", "says", "took 'again'"),
            ("ann", 2, "talk", "in_thread", "in a thread"),
        ]
        ended = [line for line in server.lines("ezflow") if line["event"].startswith("turn ended")]
        assert [(line["user"], line["turn"], line["flow"], line["reason"]) for line in ended] == [
            ("ann", 1, "talk", "done"),
            ("ann", 2, "talk", "done"),
        ]
        for line in server.lines():
            assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
            assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
        # hypercorn's own word, in the same form
        assert any(line["event"].startswith("Running on") for line in server.lines("ezflow.server"))


def test_a_backend_that_is_not_there_is_one_line_and_a_bug_has_its_traceback(tmp_path):
    with served(tmp_path, "--log-format", "json") as server:
        turn(f"{server.url}/chat", user="ann", input="hello")
        turn(f"{server.url}/talk", user="bob", input="bug")
        retried, unreachable, bug = server.lines()
        assert (retried["level"], retried["attempt"], retried["stage"], retried["user"]) == (
            "warning",
            1,
            "ollama",
            "ann",
        )
        assert "attempt 1 of 2 failed, the next is in" in retried["event"]
        assert (unreachable["level"], unreachable["stage"], unreachable["flow"]) == ("error", "ollama", "chat")
        error = unreachable["error"]
        assert (error["type"], error["server"], error["transient"]) == ("BackendUnreachable", "Ollama", True)
        assert "Connection refused" in error["problem"]
        assert error["advice"]
        assert error["advice"] in unreachable["event"]
        assert "exception" not in unreachable
        assert (bug["user"], bug["stage"], bug["error"]["type"]) == ("bob", "says", "ZeroDivisionError")
        assert 'raise ZeroDivisionError("by zero")' in bug["exception"]
        assert "s3cr3tpw" not in server.text


def test_at_debug_the_traceback_of_an_expected_error_is_there_too(tmp_path):
    with served(tmp_path, "--log-format", "json", "--log-level", "debug") as server:
        turn(f"{server.url}/chat", user="ann", input="hello")
        (failed,) = [line for line in server.lines("ezflow") if line["level"] == "error"]
        assert "BackendUnreachable" in failed["exception"]


def test_what_quart_logs_goes_the_same_way(tmp_path):
    with served(tmp_path, "--log-format", "json") as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            answer(f"{server.url}/broken")
        caught.value.close()
        (line,) = server.lines()
        assert (line["level"], line["error"]) == ("error", {"type": "RuntimeError", "message": "the route"})
        assert "Exception on request GET /broken" in line["event"]


def test_a_key_of_the_environment_is_in_no_line(tmp_path):
    key = "key-in-the-environment"
    with served(tmp_path, "--log-format", "json", "--log-level", "debug", THE_API_KEY=key) as server:
        turn(f"{server.url}/talk", user="ann", input="leak")
        (line,) = [line for line in server.lines("some.library") if line["level"] == "error"]
        assert (line["event"], line["headers"]) == ("asked with ***", {"Authorization": "***"})
        assert key not in server.text


@pytest.mark.parametrize("given", ["--tokens", "EZFLOW_TOKENS", "EZFLOW_TOKENS_FILE"])
def test_a_client_s_token_is_in_no_line(tmp_path, given):
    token, file = "a-token-of-many-characters", tmp_path / "tokens"
    file.write_text(f"# who may\n{token} ann\n")
    arguments = ("--tokens", str(file)) if given == "--tokens" else ()
    environment = {} if arguments else {given: f"{token} ann" if given == "EZFLOW_TOKENS" else str(file)}
    with served(tmp_path, "--log-format", "json", "--log-level", "debug", *arguments, **environment) as server:
        body = json.dumps({"user": "ann", "input": f"so {token} is mine"}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.url}/talk/turns", body, headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            response.read()
        (took, _) = server.lines("some.library")
        assert took["event"] == "took 'so *** is mine'"
        assert token not in server.text


def test_the_console_is_the_default_and_has_no_colour_where_it_is_no_terminal(tmp_path):
    with served(tmp_path) as server:
        turn(f"{server.url}/talk", user="ann", input="bug")
        first, *rest = server.text.splitlines()
        assert (
            "[error    ] user 'ann', turn 1, stage says failed [ezflow] user=ann turn=1 flow=talk stage=says" in first
        )
        assert "\x1b" not in server.text
        assert rest[-1].startswith("ZeroDivisionError: by zero") or "in stage 'says'" in rest[-1]
