"""EZPipe's own pipelines, served by a process and driven as EZPipe's clients do, on stand-ins of all five servers."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from ezflow import Audio
from ezflow.testing.backends import (
    DifyStandIn,
    FunASRStandIn,
    GPTSoVITSStandIn,
    LiveTalkingStandIn,
    OllamaStandIn,
)
from ezflow.testing.backends.funasr import speech
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.decoding import lines

EXAMPLE = Path(__file__).parents[2] / "examples" / "ezpipe_voice.py"
VOICES = """
邻家女孩:
  中立: {ref_audio_path: girl/neutral.wav, prompt_text: 你好。, prompt_lang: zh}
  开心: {ref_audio_path: girl/happy.wav, prompt_text: 太好了!, prompt_lang: zh}
uncle:
  neutral: {ref_audio_path: uncle.wav, prompt_text: Good morning., prompt_lang: en}
"""
GIRL = {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}
KEY = "app-of-the-example"
Line = tuple[str, Any]


@attrs.define
class Stage:
    """The five servers, and ezflow's in front of them."""

    http: HTTPClient
    asr: FunASRStandIn
    llm: OllamaStandIn
    tts: GPTSoVITSStandIn
    dify: DifyStandIn
    avatar: LiveTalkingStandIn

    async def post(self, path: str = "/input", **body: Any) -> list[Line]:
        """EZPipe's body, with what is given here; all lines of the answer."""
        sent = {"streamly": True, "temperature": 1, "max_length": 1024, "conversation_id": "", "message_id": ""}
        sent |= {"LLM": {"streamly": True}, "TTS": GIRL} | body
        async with self.http.stream("POST", path, json=sent) as reply:
            assert reply.status == 200
            found = [json.loads(line) async for line in lines(reply)]
        return [
            (line["type"], json.loads(line["chunk"]) if line["type"] == "text" else line["chunk"]) for line in found
        ]


def decoded(line: dict[str, str]) -> Any:
    return json.loads(line["chunk"]) if line["type"] == "text" else line["chunk"]


@asynccontextmanager
async def playing(folder: Path, voices: str | None = VOICES, **llm: Any) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        asr = await stack.enter_async_context(FunASRStandIn().serving())
        ollama = await stack.enter_async_context(OllamaStandIn(**llm).serving())
        tts = await stack.enter_async_context(GPTSoVITSStandIn().serving())
        dify = await stack.enter_async_context(DifyStandIn("One. You said {}. Three.".format, key=KEY).serving())
        avatar = await stack.enter_async_context(LiveTalkingStandIn(sessions=(319652,)).serving())
        urls = {"FUNASR": asr, "OLLAMA": ollama, "GPT_SOVITS": tts, "DIFY": dify, "LIVETALKING": avatar}
        environment = os.environ | {f"{name}_URL": server.url for name, server in urls.items()}
        environment["DIFY_API_KEY"] = KEY
        environment.pop("GPT_SOVITS_VOICES", None)
        if voices is not None:
            (folder / "voices.yaml").write_text(voices, encoding="utf-8")
            environment["GPT_SOVITS_VOICES"] = str(folder / "voices.yaml")
        command = [sys.executable, "-m", "ezflow", "serve", str(EXAMPLE), "--port", "0"]
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        try:
            with trio.fail_after(60):
                url = await listening(process)
                async with HTTPClient(url) as http:
                    yield Stage(http, asr, ollama, tts, dify, avatar)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                assert await process.wait() == 0


async def listening(process: trio.Process) -> str:
    assert process.stdout is not None
    said = b""
    async for piece in process.stdout:
        said += piece
        if found := re.search(rb"Listening on (\S+)", said):
            return found[1].decode()
    raise AssertionError(said.decode())


def texts(answer: list[Line]) -> list[str]:
    return [chunk["response"] for kind, chunk in answer if kind == "text"]


def wav(sound: Audio) -> str:
    return base64.b64encode(sound.to_wav()).decode()


async def test_a_spoken_question_is_answered_in_a_voice_before_its_text_is_complete(tmp_path):
    answer_of = "I heard {} indeed. It is the second sentence. And the third one.".format
    async with playing(tmp_path, answer=answer_of, each_s=0.05) as stage:
        answer = await stage.post(user="ann", Input=wav(speech("hello", " world")), Entry=0)
        kinds = [kind for kind, _ in answer]
        assert set(kinds) == {"text", "audio/wav"}
        growing = [
            place for place in range(1, len(answer)) if kinds[place] == "text" and not answer[place][1]["Is_End"]
        ]
        assert kinds.index("audio/wav") < growing[-1]  # the first sound comes before the last text
        assert texts(answer)[-1] == answer_of("hello world。")
        spoken = [body.text for body in stage.tts.spoken]
        assert len(spoken) > 2
        assert "".join(spoken).replace(" ", "") == texts(answer)[-1].replace(" ", "")
        assert {body.ref_audio_path for body in stage.tts.spoken} == {"girl/neutral.wav"}
        for _, chunk in (line for line in answer if line[0] == "audio/wav"):
            assert Audio.from_wav(base64.b64decode(chunk)).rate_hz == 24_000


async def test_each_request_has_its_own_voice_also_at_once(tmp_path):
    async with playing(tmp_path, answer="For {}.".format) as stage:
        wanted = {
            "ann": (GIRL, "girl/neutral.wav"),
            "bob": (GIRL | {"emotion": "开心"}, "girl/happy.wav"),
            "cid": ({"voice": "uncle", "emotion": "neutral"}, "uncle.wav"),
        }

        async def ask(user: str) -> None:
            for _ in range(3):
                answer = await stage.post("/chat/input", user=user, Input=user, TTS=wanted[user][0])
                assert texts(answer)[-1] == f"For {user}."

        async with trio.open_nursery() as nursery:
            for user in wanted:
                nursery.start_soon(ask, user)
        assert sorted((body.text, body.ref_audio_path) for body in stage.tts.spoken) == sorted(
            (f"For {user}.", path) for user, (_, path) in wanted.items() for _ in range(3)
        )


async def test_a_voice_that_nobody_has_is_an_error_line_that_lists_the_known_ones(tmp_path):
    async with playing(tmp_path) as stage:
        answer = await stage.post("/chat/input", user="ann", Input="hi", TTS={"voice": "nobody"})
        errors = [chunk for kind, chunk in answer if kind == "error"]
        assert len(errors) == 1
        assert errors[0].startswith("gpt_so_vits: ")
        assert "邻家女孩" in errors[0]


async def test_without_a_table_of_its_own_it_speaks_with_the_voices_of_the_sample(tmp_path):
    async with playing(tmp_path, voices=None) as stage:
        for voice in ({}, GIRL | {"emotion": "开心"}, {"voice": "narrator"}):
            answer = await stage.post("/chat/input", user="ann", Input="hi", Entry=2, TTS=voice)
            assert "error" not in [kind for kind, _ in answer]
        assert [(body.ref_audio_path, body.text_lang) for body in stage.tts.spoken] == [
            ("voices/girl/neutral.wav", "zh"),
            ("voices/girl/happy.wav", "zh"),
            ("voices/narrator.wav", "en"),
        ]


@pytest.mark.parametrize(
    ("entry", "given", "heard", "asked", "said"),
    [
        (0, wav(speech("hello")), 1, ["hello。"], 1),
        (1, "typed", 0, ["typed"], 1),
        (2, "One. Two.", 0, [], 2),
        (3, "Just say it.", 0, [], 1),
    ],
)
async def test_a_request_enters_at_any_stage(tmp_path, entry, given, heard, asked, said):
    async with playing(tmp_path, answer="{}".format) as stage:
        answer = await stage.post(user="ann", Input=given, Entry=entry)
        assert [kind for kind, _ in answer].count("error") == 0
        assert len(stage.asr.requests) == heard
        assert [chat.messages[-1].content for chat in stage.llm.chats] == asked
        assert len(stage.tts.spoken) == said
        assert [kind for kind, _ in answer].count("audio/wav") >= said


async def test_an_avatar_says_what_dify_answers_and_the_conversation_goes_on(tmp_path):
    async with playing(tmp_path) as stage:
        first = await stage.post("/avatar/input", user="ann", Input="hello")
        conversation = [chunk["conversation_id"] for kind, chunk in first if kind == "text"][-1]
        assert conversation in stage.dify.talks
        assert texts(first)[-1] == "One. You said hello. Three."
        assert [said.text for said in stage.avatar.said] == ["One.", "You said hello.", "Three."]
        assert {(said.sessionid, said.tts.voice, said.tts.emotion) for said in stage.avatar.said} == {
            ("319652", "邻家女孩", "中立")
        }
        await stage.post("/avatar/input", user="ann", Input="again", conversation_id=conversation)
        assert [chat.conversation_id for chat in stage.dify.chats] == ["", conversation]
        async with stage.http.stream("GET", "/avatar/conversations", params={"user": "ann", "limit": 20}) as reply:
            assert [talk["id"] for talk in (await reply.json())["data"]] == [conversation]
