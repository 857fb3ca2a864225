"""What is particular to GPT-SoVITS: its voices, its sound, and how it says that it failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import ezflow
from ezflow import Audio
from ezflow.server.ezpipe_request import read_options
from ezflow.testing import collect
from ezflow.testing.backends import Fault
from ezflow.testing.backends.gpt_sovits import GPTSoVITSStandIn
from stdlib_modules.http.errors import BackendRefused, BackendUnreachable
from stdlib_modules.tts.gpt_sovits import GPTSoVITS

TABLE = """
邻家女孩:
  中立: {ref_audio_path: girl/neutral.wav, prompt_text: 早上好。, prompt_lang: zh}
  开心:
    ref_audio_path: girl/happy.wav
    prompt_text: 太好了！
    prompt_lang: zh
    speed_factor: 1.25
    aux_ref_audio_paths: [girl/more.wav]
butler:
  calm: {ref_audio_path: butler.wav, prompt_text: Very good., prompt_lang: en, text_lang: en, top_k: 15}
"""
GIRL, HAPPY, BUTLER = (
    ("girl/neutral.wav", "早上好。"),
    ("girl/happy.wav", "太好了！"),
    ("butler.wav", "Very good."),
)
EZPIPE_TABLE = """
派蒙:
  awake_text: "你好"
  awake_audio: "/awake.wav"
  中立:
    reffile: "./models/one.wav"
    reftext: "早上好。"
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "voices.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return str(path)


def sound(reference: tuple[str, str], text: str, speed: float = 1.0) -> bytes:
    return GPTSoVITSStandIn.sound_of(*reference, text, speed)


def pcm(pieces: list[Audio]) -> bytes:
    return b"".join(piece.pcm for piece in pieces)


async def test_it_asks_as_the_server_documents_it() -> None:
    async with GPTSoVITSStandIn().serving() as server:
        await collect(GPTSoVITS(ref_audio_path="a.wav", prompt_text="早。", url=server.url), ["你好"])
        assert msgspec.json.decode(server.requests[0].body) == {
            "text": "你好", "text_lang": "zh", "ref_audio_path": "a.wav", "aux_ref_audio_paths": [],
            "prompt_text": "早。", "prompt_lang": "zh", "top_k": 5, "top_p": 1, "temperature": 1,
            "text_split_method": "cut5", "batch_size": 1, "speed_factor": 1.0, "streaming_mode": True,
            "media_type": "wav", "seed": -1, "parallel_infer": True, "repetition_penalty": 1.35,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "reference"),
    [
        ({}, GIRL),
        ({"voice": "邻家女孩"}, GIRL),
        ({"emotion": "开心"}, HAPPY),
        ({"voice": "邻家女孩", "emotion": "开心"}, HAPPY),
        ({"voice": "butler"}, BUTLER),
        ({"voice": "", "emotion": ""}, GIRL),
    ],
)
async def test_a_request_gets_the_voice_and_emotion_that_it_names(
    table: str, asked: dict[str, str], reference: Any
) -> None:
    async with GPTSoVITSStandIn().serving() as server:
        said = await collect(GPTSoVITS(table, url=server.url), ["你好"], TTS=asked)
    assert pcm(said) == sound(reference, "你好", 1.25 if reference is HAPPY else 1.0)


async def test_the_usual_voice_and_emotion_are_configured(table: str) -> None:
    async with GPTSoVITSStandIn().serving() as server:
        assert pcm(await collect(GPTSoVITS(table, "butler", url=server.url), ["hello"])) == sound(BUTLER, "hello")
        happy = GPTSoVITS(table, "邻家女孩", "开心", url=server.url)
        assert pcm(await collect(happy, ["你好"])) == sound(HAPPY, "你好", 1.25)
        # a voice that does not know the usual emotion speaks in its own first one
        assert pcm(await collect(happy, ["hello"], TTS={"voice": "butler"})) == sound(BUTLER, "hello")


async def test_an_emotion_may_set_any_key_of_the_servers(table: str) -> None:
    async with GPTSoVITSStandIn().serving() as server:
        await collect(GPTSoVITS(table, url=server.url), ["hello"], TTS={"voice": "butler"})
        await collect(GPTSoVITS(table, url=server.url), ["hello"], TTS={"emotion": "开心"})
        butler, happy = server.spoken
    assert (butler.text_lang, butler.prompt_lang, butler.top_k) == ("en", "en", 15)
    assert happy.aux_ref_audio_paths == ["girl/more.wav"]


async def test_two_users_at_once_each_hear_the_voice_that_they_asked_for(table: str) -> None:
    heard: dict[str, bytes] = {}
    asked = {"ann": {"voice": "butler"}, "bob": {"emotion": "开心"}, "eve": {}}
    async with GPTSoVITSStandIn(each_s=0.005).serving() as server, GPTSoVITS(table, url=server.url).open() as service:

        async def one(user: str) -> None:
            async with service.session(user) as session:
                for text in ("one", "two"):
                    events = session.turn(f"{user} {text}", options={"TTS": asked[user]})
                    heard[f"{user} {text}"] = pcm([event.item async for event in events if event.type == "audio"])

        async with trio.open_nursery() as nursery:
            for user in asked:
                nursery.start_soon(one, user)
    for text, said in heard.items():
        reference, speed = {"ann": (BUTLER, 1.0), "bob": (HAPPY, 1.25), "eve": (GIRL, 1.0)}[text.split()[0]]
        assert said == sound(reference, text, speed)


async def test_the_server_makes_one_sound_at_a_time_lest_it_mix_the_voices(table: str) -> None:
    most = 0
    async with GPTSoVITSStandIn(each_s=0.005).serving() as server, GPTSoVITS(table, url=server.url).open() as service:

        async def one(user: str) -> None:
            nonlocal most
            async with service.session(user) as session:
                async for _ in session.turn("hello", options={"TTS": {"voice": "butler"}}):
                    most = max(most, server.connections)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, f"user {number}")
        assert len(server.spoken) == 5
    assert most == 1


async def test_what_ezpipes_clients_send_is_understood(table: str) -> None:
    given = {"temperature": 1, "TTS": {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}}
    async with GPTSoVITSStandIn().serving() as server, GPTSoVITS(table, url=server.url).open() as service:
        options = read_options(given, service.stages)
        async with service.session("ann") as session:
            said = [e.item async for e in session.turn("你好", options=options) if e.type == "audio"]
        assert server.spoken[0].temperature == 1
    assert pcm(said) == sound(GIRL, "你好")


async def test_ezpipes_own_table_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "Config.yaml"
    path.write_text(EZPIPE_TABLE, encoding="utf-8")
    async with GPTSoVITSStandIn().serving() as server:
        said = await collect(GPTSoVITS(str(path), url=server.url), ["你好"], TTS={"voice": "派蒙", "emotion": "中立"})
    assert pcm(said) == sound(("./models/one.wav", "早上好。"), "你好")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"voice": "nobody"}, "TTS.voice: there is no voice 'nobody'; known here: 邻家女孩, butler"),
        ({"emotion": "sad"}, "TTS.emotion: there is no emotion 'sad' of 邻家女孩; known here: 中立, 开心"),
        ({"voice": "butler", "emotion": "中立"}, "TTS.emotion: there is no emotion '中立' of butler; known here: calm"),
    ],
)
async def test_a_voice_that_is_not_there_is_an_error_that_lists_those_that_are(
    table: str, asked: dict[str, str], told: str
) -> None:
    async with GPTSoVITSStandIn().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(ezflow.InputError, check=lambda error: str(error) == told)):
            await collect(GPTSoVITS(table, url=server.url), ["hello"], TTS=asked)
        assert server.requests == []


async def test_a_single_voice_is_every_requests_voice() -> None:
    async with GPTSoVITSStandIn().serving() as server:
        flow = GPTSoVITS(ref_audio_path="butler.wav", prompt_text="Very good.", prompt_lang="en", url=server.url)
        said = await collect(flow, ["hello"], TTS={"voice": "邻家女孩", "emotion": "中立"})
    assert pcm(said) == sound(BUTLER, "hello")


REFERENCE = "{ref_audio_path: a.wav}"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "FILE: None stands where voices are needed (name: …)"),
        ("- a\n- b", "FILE: ['a', 'b'] stands where voices are needed (name: …)"),
        ("ann: 5", "FILE: ann: 5 stands where emotions are needed (name: …)"),
        ("ann: {calm: x.wav}", "FILE: ann.calm: 'x.wav' stands where keys are needed (name: …)"),
        ("ann: {awake_text: hi}", "FILE: ann: has no emotion"),
        (f"ann: {{1: {REFERENCE}}}", "FILE: ann: the name 1 is no text: put it in quotes"),
        (f"no: {{calm: {REFERENCE}}}", "FILE: the name False is no text: put it in quotes"),
        ("ann: {calm: {prompt_text: hi}}", "FILE: ann.calm: ref_audio_path is missing"),
        ("ann: {calm: {ref_audio_path: ''}}", "FILE: ann.calm: ref_audio_path is missing"),
        ("ann: {calm: {ref_audio_path: 5}}", "FILE: ann.calm.ref_audio_path: 5 was given, but str is needed"),
        ("ann: {calm: {ref_audio_path: a, top_k: 1.5}}", "FILE: ann.calm.top_k: 1.5 was given, but int is needed"),
        ("ann: {calm: {ref_audio_path: a, top_p: yes}}", "FILE: ann.calm.top_p: True was given, but float is needed"),
        (
            "ann: {calm: {ref_audio_path: a, aux_ref_audio_paths: b}}",
            "FILE: ann.calm.aux_ref_audio_paths: 'b' was given, but a list of texts is needed",
        ),
        ("ann: {calm: {ref_audio_path: a, reffile: b}}", "FILE: ann.calm.reffile: ref_audio_path is said twice"),
        (f"ann:\n  calm: {REFERENCE}\n  calm: {REFERENCE}", "FILE: line 3: ann.calm stands there twice."),
        (f"ann:\n  calm: {REFERENCE}\nann: {REFERENCE}", "FILE: line 3: ann stands there twice."),
        ("ann:\n  calm: {a", "FILE: line 2: this is no YAML: expected ',' or '}', but got '<stream end>'."),
        ("ann: !!python/object:os.x {}", "FILE: line 1: this is no YAML: could not determine a constructor"),
    ],
)
async def test_a_table_that_is_wrong_is_told_with_the_place(tmp_path: Path, written: str, told: str) -> None:
    path = tmp_path / "voices.yaml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(ezflow.ModuleOpenError) as caught:
        await collect(GPTSoVITS(str(path)), ["hello"])
    assert str(caught.value.__cause__).startswith(told.replace("FILE", str(path)))


async def test_an_unknown_key_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "voices.yaml"
    path.write_text("ann: {calm: {ref_audio_path: a.wav, ref_text: hi}}")
    with pytest.raises(ezflow.ModuleOpenError, match=r"ann\.calm\.ref_text: there is no such key; known here: ref_"):
        await collect(GPTSoVITS(str(path)), ["hello"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "it needs a voice: give voices, a YAML file, or else ref_audio_path, prompt_text and prompt_lang"),
        ({"voices": "TABLE", "ref_audio_path": "a.wav"}, "it needs a voice: give voices, a YAML file, or else"),
        ({"voices": "not/there.yaml"}, "not/there.yaml cannot be read: No such file or directory"),
        (
            {"voices": "TABLE", "voice": "nobody"},
            "there is no voice 'nobody', which is to be the usual one; known here",
        ),
        (
            {"voices": "TABLE", "emotion": "sad"},
            "邻家女孩 has no emotion 'sad', which is to be the usual one; known: 中立",
        ),
    ],
)
async def test_a_configuration_without_a_voice_is_told_when_it_opens(
    table: str, settings: dict[str, str], told: str
) -> None:
    given = {name: table if value == "TABLE" else value for name, value in settings.items()}
    with pytest.raises(ezflow.ModuleOpenError, match=told):
        await collect(GPTSoVITS(**given), ["hello"])


async def test_without_pyyaml_a_table_says_what_to_install(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ezflow.ModuleOpenError, match="GPTSoVITS needs PyYAML") as caught:
        await collect(GPTSoVITS(table), ["hello"])
    assert isinstance(caught.value.__cause__, ezflow.MissingDependency)


async def test_each_sound_is_given_when_it_comes() -> None:
    async with GPTSoVITSStandIn(each_s=0.05).serving() as server:
        async with GPTSoVITS(ref_audio_path="a", url=server.url).open() as service, service.session("ann") as session:
            times = [event.t async for event in session.turn("hello") if event.type == "audio"]
    assert times[-1] - times[0] > 0.1


async def test_the_first_piece_bears_the_text_and_all_have_the_servers_rate() -> None:
    async with GPTSoVITSStandIn(each_s=0.01, rate_hz=48_000).serving() as server:
        said = await collect(GPTSoVITS(ref_audio_path="a", url=server.url), ["你好", "again"])
    texts = [piece.text for piece in said if piece.text]
    assert texts == ["你好", "again"]
    assert {(piece.rate_hz, piece.channels) for piece in said} == {(48_000, 1)}


@pytest.mark.parametrize(
    ("configured", "streamly", "sent"),
    [(True, None, True), (True, False, False), (3, None, 3), (3, True, 3), (False, True, True), (False, None, False)],
)
async def test_a_request_says_whether_to_stream(configured: Any, streamly: bool | None, sent: Any) -> None:
    asked = {} if streamly is None else {"streamly": streamly}
    async with GPTSoVITSStandIn().serving() as server:
        flow = GPTSoVITS(ref_audio_path="a", streaming_mode=configured, url=server.url)
        assert pcm(await collect(flow, ["hello"], TTS=asked)) == sound(("a", ""), "hello")
        assert repr(server.spoken[0].streaming_mode) == repr(sent)  # True is not 1


async def test_a_request_says_how_fast() -> None:
    async with GPTSoVITSStandIn().serving() as server:
        flow = GPTSoVITS(ref_audio_path="a", speed_factor=1.5, url=server.url)
        assert pcm(await collect(flow, ["hello"])) == sound(("a", ""), "hello", 1.5)
        assert pcm(await collect(flow, ["hello"], TTS={"speed": 0.5})) == sound(("a", ""), "hello", 0.5)
        with pytest.raises(ezflow.InputError, match="speed"):
            await collect(flow, ["hello"], TTS={"speed": 9})


async def test_bare_samples_have_the_rate_that_is_configured() -> None:
    async with GPTSoVITSStandIn(rate_hz=24_000).serving() as server:
        flow = GPTSoVITS(ref_audio_path="a", media_type="raw", raw_hz=24_000, url=server.url)
        said = await collect(flow, ["hello"])
    assert pcm(said) == sound(("a", ""), "hello")
    assert {piece.rate_hz for piece in said} == {24_000}


@pytest.mark.parametrize("text", ["", "  \n", "...", "？！", "—", "😀"])
async def test_a_text_with_nothing_to_say_makes_no_request(text: str) -> None:
    async with GPTSoVITSStandIn().serving() as server:
        assert await collect(GPTSoVITS(ref_audio_path="a", url=server.url), [text]) == []
        assert server.requests == []


@pytest.mark.parametrize("media_type", ["wav", "raw"])
async def test_the_silence_that_stands_for_a_failure_is_one(media_type: Any) -> None:
    async with GPTSoVITSStandIn(fault=Fault.ERROR_BODY).serving() as server:
        flow = GPTSoVITS(ref_audio_path="a", streaming_mode=False, media_type=media_type, url=server.url)
        with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match="a second of silence")):
            await collect(flow, ["hello"])


async def test_what_the_server_refuses_is_told_in_its_words() -> None:
    async with GPTSoVITSStandIn(recordings={"b.wav"}).serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused)) as caught:
            await collect(GPTSoVITS(ref_audio_path="a.wav", text_lang="fr", url=server.url), ["hello"])
        (error,) = caught.value.exceptions
        told = "answered 400: text_lang: fr is not supported in version v2: the recording of the voice must be on"
        assert str(error).startswith(f"GPTSoVITS at {server.url}/tts {told}")
        with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused, match="answered 400: tts failed")):
            await collect(GPTSoVITS(ref_audio_path="a.wav", url=server.url), ["hello"])


async def test_its_probe_sees_whether_the_server_is_there() -> None:
    async with GPTSoVITSStandIn().serving() as server:
        async with GPTSoVITS(ref_audio_path="a", url=server.url).open() as service:
            module = service.stages[0].module
            await module.probe()
            server.fault = Fault.SILENT  # it makes a whole text, and answers nothing else
            await module.probe()
    async with GPTSoVITS(ref_audio_path="a", url=server.url, connect_s=0.5).open() as service:
        with pytest.raises(BackendUnreachable, match=r"python api_v2\.py"):
            await service.stages[0].module.probe()
