"""The scenario that each client passes: six steps against one server of `examples/voice.py`.

A client's program is run as `PROGRAM URL QUESTION.wav`, uses its public API alone, and prints a line of JSON a step.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speech import RATE_HZ, silence, spoken, words

from stdlib_modules.sound import from_float32

__all__ = ["QUESTION", "check", "perform", "write_question"]

QUESTION = "How many legs does a spider have?"
WITHIN_S = 180
STEPS = ["text", "audio", "live", "interrupt", "entry", "error"]


def write_question(path: Path) -> Path:
    """The question as a WAV, spoken by Hibari."""
    import numpy as np

    sound = from_float32(np.concatenate([silence(0.2), spoken(QUESTION), silence(0.2)]), RATE_HZ)
    path.write_bytes(sound.to_wav())
    return path


def perform(program: Sequence[str], url: str, question: Path, env: Mapping[str, str] | None = None) -> None:
    """Run a client's program, and check what it says of each step."""
    ran = subprocess.run(
        [*program, url, str(question)], capture_output=True, text=True, timeout=WITHIN_S, check=False, env=env
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    check([json.loads(line) for line in ran.stdout.splitlines()])


def check(steps: list[dict[str, Any]]) -> None:
    """Each step, once and in order, and what the server must have answered to it."""
    assert [step["step"] for step in steps] == STEPS
    text, audio, live, interrupt, entry, error = steps
    for answered in (text, audio, live):
        assert answered["reason"] == "done"
        assert_spoken(answered)
        assert {"eight", "legs"} <= set(words(answered["text"].replace("8", "eight"))), answered
    for heard in (audio, live):
        assert words(heard["transcript"]) == words(QUESTION), heard
    assert interrupt["interrupted"] is True
    assert interrupt["after"] == 0
    assert interrupt["reason"] == "done"
    assert "fifty" not in words(interrupt["text"])
    assert {"eight", "legs"} <= set(words(interrupt["next"].replace("8", "eight"))), interrupt
    assert (entry["text"], entry["reason"]) == ("", "done")
    assert_spoken(entry)
    assert error["error"] == "EntryError"
    assert "nowhere" in error["message"]
    assert "local_llm" in error["message"]


def assert_spoken(step: Mapping[str, Any]) -> None:
    """Its sound is as long as such an answer takes to say."""
    assert step["rate_hz"] == 24_000
    assert 0.5 < step["sound_s"] < 60, step
