"""What each server of the benchmark is told: `CORE STUBS`, its core and the port of the model servers' stubs."""

from __future__ import annotations

import sys

from ..served.processes import settle


def read() -> str:
    """The URL of the stubs. Called before anything that may start threads is imported: they keep their core."""
    settle(sys.argv[1])
    return f"http://127.0.0.1:{sys.argv[2]}"
