"""How long a program waits: for `import ezflow`, and until a flow of fakes is served."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from .figures import Figures
from .served.processes import ROOT

__all__ = ["IMPORT", "READY", "measure"]

IMPORT = "s, import"
READY = "s, from the command to /health/ready"
FLOW = Path(__file__).parent / "servers" / "fakes.py"
AGAIN = 5  # an import is short: the median of so many is a round's


def measure(figures: Figures, *, short: bool) -> None:
    """One round, each in a fresh interpreter."""
    for _ in range(1 if short else AGAIN):
        for name in ("trio", "ezflow"):
            code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
            figures.add(IMPORT, name, float(done.stdout))
    figures.add(READY, "ezflow", _ready_s())


def _ready_s() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "ezflow", "serve", str(FLOW), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout
        line = next(line for line in server.stdout if line.startswith("Listening on "))
        urllib.request.urlopen(f"{line.split()[2]}/health/ready", timeout=10).read()
        seconds = time.perf_counter() - begun
        server.terminate()
        server.stdout.read()  # its last words
    return seconds
