"""The main job, end to end: a spoken question goes in over HTTP, real models answer it, and it is heard again."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ezflow import Audio

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.model


def turn(url: str, **body: Any) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/turns", json.dumps(body).encode(), timeout=300) as response:
        return [json.loads(line) for line in response]


def spoken(text: str) -> str:
    """Base64 of a WAV in which Hibari says the text."""
    import numpy
    from hibari import Hibari

    samples = Hibari()(text, seed=1)
    pcm = (numpy.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    return base64.b64encode(Audio(pcm, 24_000).to_wav()).decode()


def heard(events: list[dict[str, Any]]) -> str:
    """What Moonshine understands of the reply's sound."""
    import numpy
    import soxr
    from moonshine_voice import ModelArch, Transcriber
    from moonshine_voice.utils import get_model_path

    pcm = b"".join(base64.b64decode(event["data"]) for event in events if event["type"] == "audio")
    samples = soxr.resample(numpy.frombuffer(pcm, "<i2").astype(numpy.float32) / 32768, 24_000, 16_000)
    with Transcriber(get_model_path("tiny-en"), ModelArch.TINY) as transcriber:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), 16_000).lines
    return " ".join(line.text for line in lines)


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "text"]


def final(events: list[dict[str, Any]]) -> str:
    return next(event["text"] for event in events if event["type"] == "transcript" and event["final"])


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_a_spoken_question_is_answered_in_text_and_sound(voice_url):
    events = turn(voice_url, user="ann", input=spoken("How many legs does a spider have?"))
    assert words(final(events)) == words("How many legs does a spider have?")
    assert len(texts(events)) > 2
    assert "eight" in words("".join(texts(events)))
    again = words(heard(events))
    assert set(words("".join(texts(events)))) <= set(again)
    assert events[-1]["reason"] == "done"


def test_the_first_sound_of_a_long_answer_comes_before_its_last_text(voice_url):
    events = turn(voice_url, user="bob", input=spoken("Tell me about the ocean in five sentences."))
    kinds = [event["type"] for event in events]
    last_text = len(kinds) - 1 - kinds[::-1].index("text")
    assert kinds.index("audio") < last_text
    assert kinds.count("audio") > 1


def test_a_recorded_human_voice_is_understood_and_answered(voice_url):
    from moonshine_voice.utils import get_assets_path

    recording = (get_assets_path() / "beckett.wav").read_bytes()
    events = turn(voice_url, user="cy", input=base64.b64encode(recording).decode())
    assert {"ever", "tried", "failed", "try", "again"} <= set(words(final(events)))
    assert events[-1]["reason"] == "done"
    assert any(event["type"] == "audio" for event in events)


def test_text_may_enter_at_the_language_model(voice_url):
    events = turn(voice_url, user="di", input="What is the capital of France?", entry="local_llm")
    assert "paris" in words("".join(texts(events)))
    assert "paris" in words(heard(events))


def test_a_recording_posted_to_the_live_flow_is_cut_into_utterances_and_answered(voice_url):
    events = turn(f"{voice_url}/live", user="eve", input=spoken("How many legs does a spider have?"))
    assert words(final(events)) == words("How many legs does a spider have?")
    runs = {event["run"] for event in events if event["type"] == "audio"}
    assert len(runs) == 1
    assert events[-1]["reason"] == "done"


def test_a_spoken_conversation_is_answered_and_can_be_interrupted(voice_url):
    command = [sys.executable, str(EXAMPLES / "talk.py"), f"{voice_url.replace('http', 'ws')}/live/ws?user=talk"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "after `interrupted`: 0" in done.stdout
    assert done.stdout.count("transcript after") == 3
