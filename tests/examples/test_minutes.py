"""examples/minutes.py: many sounds, one text at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from programs import example, run, serving

pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")

from speech import RATE_HZ, conversation, silence, spoken

from ezflow.testing import check_module, collect
from stdlib_modules.sound import from_float32

SAID = [
    "The budget for the new kitchen is ten thousand euros.",
    "I will call the builder on Friday.",
    "How many lamps do we need?",
]
MINUTES = """\
# Minutes
- The budget is fixed.
- I will call the builder.
- Who orders the lamps?
- We must hurry.

# To do
- I will call the builder.
- We must hurry.

# Open questions
- Who orders the lamps?"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("minutes") as url:
        yield url


def files(folder: Path) -> list[Path]:
    """A WAV for each who spoke."""
    made = []
    for number, sentence in enumerate(SAID):
        made.append(folder / f"{number}.wav")
        made[-1].write_bytes(from_float32(spoken(sentence), RATE_HZ).to_wav())
    return made


def parts(minutes: str) -> dict[str, str]:
    """The parts of what was written, by their titles, in small letters."""
    return {part.splitlines()[0]: part.lower() for part in minutes.split("# ")[1:]}


def test_what_many_said_becomes_one_text_at_the_end():
    said = ["The budget is fixed. I will call the builder.", "Who orders the lamps?", "We must hurry."]
    assert trio.run(collect, example("minutes").Minutes(), said) == [MINUTES]


def test_where_nothing_is_said_there_are_no_minutes():
    assert trio.run(collect, example("minutes").Minutes(), []) == []


def test_the_module_keeps_the_rules_of_modules():
    check_module(example("minutes").Minutes("Kitchen"), ["We will see.", "Who?"])


@pytest.mark.model
def test_files_become_minutes(tmp_path):
    found = parts(run("minutes", *files(tmp_path), cwd=tmp_path).stdout)
    assert [*found] == ["Minutes", "To do", "Open questions"]
    assert len(found["Minutes"].splitlines()) >= len(SAID)
    assert "budget for the new kitchen" in found["Minutes"]
    assert "builder on friday" in found["To do"]
    assert "how many lamps" in found["Open questions"]


@pytest.mark.model
def test_a_file_that_is_no_sound_is_named_as_the_reason(tmp_path):
    (tmp_path / "notes.wav").write_text("no sound at all")
    assert "not a WAV" in run("minutes", "notes.wav", cwd=tmp_path, code=1).stderr
    assert "missing.wav" in run("minutes", "missing.wav", cwd=tmp_path, code=1).stderr


@pytest.mark.model
async def test_a_microphone_gives_transcripts_meanwhile_and_the_minutes_at_the_end(url):
    async with conversation(f"{url}/live", "ann") as client:
        for sentence in SAID:
            await client.burst(spoken(sentence), silence(1))
        await client.until("transcript", place=2, final=True)
        assert client.all("text") == []
        await client.end()
    (minutes,) = client.all("text")
    assert minutes["stage"] == "minutes"
    assert "how many lamps" in parts(minutes["text"])["Open questions"]
    assert client.events[-1]["reason"] == "done"
