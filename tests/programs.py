"""Running the examples as their users do: as programs, and behind `ezflow serve`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import trio

from ezflow import Audio

EXAMPLES = Path(__file__).parents[1] / "examples"
WITHIN_S = 120.0

Events = list[dict[str, Any]]


def example(name: str) -> ModuleType:
    """An example as a module, to be used from within."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations are looked up
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object, cwd: Path, typed: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an example in a folder to its end, which must be with that exit code."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, input=typed, capture_output=True, encoding="utf-8", check=False, timeout=WITHIN_S
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@contextmanager
def serving(name: str, **environment: str) -> Iterator[str]:
    """The URL of `ezflow serve` on an example."""
    command = [sys.executable, "-m", "ezflow", "serve", str(EXAMPLES / f"{name}.py"), "--port", "0"]
    with listening(command, **environment) as url:
        yield url


@contextmanager
def listening(command: list[str], *, cwd: Path | None = None, **environment: str) -> Iterator[str]:
    """The URL that a program says it listens on; at the end it is told to stop, which it must do in order."""
    env = os.environ | environment
    to_read: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    with subprocess.Popen(command, cwd=cwd, env=env, **to_read) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if line.startswith("Listening"):
                break
        try:
            found = re.search(r"http://\S+", said[-1]) if said else None
            assert found is not None, "".join(said)
            yield found[0]
        finally:
            server.terminate()
        assert server.wait(20) == 0, server.stdout.read()


@asynccontextmanager
async def killable(
    command: Sequence[str], *, cwd: Path | None = None, log: Path | None = None
) -> AsyncGenerator[tuple[str, trio.Process], None]:
    """The URL that a program says it listens on, and its process, which is killed at the end if it is there still.

    `log`: the file for its standard error.
    """
    with log.open("wb") if log is not None else nullcontext() as errors:
        process = await trio.lowlevel.open_process(command, cwd=cwd, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdout is not None
    try:
        said = b""
        with trio.fail_after(WITHIN_S):
            while not (found := re.search(rb"Listening on (http://\S+) ", said)):
                more = await process.stdout.receive_some()
                assert more, said.decode()
                said += more
        yield found[1].decode(), process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


@contextmanager
def asked(url: str, body: Any = None, method: str | None = None) -> Iterator[Any]:
    """A response, which may be read as it comes."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=WITHIN_S) as response:
        yield response


def answer(url: str, body: Any = None) -> Any:
    """The JSON that a route answers."""
    with asked(url, body) as response:
        return json.load(response)


def refused(url: str, body: Any) -> tuple[int, Any]:
    """The status and the JSON with which a route refuses."""
    try:
        return 200, answer(url, body)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def turn(url: str, **body: Any) -> Events:
    """The events of `POST /turns`."""
    with asked(f"{url}/turns", body) as response:
        return [json.loads(line) for line in response]


def texts(events: Events, stage: str | None = None) -> list[str]:
    return [event["text"] for event in events if event["type"] == "text" and stage in (None, event["stage"])]


def heard(*sounds: Audio) -> str:
    """What Moonshine understands of them."""
    from stdlib_modules.asr.moonshine import Moonshine

    return " ".join(trio.run(partial(Moonshine().collect, sounds)))
