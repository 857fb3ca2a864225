"""FunASR against its stand-in: what it is sent, what it makes of results, and both servers' idea of an end."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterable
from typing import Any

import numpy as np
import pytest
import trio

from ezflow import Audio, Event, InputError, MissingDependency, Transcript, Utterance
from ezflow.testing import collect
from ezflow.testing.backends import Fault
from ezflow.testing.backends.funasr import FunASRStandIn, speech
from stdlib_modules.asr.funasr import FunASR, _Heard, joined
from stdlib_modules.http.errors import BackendBroken, BackendRefused, BackendTimeout, BackendUnreachable
from stdlib_modules.sound import as_float32, from_float32, slices

FRAME = 1920  # bytes of 60 ms
SOON_S = 0.2


def spoken(*words: str) -> Utterance:
    return Utterance.of(*slices(speech(*words), 0.032))


def asr(server: FunASRStandIn, **settings: Any) -> FunASR:
    return FunASR(url=server.url, **{"final_s": SOON_S, **settings})


async def events_of(flow: FunASR, item: Audio | Utterance, **options: Any) -> list[Event]:
    async with flow.open() as service, service.session("ann") as session:
        return [event async for event in session.turn(item, options=options)]


def transcripts(events: list[Event]) -> list[tuple[str, bool]]:
    return [(event.item.text, event.item.final) for event in events if event.type == "transcript"]


async def next_transcript(events: AsyncIterable[Event]) -> Transcript:
    async for event in events:
        if event.type == "transcript":
            found: Transcript = event.item
            return found
    raise AssertionError("the turn ended before")


# ------------------------------------------------------------------ what it is sent


async def test_it_is_told_all_that_the_protocol_has_and_nothing_else() -> None:
    async with FunASRStandIn().serving() as server:
        await collect(asr(server), [speech("你好")])
        await collect(
            asr(
                server,
                hotwords={"阿里巴巴": 20, "ezflow": 30},
                itn=False,
                mode="offline",
                language="yue",
                chunk_size=(8, 8, 4),
                chunk_interval=5,
                encoder_chunk_look_back=7,
                decoder_chunk_look_back=1,
            ),
            [speech("你好")],
        )
    plain, other = server.openings
    assert (plain.mode, plain.chunk_size, plain.chunk_interval) == ("2pass", (5, 10, 5), 10)
    assert (plain.encoder_chunk_look_back, plain.decoder_chunk_look_back) == (4, 0)
    assert (plain.hotwords, plain.itn, plain.wav_name) == ("", True, "microphone")
    assert (plain.audio_fs, plain.svs_lang) == (16_000, None)
    assert other.hotwords == '{"阿里巴巴": 20, "ezflow": 30}'
    assert (other.mode, other.itn, other.svs_lang, other.chunk_size) == ("offline", False, "yue", (8, 8, 4))
    assert (other.chunk_interval, other.encoder_chunk_look_back, other.decoder_chunk_look_back) == (5, 7, 1)


async def test_a_request_may_say_language_hotwords_itn_and_mode() -> None:
    options = {"ASR": {"language": "en", "hotwords": {"ezflow": 5}, "itn": False, "mode": "online"}}
    async with FunASRStandIn().serving() as server:
        events = await events_of(asr(server, hotwords={"other": 1}), speech("hello"), **options)
    (opening,) = server.openings
    assert (opening.svs_lang, opening.itn, opening.mode) == ("en", False, "online")
    assert json.loads(opening.hotwords) == {"ezflow": 5}
    assert transcripts(events)[-1] == ("hello", True)


async def test_a_request_may_want_no_hotwords() -> None:
    async with FunASRStandIn().serving() as server:
        await collect(asr(server, hotwords={"other": 1}), [speech("hello")], ASR={"hotwords": {}})
    assert server.openings[0].hotwords == ""


@pytest.mark.parametrize("options", [{"mode": "3pass"}, {"hotwords": "word"}, {"hotwords": {"word": "much"}}])
async def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    async with FunASRStandIn().serving() as server:
        with pytest.raises(InputError):
            await collect(asr(server), [speech("hello")], ASR=options)
    assert not server.requests


@pytest.mark.parametrize("piece_s", [0.01, 0.032, 0.06, 0.1, 5.0])
async def test_the_sound_is_cut_into_frames_of_60_ms_however_it_comes(piece_s: float) -> None:
    sound = speech("你好", "世界")
    async with FunASRStandIn().serving() as server:
        (text,) = await collect(asr(server), [Utterance.of(*slices(sound, piece_s))])
    assert text == "你好世界。"
    *whole, last = server.frames
    assert set(whole) == {FRAME}
    assert 0 < last <= FRAME
    assert sum(server.frames) == len(sound.pcm)


async def test_a_mono_sound_of_the_right_rate_is_sent_bit_by_bit_without_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    async with FunASRStandIn().serving() as server:
        assert await collect(asr(server), [speech("hello")]) == ["hello。"]
        with pytest.RaisesGroup(pytest.RaisesExc(MissingDependency, match=r"ezflow-trio\[speech\]")):
            await collect(asr(server), [speech("hello", rate_hz=44_100)])


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
async def test_other_rates_and_channels_are_made_mono_of_16_khz(rate_hz: int) -> None:
    samples = as_float32(speech("你好", "世界", "hello", rate_hz=rate_hz), rate_hz)
    stereo = np.repeat(samples[:, np.newaxis], 2, axis=1).reshape(-1)
    sound = Audio(from_float32(stereo, rate_hz).pcm, rate_hz, channels=2)
    async with FunASRStandIn().serving() as server:
        assert await collect(asr(server), [sound, Utterance.of(*slices(sound, 0.05))]) == ["你好世界hello。"] * 2
    assert abs(sum(server.frames) / 2 - 2 * 16_000 * sound.duration_s) < 100


async def test_a_server_for_telephones_is_told_the_rate_and_gets_the_sound_as_it_is() -> None:
    sound = speech("hello", rate_hz=8_000)
    async with FunASRStandIn().serving() as server:
        assert await collect(asr(server, rate_hz=8_000), [sound]) == ["hello。"]
    assert server.openings[0].audio_fs == 8_000
    assert sum(server.frames) == len(sound.pcm)


# ------------------------------------------------------------------ what it makes of results


async def test_the_words_are_told_as_they_come_and_corrected_by_segment() -> None:
    utterance, said = Utterance(), []
    async with FunASRStandIn(corrected="「{}」".format).serving() as server:
        async with asr(server).open() as service, service.session("ann") as session:
            async with session.turn(utterance) as events:
                for words in [("你好", "世界", "hello"), ("",), ("stop", "hello", " world"), ("stop",)]:
                    for audio in slices(speech(*words), 0.06):
                        utterance.feed(audio)
                    if words != ("stop",):
                        said.append(await next_transcript(events))
                assert not utterance.ended
                utterance.end()
                rest = [event async for event in events]
    assert [transcript.text for transcript in said] == [
        "你好世界hello",
        "「你好世界hello」",
        "「你好世界hello」stophello world",  # a correction replaces its own segment only
    ]
    assert not any(transcript.final for transcript in said)
    whole = "「你好世界hello」「stophello worldstop」"
    assert transcripts(rest) == [(whole, False), (whole, True)]
    assert [event.item for event in rest if event.type == "text"] == [whole]


async def test_words_in_which_nothing_is_heard_give_nothing() -> None:
    async with FunASRStandIn().serving() as server:
        for item in (speech("", ""), spoken("")):
            events = await events_of(asr(server), item)
            assert [event.type for event in events] == ["turn.started", "turn.ended"]
        assert len(server.requests) == 2
        for item in (Audio(b"", 16_000), Utterance.of()):
            assert await collect(asr(server), [item]) == []
        assert len(server.requests) == 2  # no sound, no connection


@pytest.mark.parametrize("dialect", ["runtime", "python"])
@pytest.mark.parametrize(
    ("mode", "text"), [("2pass", "你好。hello。"), ("offline", "你好。hello。"), ("online", "你好hello")]
)
async def test_each_mode_gives_its_text_from_both_servers(dialect: Any, mode: str, text: str) -> None:
    async with FunASRStandIn(dialect=dialect).serving() as server:
        items = [spoken("你好", "", "hello"), speech("你好", "", "hello")]
        found = await collect(asr(server, mode=mode), items)
    assert found == ([text] * 2 if (dialect, mode) != ("python", "online") else ["你好"] * 2)


@pytest.mark.parametrize("words", [("stop",), ("你好", "世界", "hello", " world"), ("你好", "", "hello", "")])
@pytest.mark.parametrize("dialect", ["runtime", "python"])
@pytest.mark.parametrize("kind", [spoken, speech])
async def test_whichever_server_it_is_no_words_are_lost(words: tuple[str, ...], dialect: Any, kind: Any) -> None:
    async with FunASRStandIn(dialect=dialect).serving() as server:
        (text,) = await collect(asr(server), [kind(*words)])
    segments = [segment for segment in "".join(word or "|" for word in words).split("|") if segment]
    assert text == "".join(f"{segment}。" for segment in segments)


async def test_a_server_that_says_which_result_is_the_last_is_not_waited_for() -> None:
    async with FunASRStandIn().serving() as server:
        with trio.fail_after(5):
            assert await collect(asr(server, final_s=3600), [spoken("stop"), speech("你好", "", "hello")])


async def test_of_a_python_server_the_last_result_is_known_once_it_has_spoken_before() -> None:
    utterance = Utterance()
    async with FunASRStandIn(dialect="python").serving() as server:
        async with asr(server, final_s=3600).open() as service, service.session("ann") as session:
            with trio.fail_after(5):
                async with session.turn(utterance) as events:
                    for audio in slices(speech("你好", "世界", "hello", " world"), 0.06):
                        utterance.feed(audio)
                    await next_transcript(events)
                    utterance.end()
                    rest = [event async for event in events]
    assert [event.item for event in rest if event.type == "text"] == ["你好世界hello world。"]


async def test_a_server_that_never_says_that_it_was_the_last_is_waited_for_so_long() -> None:
    async with FunASRStandIn(fault=Fault.NO_END).serving() as server:
        began = trio.current_time()
        assert await collect(asr(server), [spoken("hello")]) == ["hello。"]
        assert SOON_S <= trio.current_time() - began < SOON_S + 1


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("", "hello", "hello"),
        ("hello.", "world", "hello. world"),
        ("hello. ", "world", "hello. world"),
        ("你好。", "世界", "你好。世界"),
        ("用Python", "写", "用Python写"),
        ("hello", ", world", "hello, world"),
        ("100", "200", "100 200"),
        ("hello", "", "hello"),
    ],
)
def test_segments_are_parted_as_their_language_does(before: str, after: str, text: str) -> None:
    assert joined(before, after) == text


def heard(mode: Any, *results: tuple[str, str, bool], talking: int = 0) -> tuple[list[bool], str]:
    """What is made of results, of which so many came while the client was talking: whether each is the last."""
    state = _Heard(mode)
    last = [
        state.take({"text": text, "is_final": final, **({"mode": label} if label else {})}, place < talking)
        for place, (text, label, final) in enumerate(results)
    ]
    return last, state.text


ON, OFF = "2pass-online", "2pass-offline"


@pytest.mark.parametrize(
    ("mode", "results", "talking", "last"),
    [
        # the runtime's server
        ("2pass", [("a", ON, False), ("A", OFF, False), ("b", ON, False), ("B", OFF, True)], 0, 3),
        ("2pass", [("a", ON, False), ("A", OFF, True)], 1, 1),
        ("2pass", [("A", OFF, True)], 0, 0),
        ("2pass", [("", "", True)], 0, 0),
        ("2pass", [("a", ON, False), ("A", OFF, False), ("", "", True)], 2, 2),
        ("online", [("a", ON, False), ("b", ON, True)], 0, 1),
        ("offline", [("A", OFF, False), ("B", OFF, True)], 0, 1),
        # the offline server
        ("offline", [("A", "offline", False)], 0, 0),
        ("offline", [("", "offline", False)], 0, 0),
        # the Python server
        ("2pass", [("a", ON, True), ("A", OFF, True), ("b", ON, True), ("B", OFF, False)], 0, 3),
        ("2pass", [("a", ON, True), ("A", OFF, True), ("b", ON, True), ("B", OFF, False)], 2, 3),
        ("2pass", [("A", OFF, False)], 0, None),
        ("offline", [("A", "offline", True), ("B", "offline", False)], 1, 1),
        ("online", [("a", "online", True), ("b", "online", True)], 0, None),
    ],
)
def test_the_last_result_is_known_by_what_came_before(
    mode: str, results: list[tuple[str, str, bool]], talking: int, last: int | None
) -> None:
    found, _ = heard(mode, *results, talking=talking)
    assert found == [place == last for place in range(len(results))]


# ------------------------------------------------------------------ when the server does wrong


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ({"fault": Fault.SILENT}, BackendTimeout, r"was silent for 0.3 s"),
        ({"fault": Fault.SILENT, "after_handshake": True}, BackendTimeout, r"was silent for 0.3 s"),
        ({"fault": Fault.GARBAGE, "after_handshake": True}, BackendBroken, r"sent what is not JSON"),
        ({"fault": Fault.ERROR_BODY}, BackendRefused, r"answered: ERROR. Real-time transcription service ONLY"),
        ({"fault": Fault.REFUSES}, BackendRefused, r"answered 500: the model is broken"),
        ({"fault": Fault.CUT}, BackendBroken, r"broke off in the middle of its answer"),
    ],
)
async def test_each_fault_says_which_server_and_how(script: dict[str, Any], error: Any, message: str) -> None:
    async with FunASRStandIn(**script).serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(error, match=rf"^FunASR at ws://127.0.0.1:\d+ {message}")):
            await collect(asr(server, read_s=0.3), [spoken("你好", "世界", "hello", " world")])


@pytest.mark.parametrize("said", [b"\x00\x01", "[]", '{"mode": "2pass-online"}', '{"text": 7}', "null"])
async def test_what_is_no_result_is_told(said: str | bytes) -> None:
    class Odd(FunASRStandIn):
        async def talk(self, peer: Any) -> None:
            await peer.receive()
            await peer.send(said)
            await trio.sleep_forever()

    async with Odd().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="FunASR at .* sent what is no result")):
            await collect(asr(server), [speech("hello")])


async def test_a_server_that_closes_before_its_last_result_is_broken() -> None:
    class Displaced(FunASRStandIn):
        async def talk(self, peer: Any) -> None:
            await peer.receive()
            await peer.close()  # as the Python server does when another client comes

    async with Displaced().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="closed the connection before its answer was")):
            await collect(asr(server), [speech("hello")])


async def test_a_server_that_is_not_there_says_what_to_try() -> None:
    async with FunASRStandIn().serving() as server:
        flow = asr(server, retries=0)
    with pytest.RaisesGroup(pytest.RaisesExc(BackendUnreachable, match="start it, or give another url")):
        await collect(flow, [speech("hello")])


async def test_an_interruption_in_the_middle_of_speech_closes_the_connection_at_once() -> None:
    async with FunASRStandIn().serving() as server, asr(server).open() as service, service.session("ann") as session:
        for number in range(1, 6):
            utterance = Utterance()
            for audio in slices(speech("你好", "世界", "hello", " world"), 0.06):
                utterance.feed(audio)
            async with session.turn(utterance) as events:
                await next_transcript(events)
                began = trio.current_time()
                await session.interrupt()
            await server.until(lambda number=number: len(server.left) == number)
            assert server.left[-1] - began < 1


async def test_two_who_speak_at_once_are_not_mixed() -> None:
    texts: dict[str, list[str]] = {}

    async def one(service: Any, user: str, word: str) -> None:
        async with service.session(user) as session:
            events = [event async for event in session.turn(spoken(word, word, "", word))]
            texts[user] = [event.item for event in events if event.type == "text"]

    async with FunASRStandIn(each_s=0.01).serving() as server, asr(server).open() as service:
        async with trio.open_nursery() as nursery:
            for user, word in (("ann", "你好"), ("bob", "hello"), ("cid", "stop")):
                nursery.start_soon(one, service, user, word)
    assert texts == {"ann": ["你好。你好。"], "bob": ["hello。hello。"], "cid": ["stop。stop。"]}
