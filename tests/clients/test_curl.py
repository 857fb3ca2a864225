"""Every block of examples/clients/curl/README.md runs, in order and in one folder, and shows what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ezflow import Audio

PAGE = (Path(__file__).parents[2] / "examples" / "clients" / "curl" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
URL_LINE = "URL=http://127.0.0.1:3421\n"
TOKEN = "0123456789abcdef"
SAID_S = 0.01

# Stages that are called, and take options, as those of the voice example.
SERVED = f"""
from collections.abc import AsyncIterator

import attrs
import trio

from ezflow import Audio, Latest, Module, Transcript, Turn, module
from ezflow.testing import FakeTTS


@attrs.frozen
class LLMOptions:
    temperature: float | None = None


@attrs.frozen
class TTSOptions:
    speed: float = 1.0


@module
class Moonshine(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        text = f"How many legs in {{sound.duration_s:g}} s?"
        await turn.reply(Transcript(text))
        return text


@module(options=LLMOptions, key="LLM")
class LocalLLM(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "You said "
        yield text
        if "fifty" in text:
            await trio.sleep_forever()


@module
class Sentences(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> str:
        return text


@module(options=TTSOptions, key="TTS")
class Hibari(Module[str, Audio]):
    async def process(self, text: str, turn: Turn) -> Audio:
        seconds = {SAID_S} * len(text) / turn.options[TTSOptions].speed
        return Audio(b"ab" * round(24_000 * seconds), 24_000)


voice = Moonshine() >> LocalLLM().shown() >> Sentences() >> Hibari()
flows = {{"voice": voice, "live": Latest(voice)}}
"""


def served(tmp_path_factory: pytest.TempPathFactory, **environment: str) -> Iterator[str]:
    file = tmp_path_factory.mktemp("served") / "fakes.py"
    file.write_text(SERVED, encoding="utf-8")
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as server:
        assert server.stdout is not None
        found = next(re.search(r"http://[\d.:]+", line) for line in server.stdout if line.startswith("Listening"))
        assert found is not None
        yield found[0]
        server.terminate()
        server.communicate(timeout=20)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    yield from served(tmp_path_factory)


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory):
    yield from served(tmp_path_factory, EZFLOW_TOKENS=TOKEN)


def shell(script: str, url: str, folder: Path) -> str:
    """What a block prints."""
    command = ["bash", "-euo", "pipefail", "-c", script]
    environment = os.environ | {"URL": url, "TOKEN": TOKEN}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder, env=environment)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def said(url, tmp_path_factory) -> dict[str, str]:
    """What each block printed."""
    assert BLOCKS[0] == URL_LINE
    folder = tmp_path_factory.mktemp("curl")
    (folder / "question.wav").write_bytes(Audio(bytes(2 * 12_000), 8_000).to_wav())
    printed = {block: shell(block, url, folder) for block in BLOCKS[1:]}
    return printed | {path.name: path.read_text("latin-1") for path in folder.iterdir()}


def printed_by(said: dict[str, str], part: str) -> str:
    """What the one block printed in which this stands."""
    (found,) = [text for block, text in said.items() if part in block]
    return found


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_turn_is_told_event_by_event(said):
    told = events(printed_by(said, '"input": "How many legs does a spider have?"'))
    first, *between, last = [event["type"] for event in told]
    assert (first, sorted(between), last) == ("turn.started", ["audio", "audio", "text", "text"], "turn.ended")
    assert told[-1]["reason"] == "done"


def test_the_words_alone_are_shown(said):
    assert printed_by(said, "grep -o") == '"text":"You said "\n"text":"Say hello."\n'


def test_server_sent_events_have_ids_names_and_data(said):
    assert re.search(r"^id: \d+:1\nevent: text\ndata: \{.*\}\n\n", printed_by(said, "text/event-stream"), re.MULTILINE)


def test_a_wav_is_understood_at_its_own_rate_and_answered(said):
    transcript, *texts = events(printed_by(said, "(transcript|text)"))
    assert transcript["text"] == "How many legs in 1.5 s?"
    assert "".join(str(text["text"]) for text in texts) == "You said How many legs in 1.5 s?"


def test_the_sound_of_all_audio_events_becomes_one_file(said):
    samples = sum(int(str(event["samples"])) for event in events(said["answer.ndjson"]) if event["type"] == "audio")
    assert said["answer.pcm"] == "ab" * samples
    assert samples == 24_000 * SAID_S * len("You said How many legs in 1.5 s?")


def test_text_at_sentences_is_said_and_not_answered(said):
    assert [event["type"] for event in events(said["said.ndjson"])] == ["turn.started", "audio", "turn.ended"]


def test_options_reach_their_stages(said):
    first = next(event for event in events(said["faster.ndjson"]) if event["type"] == "audio")
    assert first["samples"] == round(24_000 * SAID_S * len("You said ") / 1.2)


def test_the_timeline_names_stages_and_states(said):
    told = events(printed_by(said, '"timeline": true'))
    assert {"local_llm", "hibari"} <= {str(event["stage"]) for event in told}
    assert all("state" in event for event in told)


def test_what_does_not_fit_is_answered_with_its_place(said):
    assert json.loads(printed_by(said, '"nowhere"'))["error"] == "EntryError"


def test_interrupt_answers_with_the_turn_that_it_ended(said):
    interrupted, ended = printed_by(said, '$URL/interrupt"').replace("}{", "}\n{").splitlines()
    assert json.loads(interrupted)["turn"] == json.loads(ended)["turn"]
    assert json.loads(ended)["reason"] == "interrupted"


def test_the_server_tells_its_health_its_flow_and_its_schemas(said):
    assert printed_by(said, "/health/ready")
    assert '"local_llm"' in printed_by(said, '$URL/flow"\ncurl')
    assert '"live":true' in printed_by(said, "$URL/live/flow")


def test_ezpipes_route_answers_in_bare_lines(said):
    assert {line["type"] for line in events(said["ezpipe.ndjson"])} == {"text", "audio/wav"}
    assert '"success"' in printed_by(said, "interrupt_talk")


def test_a_server_with_tokens_answers_who_sends_one_and_refuses_who_does_not(guarded_url, tmp_path):
    (block,) = [block for block in BLOCKS if "Bearer" in block]
    assert '"local_llm"' in shell(block, guarded_url, tmp_path)
    assert "Unauthorized" in shell('curl -s "$URL/flow"', guarded_url, tmp_path)
