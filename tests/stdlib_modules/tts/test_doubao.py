"""What is particular to DouBao: its account, voices, limits and codes, and its frames on a WebSocket."""

from __future__ import annotations

import gzip
import struct
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
from ezflow.testing.backends import Fault, Reply, Request
from ezflow.testing.backends.doubao import DouBaoStandIn, DouBaoStreamStandIn
from stdlib_modules.http.errors import BackendBroken, BackendRefused, BackendUnreachable
from stdlib_modules.tts.doubao import LIMIT, DouBao, parts
from stdlib_modules.tts.doubao_frames import Failed, NotAFrame, Sound, decoded, encoded

TABLE = """
邻家女孩:
  awake_text: "你好"
  awake_audio: "/awake.wav"
  voice_type: zh_girl
  emotions: {中立: "", 开心: happy}
butler:
  voice_type: en_butler
"""
APPID, TOKEN = "1234567890", "a-token"
BOTH = pytest.mark.parametrize("streaming", [False, True])

PACKED = gzip.compress(b"busy", mtime=0)


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBAO_APPID", APPID)
    monkeypatch.setenv("DOUBAO_TOKEN", TOKEN)


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "voices.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return str(path)


def standin(streaming: bool, **script: Any) -> DouBaoStandIn | DouBaoStreamStandIn:
    return DouBaoStreamStandIn(**script) if streaming else DouBaoStandIn(**script)


def sound(voice_type: str, emotion: str, text: str, speed: float = 1.0) -> bytes:
    return DouBaoStandIn.sound_of(voice_type, emotion, text, speed)


def pcm(pieces: list[Audio]) -> bytes:
    return b"".join(piece.pcm for piece in pieces)


async def refused(flow: DouBao, **options: Any) -> BackendRefused:
    with pytest.RaisesGroup(pytest.RaisesExc(BackendRefused)) as caught:
        await collect(flow, ["hello"], **options)
    (error,) = caught.value.exceptions
    assert isinstance(error, BackendRefused)
    return error


async def test_it_asks_as_the_service_documents_it() -> None:
    async with DouBaoStandIn().serving() as server:
        await collect(DouBao("zh_female", url=server.url), ["你好"])
        (request,) = server.requests
    body = msgspec.json.decode(request.body)
    body["request"].pop("reqid")
    assert request.headers["authorization"] == "Bearer;a-token"
    assert body == {
        "app": {"appid": APPID, "token": "access_token", "cluster": "volcano_tts"},
        "user": {"uid": "script"},
        "audio": {
            "voice_type": "zh_female", "encoding": "wav", "speed_ratio": 1.0, "volume_ratio": 1.0, "pitch_ratio": 1.0,
        },
        "request": {"text": "你好", "text_type": "plain", "operation": "query"},
    }  # fmt: skip


@BOTH
async def test_the_service_is_told_who_speaks_and_each_request_has_an_id_of_its_own(streaming: bool) -> None:
    async with standin(streaming).serving() as server:
        async with DouBao("zh_female", url=server.url, streaming=streaming).open() as service:
            async with service.session("ann") as session:
                for text in ("one", "two"):
                    async for _ in session.turn(text):
                        pass
        assert [body.user.uid for body in server.spoken] == ["ann", "ann"]
        assert len({body.request.reqid for body in server.spoken}) == 2


@BOTH
@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({}, ("zh_girl", "")),
        ({"voice": "邻家女孩", "emotion": "中立"}, ("zh_girl", "")),
        ({"voice": "邻家女孩", "emotion": "开心"}, ("zh_girl", "happy")),
        ({"voice": "butler"}, ("en_butler", "")),
        ({"voice_type": "zh_other", "emotion": "sad"}, ("zh_other", "sad")),
    ],
)
async def test_a_request_gets_the_voice_and_emotion_that_it_names(
    table: str, asked: dict[str, str], meant: tuple[str, str], streaming: bool
) -> None:
    async with standin(streaming).serving() as server:
        said = await collect(DouBao(voices=table, url=server.url, streaming=streaming), ["你好"], TTS=asked)
    assert pcm(said) == sound(*meant, "你好")
    assert {(piece.rate_hz, piece.channels) for piece in said} == {(24_000, 1)}
    assert [piece.text for piece in said if piece.text] == ["你好"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({}, ("zh_female", "happy")),
        ({"voice": "other"}, ("other", "happy")),
        ({"emotion": "sad"}, ("zh_female", "sad")),
    ],
)
async def test_without_a_table_names_are_the_services_own(asked: dict[str, str], meant: tuple[str, str]) -> None:
    async with DouBaoStandIn().serving() as server:
        said = await collect(DouBao("zh_female", emotion="happy", url=server.url), ["hello"], TTS=asked)
    assert pcm(said) == sound(*meant, "hello")


async def test_the_usual_voice_and_emotion_are_configured(table: str) -> None:
    async with DouBaoStandIn().serving() as server:
        butler = DouBao(voices=table, voice="butler", url=server.url)
        assert pcm(await collect(butler, ["hello"])) == sound("en_butler", "", "hello")
        happy = DouBao(voices=table, emotion="开心", url=server.url)
        assert pcm(await collect(happy, ["hello"])) == sound("zh_girl", "happy", "hello")
        assert pcm(await collect(happy, ["hello"], TTS={"voice": "butler"})) == sound("en_butler", "", "hello")


@BOTH
async def test_two_users_at_once_each_hear_the_voice_that_they_asked_for(table: str, streaming: bool) -> None:
    heard: dict[str, bytes] = {}
    asked = {"ann": {"voice": "butler"}, "bob": {"emotion": "开心"}, "eve": {}}
    async with standin(streaming, each_s=0.005).serving() as server:
        async with DouBao(voices=table, url=server.url, streaming=streaming).open() as service:

            async def one(user: str) -> None:
                async with service.session(user) as session:
                    events = session.turn(f"{user} speaks", options={"TTS": asked[user]})
                    heard[user] = pcm([event.item async for event in events if event.type == "audio"])

            async with trio.open_nursery() as nursery:
                for user in asked:
                    nursery.start_soon(one, user)
    meant = {"ann": ("en_butler", ""), "bob": ("zh_girl", "happy"), "eve": ("zh_girl", "")}
    assert heard == {user: sound(*meant[user], f"{user} speaks") for user in asked}


async def test_what_ezpipes_clients_send_is_understood(table: str) -> None:
    given = {"temperature": 1, "TTS": {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}}
    async with DouBaoStandIn().serving() as server, DouBao(voices=table, url=server.url).open() as service:
        options = read_options(given, service.stages)
        async with service.session("ann") as session:
            said = [e.item async for e in session.turn("你好", options=options) if e.type == "audio"]
    assert pcm(said) == sound("zh_girl", "", "你好")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"voice": "nobody"}, "TTS.voice: there is no voice 'nobody'; known here: 邻家女孩, butler"),
        ({"emotion": "sad"}, "TTS.emotion: there is no emotion 'sad' of 邻家女孩; known here: 中立, 开心"),
        ({"voice": "butler", "emotion": "sad"}, "TTS.emotion: there is no emotion 'sad' of butler; known here: none"),
    ],
)
async def test_a_voice_that_is_not_there_is_an_error_that_lists_those_that_are(
    table: str, asked: dict[str, str], told: str
) -> None:
    async with DouBaoStandIn().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(ezflow.InputError, check=lambda error: str(error) == told)):
            await collect(DouBao(voices=table, url=server.url), ["hello"], TTS=asked)
        assert server.requests == []


@BOTH
async def test_a_request_says_how_fast(streaming: bool) -> None:
    async with standin(streaming).serving() as server:
        flow = DouBao("zh_female", speed_ratio=1.5, url=server.url, streaming=streaming)
        assert pcm(await collect(flow, ["hello"])) == sound("zh_female", "", "hello", 1.5)
        assert pcm(await collect(flow, ["hello"], TTS={"speed": 0.5})) == sound("zh_female", "", "hello", 0.5)
        with pytest.raises(ezflow.InputError, match="speed"):
            await collect(flow, ["hello"], TTS={"speed": 9})


@BOTH
async def test_a_long_text_is_said_in_several_requests(streaming: bool) -> None:
    sentence = "它一直往前走，走过了山，也走过了河。"
    text = sentence * 40
    async with standin(streaming).serving() as server:
        said = await collect(DouBao("zh_female", url=server.url, streaming=streaming), [text])
        asked = [body.request.text for body in server.spoken]
    assert len(asked) == 3
    assert all(part.endswith("。") and len(part.encode()) <= LIMIT for part in asked)
    assert "".join(asked) == text
    assert [piece.text for piece in said if piece.text] == asked
    assert pcm(said) == b"".join(sound("zh_female", "", part) for part in asked)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One two. Three four. Five.", ["One two. Three four.", "Five."]),
        ("Pi is 3.14159, and e is 2.71828", ["Pi is 3.14159,", "and e is 2.71828"]),
        ("one two three four five six seven", ["one two three four", "five six seven"]),
        ("abcdefghijklmnopqrstuvwxyz", ["abcdefghijklmnopqrstu", "vwxyz"]),
        ("一二三四五六七八九", ["一二三四五六七", "八九"]),
        ("他说：“好。”她笑了。", ["他说：“好。”", "她笑了。"]),
        ("  short  ", ["short"]),
        ("one.\n\ntwo", ["one.\n\ntwo"]),
        ("word …………………… more", ["word ……………", "……… more"]),
        ("", []),
        ("…… ？！", []),
    ],
)
def test_a_text_is_split_where_one_would_pause(text: str, said: list[str]) -> None:
    assert list(parts(text, 21)) == said


@BOTH
@pytest.mark.parametrize("text", ["", " \n", "...", "？！", "😀"])
async def test_a_text_with_nothing_to_say_makes_no_request(text: str, streaming: bool) -> None:
    async with standin(streaming).serving() as server:
        assert await collect(DouBao("zh_female", url=server.url, streaming=streaming), [text]) == []
        assert server.requests == []


@BOTH
@pytest.mark.parametrize(
    ("code", "told", "advice", "transient"),
    [
        (3001, "illegal parameter", "voice_type, emotion, cluster", False),
        (3003, "quota exceeded for types: concurrency", "lower max_connections", True),
        (3005, "busy", "try again", True),
        (3011, "illegal input text!", "another language", False),
        (3050, "no such voice", "`voices` says which", False),
        (4711, "what nobody knows", "", False),
    ],
)
async def test_a_code_is_told_with_its_message_and_what_to_try(
    code: int, told: str, advice: str, transient: bool, streaming: bool
) -> None:
    async with standin(streaming, fault=Fault.ERROR_BODY, code=code, told=told).serving() as server:
        error = await refused(DouBao("zh_female", url=server.url, streaming=streaming))
        path = "/api/v1/tts/ws_binary" if streaming else "/api/v1/tts"
        assert str(error).startswith(f"DouBao at {server.url}{path} answered {code}: {told}")
        assert advice in error.advice
        assert (error.status, error.transient) == (code, transient)


async def test_a_voice_that_the_service_does_not_have_is_told() -> None:
    async with DouBaoStandIn(voices={"zh_girl"}).serving() as server:
        error = await refused(DouBao("zh_girl", url=server.url), TTS={"voice": "邻家女孩"})
    assert "answered 3050" in str(error)


@BOTH
async def test_an_account_that_is_refused_shows_no_secret(streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBAO_TOKEN", "another-secret-token")
    async with standin(streaming).serving() as server:
        flow = DouBao("zh_female", url=server.url, streaming=streaming)
        error = await refused(flow)
        assert "answered 401" in str(error)
        assert "the environment variables hold the account's appid and token" in str(error)
    echo = f"no such token: another-secret-token of {APPID}"
    async with standin(
        streaming, token="another-secret-token", fault=Fault.ERROR_BODY, code=3001, told=echo
    ).serving() as server:
        flow = DouBao("zh_female", url=server.url, streaming=streaming)
        error = await refused(flow)
        assert "no such token: *** of ***" in str(error)
    for shown in (str(error), repr(error), error.body, repr(flow)):
        assert "another-secret" not in shown
        assert APPID not in shown


@pytest.mark.parametrize("name", ["DOUBAO_APPID", "DOUBAO_TOKEN"])
async def test_an_account_that_is_not_there_is_told_when_it_opens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ezflow.ModuleOpenError, match=f"the environment variable {name} is not set"):
        await collect(DouBao("zh_female"), ["hello"])
    monkeypatch.setenv("MINE", APPID if name.endswith("APPID") else TOKEN)
    async with DouBaoStandIn().serving() as server:
        names = {f"{name.partition('_')[2].lower()}_env": "MINE"}
        assert await collect(DouBao("zh_female", url=server.url, **names), ["hello"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "it needs a voice: give voice_type, or else voices, a YAML file"),
        ({"voice_type": "x", "voices": "TABLE"}, "it needs a voice: give voice_type, or else voices, a YAML file"),
        ({"voices": "TABLE", "voice": "nobody"}, "there is no voice 'nobody', which is to be the usual one"),
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
        await collect(DouBao(**given), ["hello"])


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("ann: {emotions: {}}", "ann: voice_type is missing"),
        ("ann: {voice_type: x, emotions: 5}", "ann.emotions: 5 was given, but dict is needed"),
        ("ann: {voice_type: x, emotions: {sad: 5}}", "ann.emotions.sad: 5 was given, but str is needed"),
        (
            "ann: {voice: x}",
            "ann.voice: there is no such key; known here: voice_type, emotions, awake_text, awake_audio",
        ),
    ],
)
async def test_a_table_that_is_wrong_is_told_with_the_place(tmp_path: Path, written: str, told: str) -> None:
    path = tmp_path / "voices.yaml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(ezflow.ModuleOpenError) as caught:
        await collect(DouBao(voices=str(path)), ["hello"])
    assert str(caught.value.__cause__) == f"{path}: {told}"


async def test_without_pyyaml_a_table_says_what_to_install(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ezflow.ModuleOpenError, match="DouBao needs PyYAML"):
        await collect(DouBao(voices=table), ["hello"])


async def test_a_stream_gives_each_piece_when_it_comes() -> None:
    async with DouBaoStreamStandIn(each_s=0.05).serving() as server:
        async with DouBao("zh_female", url=server.url, streaming=True).open() as service:
            async with service.session("ann") as session:
                times = [event.t async for event in session.turn("hello") if event.type == "audio"]
    assert times[-1] - times[0] > 0.1


async def test_packed_frames_and_pieces_that_part_a_sample_are_whole_sound() -> None:
    async with DouBaoStreamStandIn(packed=True).serving() as server:
        said = await collect(DouBao("zh_female", url=server.url, streaming=True), ["hey"])
    assert len(said) == 4
    assert pcm(said) == sound("zh_female", "", "hey")


async def test_a_server_that_falls_silent_or_talks_nonsense_after_the_handshake_is_told() -> None:
    async with DouBaoStreamStandIn(fault=Fault.GARBAGE, after_handshake=True).serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="sent a text where a frame was to come")):
            await collect(DouBao("zh_female", url=server.url, streaming=True), ["hello"])


@BOTH
async def test_its_probe_sees_whether_the_service_is_there(streaming: bool) -> None:
    async with standin(streaming).serving() as server:
        url = server.url
        async with DouBao("zh_female", url=url, streaming=streaming).open() as service:
            await service.stages[0].module.probe()
        assert server.spoken == []
    async with DouBao("zh_female", url=url, streaming=streaming, retries=0).open() as service:
        with pytest.raises(BackendUnreachable, match="see whether this machine reaches it"):
            await service.stages[0].module.probe()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("[]", "sent JSON without a code"),
        ('{"code": "3000"}', "sent JSON without a code"),
        ('{"code": 3000}', "answered without a sound"),
        ('{"code": 3000, "data": ""}', "answered without a sound"),
        ('{"code": 3000, "data": 5}', "argument should be"),
        ('{"code": 3000, "data": "!"}', "base64"),
        ('{"code": 3000, "data": "aGVsbG8gd29ybGQ="}', "where a WAV was to come"),
    ],
)
async def test_an_answer_that_is_none_is_told(answer: str, told: str) -> None:
    class Odd(DouBaoStandIn):
        async def answer(self, request: Request, reply: Reply) -> None:
            await reply.whole(answer.encode())

    async with Odd().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match=told)):
            await collect(DouBao("zh_female", url=server.url), ["hello"])


def frame(kind: int, flags: int, body: bytes, packing: int = 0, words: int = 1) -> bytes:
    return bytes([0x10 | words, kind << 4 | flags, packing, 0]) + bytes(4 * (words - 1)) + body


def piece(number: int, data: bytes) -> bytes:
    return struct.pack(">iI", number, len(data)) + data


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        (frame(0b1011, 0, b""), None),
        (frame(0b1011, 1, piece(1, b"ab")), Sound(b"ab", False)),
        (frame(0b1011, 1, piece(1, b"ab"), words=2), Sound(b"ab", False)),
        (frame(0b1011, 1, piece(-1, b"ab")), Sound(b"ab", True)),
        (frame(0b1011, 2, piece(-2, b"ab")), Sound(b"ab", True)),
        (frame(0b1011, 2, struct.pack(">I", 2) + b"ab"), Sound(b"ab", True)),
        (frame(0b1011, 2, struct.pack(">I", 0)), Sound(b"", True)),
        (frame(0b1011, 3, piece(-2, b"")), Sound(b"", True)),
        (frame(0b1011, 1, piece(1, gzip.compress(b"ab", mtime=0)), packing=1), Sound(b"ab", False)),
        (frame(0b1100, 1, b"{}"), None),
        (frame(0b1111, 0, struct.pack(">II", 3005, 4) + b"busy"), Failed(3005, "busy")),
        (frame(0b1111, 0, struct.pack(">II", 3005, 9) + PACKED, packing=1), Failed(3005, "busy")),
    ],
)
def test_a_frame_is_understood(message: bytes, meant: Any) -> None:
    assert decoded(message) == meant


@pytest.mark.parametrize(
    "message",
    [
        "text", b"", b"\x11", b"\x21\xb1\x00\x00", b"\x1f\xb1\x00\x00", frame(0b1011, 1, b""),
        frame(0b1011, 1, piece(1, b"ab")[:-1]), frame(0b1011, 1, piece(1, b"ab") + b"c"), frame(0b1011, 2, b"\0\0"),
        frame(0b1001, 0, b""), frame(0b1111, 0, b"\0"), frame(0b1011, 1, piece(1, b"ab"), packing=1),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused(message: str | bytes) -> None:
    with pytest.raises(NotAFrame):
        decoded(message)


def test_a_small_frame_that_unpacks_to_a_large_one_is_refused_before_it_is_whole() -> None:
    packed = gzip.compress(bytes(64 * 1024 * 1024))
    assert len(packed) < 100_000
    with pytest.raises(NotAFrame, match="holds more than 16777216 bytes"):
        decoded(frame(0b1011, 1, piece(1, packed), packing=1))


def test_a_request_is_a_frame_of_json() -> None:
    message = encoded({"a": "你"})
    assert message[:4] == b"\x11\x10\x10\x00"
    assert struct.unpack(">I", message[4:8]) == (len(message) - 8,)
    assert msgspec.json.decode(message[8:]) == {"a": "你"}
