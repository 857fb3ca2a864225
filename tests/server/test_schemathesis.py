"""schemathesis reads `/openapi.json` of running servers and tries what stands there, and what does not fit it.

Each status, content type, header and body that comes must be described, what fits must be taken, what does not must be
refused; of a stream each event is looked at. `nox -s schemathesis` tries some twenty times as much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from described import TOKEN
from programs import listening

HERE = Path(__file__).parent
WITHIN_S = 600.0


@pytest.mark.parametrize(
    ("world", "phases"),
    [
        ("text", "examples,coverage,fuzzing"),
        ("voice", "examples,coverage,fuzzing"),
        ("several", "examples,fuzzing"),
        ("several-tokens", "examples,fuzzing"),
    ],
)
def test_a_server_does_as_it_says(world, phases, pytestconfig, tmp_path):
    is_long = pytestconfig.getoption("--long")
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "SCHEMATHESIS_HOOKS": "described_hooks"}
    with listening([sys.executable, str(HERE / "described.py"), world]) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"]
        command += [f"{url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--no-color"]
        command += ["--phases", "examples,coverage,fuzzing" if is_long else phases]
        most = 100 if is_long else 4 if "coverage" in phases else 2
        command += ["--max-examples", str(most), "--continue-on-failure"]
        command += ["--generation-database", "none"] if is_long else ["--generation-deterministic"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Schema validation skipped" not in done.stdout, done.stdout
    if is_long:
        print(done.stdout)
