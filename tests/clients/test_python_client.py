"""The Python client passes the scenario that all clients pass, on trio and as plain blocking calls."""

import sys
from pathlib import Path

import pytest
from scenario import perform, write_question

PROGRAMS = Path(__file__).parents[2] / "examples" / "clients" / "python"


@pytest.mark.model
@pytest.mark.parametrize("program", ["scenario.py", "scenario_blocking.py"])
def test_the_scenario_is_passed(program, voice_url, tmp_path):
    perform([sys.executable, str(PROGRAMS / program)], voice_url, write_question(tmp_path / "question.wav"))
