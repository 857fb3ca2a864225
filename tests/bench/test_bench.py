"""The benchmark's short mode: under load nothing is lost, doubled or another user's, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_short_benchmark_finds_nothing_lost_doubled_mixed_or_left_behind(tmp_path: Path) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.svg"
    command = [sys.executable, "-m", "tests.bench", "--short", "--json", str(figures), "--plot", str(plot)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| target | must | reach for | measured | met |" in done.stdout
    assert plot.read_text().startswith("<svg")
