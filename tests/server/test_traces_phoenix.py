"""Traces as Arize Phoenix gets them, an OTLP receiver of others: `nox -s phoenix` installs it and runs this."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
from programs import answer, listening, turn

PHOENIX = os.environ.get("TEST_PHOENIX") or shutil.which("phoenix")
WITHIN_S = 120.0
needs_it = pytest.mark.skipif(PHOENIX is None, reason="arize-phoenix is not installed: nox -s phoenix")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def phoenix(tmp_path) -> Iterator[str]:
    """The URL of a Phoenix that keeps its spans in memory."""
    assert PHOENIX is not None
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(tmp_path),
        "PHOENIX_SQL_DATABASE_URL": "sqlite:///:memory:",
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([PHOENIX, "serve"], stdout=log, stderr=log, env=env)
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + WITHIN_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=5):
                break
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)  # another's process, of which nothing else says that it is up
        yield url
    finally:
        process.terminate()
        process.wait(20)


@needs_it
def test_phoenix_shows_a_turn_and_its_stages_as_one_trace(phoenix, tmp_path):
    target = tmp_path / "flow.py"
    target.write_text("from ezflow.testing import FakeLLM, Pause\nflow = FakeLLM('a b c').shown() >> Pause(0.05)\n")
    command = [sys.executable, "-m", "ezflow", "serve", str(target), "--port", "0", "--traces", phoenix]
    with listening(command) as url:
        turn(url, user="ann", input="x")
    until = time.monotonic() + WITHIN_S
    while len(spans := answer(f"{phoenix}/v1/projects/default/spans")["data"]) < 3:
        assert time.monotonic() < until, spans
        time.sleep(0.2)  # it stores them after it has taken them
    found = {span["name"]: span for span in spans}
    assert found.keys() == {"turn", "fake_llm", "pause"}
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    for stage in ("fake_llm", "pause"):
        assert found[stage]["parent_id"] == found["turn"]["context"]["span_id"]
        assert [event["name"] for event in found[stage]["events"]] == ["first output"]
        assert found[stage]["attributes"]["ezflow.items_out"] == 3
    assert found["turn"]["parent_id"] is None
    assert found["turn"]["attributes"]["ezflow.reason"] == "done"
