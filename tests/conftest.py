"""One server with the voice example for all tests that speak to real models over a real socket."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VOICE = Path(__file__).parents[1] / "examples" / "voice.py"


@pytest.fixture(scope="session")
def voice_url() -> Iterator[str]:
    """The URL of `ezflow serve examples/voice.py`, a process of its own."""
    command = [sys.executable, "-m", "ezflow", "serve", str(VOICE), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        said = []
        assert server.stdout is not None
        for line in server.stdout:
            said.append(line)
            if line.startswith("Listening"):
                break
        found = re.search(r"http://\S+", said[-1]) if said else None
        assert found is not None, "".join(said)
        yield found[0]
        server.terminate()
        assert server.wait(20) == 0, server.stdout.read()
