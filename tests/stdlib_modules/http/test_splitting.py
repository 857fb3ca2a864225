"""Sound as servers send it: WAVs of every kind and bare samples, however their bytes were cut on the way."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezflow import Audio
from ezflow.testing.backends import Reply as Answer
from ezflow.testing.backends import Request, StandIn
from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.errors import BackendBroken, BackendRefused
from stdlib_modules.http.sound import NotSound, PcmSplitter, Splitter, WavSplitter, sounds

CUTS = st.lists(st.integers(0, 200), max_size=30)
SAMPLES = st.lists(st.integers(-32768, 32767), max_size=40).map(lambda found: struct.pack(f"<{len(found)}h", *found))
NAMES = st.sampled_from([b"LIST", b"JUNK", b"fact", b"id3 ", b"bext"])
JUNK = st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=3)
EXTENSIBLE = 0xFFFE
GUID_END = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def form(tag: int = 1, bits: int = 16, channels: int = 1, rate_hz: int = 24_000) -> bytes:
    frame = channels * bits // 8
    if tag != EXTENSIBLE:
        return struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame, frame, bits)
    return form(0, bits, channels, rate_hz).replace(b"\0\0", b"\xfe\xff", 1) + struct.pack(
        "<HHIH14s", 22, bits, 0, 1, GUID_END
    )


def wav(
    pcm: bytes,
    about: bytes | None = None,
    size: int | None = None,
    before: Sequence[tuple[bytes, bytes]] = (),
    behind: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    body = b"WAVE" + b"".join(chunk(*one) for one in before) + chunk(b"fmt ", about or form())
    body += chunk(b"data", pcm, size) + b"".join(chunk(*one) for one in behind)
    return chunk(b"RIFF", body, 0xFFFFFFFF if size else None)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


def split(splitter: Splitter, *pieces: bytes) -> list[Audio]:
    return [found for piece in pieces for found in splitter.feed(piece)] + splitter.end()


def pcm(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def joined(pieces: list[Audio]) -> bytes:
    return b"".join(piece.pcm for piece in pieces)


@given(SAMPLES, CUTS, JUNK, JUNK)
def test_a_wav_gives_its_samples_however_it_is_cut_and_whatever_surrounds_them(samples, places, before, behind) -> None:
    data = wav(samples, before=before, behind=behind if samples else ())
    assert joined(split(WavSplitter(), *cut(data, places))) == samples


@given(SAMPLES, CUTS, st.sampled_from([0, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 44]))
def test_a_wav_of_unknown_length_lasts_until_the_end(samples, places, size) -> None:
    data = wav(samples, size=size)
    assert joined(split(WavSplitter(), *cut(data, places))) == samples


@given(st.lists(SAMPLES.filter(bool), min_size=1, max_size=3), CUTS)
def test_wavs_on_end_are_one_sound(parts, places) -> None:
    assert joined(split(WavSplitter(), *cut(b"".join(map(wav, parts)), places))) == b"".join(parts)


@given(SAMPLES, CUTS, st.integers(1, 3), st.booleans())
def test_bare_samples_are_whole_frames_however_they_are_cut(samples, places, channels, odd) -> None:
    found = split(PcmSplitter(16_000, channels), *cut(samples + b"\0" * odd, places))
    whole = len(samples) - len(samples) % (2 * channels)
    assert joined(found) == samples[:whole]
    assert {(piece.rate_hz, piece.channels) for piece in found} <= {(16_000, channels)}


@given(st.binary(max_size=200), CUTS)
def test_garbage_is_refused_and_breaks_nothing(data, places) -> None:
    for begin in (b"", b"RIFF", b"RIFF\0\0\0\0WAVE", wav(b"\1\2" * 3)):
        try:
            split(WavSplitter(), *cut(begin + data, places))
        except NotSound:
            pass


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_sound_is_given_with_the_byte_that_completes_its_frame(size) -> None:
    splitter = WavSplitter("two words")
    assert splitter.feed(wav(b"", form(channels=2), size)) == []
    assert splitter.feed(b"\1\2\3") == []
    assert splitter.feed(b"\4\5") == [Audio(b"\1\2\3\4", 24_000, 2, "two words")]
    assert splitter.feed(b"\6\7\x08\x09") == [Audio(b"\5\6\7\x08", 24_000, 2)]
    assert splitter.end() == []


@pytest.mark.parametrize(
    ("about", "data", "expected"),
    [
        (form(bits=8), bytes([0, 128, 255]), pcm(-32768, 0, 32512)),
        (form(bits=24), b"\x99\x01\x00" + b"\x99\xff\xff", pcm(1, -1)),
        (form(bits=32), b"\x99\x99\x01\x00" + b"\x99\x99\xff\xff", pcm(1, -1)),
        (form(3, bits=32), struct.pack("<4f", 0.0, 1.0, -7.5, float("inf")), pcm(0, 32767, -32767, 32767)),
        (form(EXTENSIBLE), pcm(5, -6), pcm(5, -6)),
        (form(EXTENSIBLE, bits=24), b"\x99\x01\x00", pcm(1)),
        (form() + bytes(5001), pcm(5, -6), pcm(5, -6)),
    ],
    ids=["8 bits", "24 bits", "32 bits", "floats", "extensible", "extensible of 24 bits", "a long header"],
)
def test_samples_of_other_widths_become_16_bits(about, data, expected) -> None:
    for places in ([], range(6000)):
        assert joined(split(WavSplitter(), *cut(wav(data, about), places))) == expected


def test_the_rate_and_channels_are_those_of_the_header() -> None:
    (found,) = split(WavSplitter(), wav(pcm(1, 2, 3, 4), form(channels=2, rate_hz=44_100)))
    assert (found.rate_hz, found.channels, found.samples) == (44_100, 2, 2)


def test_each_of_several_wavs_has_its_own_format_and_the_text_comes_once() -> None:
    data = wav(pcm(1, 2)) + wav(pcm(3, 4), form(rate_hz=16_000))
    assert split(WavSplitter("said"), data) == [Audio(pcm(1, 2), 24_000, text="said"), Audio(pcm(3, 4), 16_000)]


def test_sound_behind_the_length_of_a_first_piece_is_sound_too() -> None:
    first, second = pcm(100, -100), pcm(*range(-20, 20))
    assert joined(split(WavSplitter(), wav(first) + second)) == first + second


def test_nothing_at_all_is_no_sound() -> None:
    assert split(WavSplitter()) == []
    assert split(WavSplitter(), b"") == []
    assert split(PcmSplitter(16_000)) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"error": "no voice"}', "sent JSON where a WAV was to come"),
        (b"ID3\4\0\0\0\0", "sent MP3"),
        (b"OggS\0\2", "sent Ogg"),
        (b"RIFF\4\0\0\0AVI LIST", "sent b'RIFF' where"),
        (b"RIFF\4", "ended before the header"),
        (wav(pcm(1))[:-6], "ended before the header"),
        (wav(pcm(1, 2, 3))[:-2], "ended before the last 2 bytes"),
        (wav(pcm(1), form(3, bits=64)), "64-bit float: have it send 16-bit PCM"),
        (wav(b"\0", form(7, bits=8)), "8-bit mu-law"),
        (wav(b"\0", form(0x99, bits=16)), "16-bit format 0x99"),
        (wav(pcm(1), form(channels=0)), "0 channels"),
        (wav(pcm(1), form(rate_hz=0)), "at 0 Hz"),
        (wav(pcm(1), form()[:10]), "cut short"),
        (wav(pcm(1), form(EXTENSIBLE)[:20]), "cut short"),
        (chunk(b"RIFF", b"WAVE" + chunk(b"data", pcm(1))), "does not say what its samples are"),
    ],
)
def test_what_is_no_wav_is_told(data, told) -> None:
    for places in ([], range(200)):
        with pytest.raises(NotSound, match=told):
            split(WavSplitter(), *cut(data, places))


class Speaker(StandIn):
    """Answers with these pieces, as this type."""

    name = "Speaker"

    def __init__(self, *pieces: bytes, kind: str) -> None:
        super().__init__()
        self.pieces = pieces
        self.kind = kind

    async def answer(self, request: Request, reply: Answer) -> None:
        await reply.begin(content_type=self.kind)
        for piece in self.pieces:
            await reply.send(piece)
        await reply.end()


async def heard(*pieces: bytes, kind: str = "audio/wav") -> list[Audio]:
    async with Speaker(*pieces, kind=kind).serving() as server, HTTPClient(server.url, server="Speaker") as http:
        async with http.stream("GET", "/speech") as reply:
            return [audio async for audio in sounds(reply, WavSplitter())]


async def test_the_sound_of_an_answer_is_given_as_it_comes() -> None:
    data = wav(pcm(1, 2, 3))
    assert joined(await heard(data[:30], data[30:47], data[47:])) == pcm(1, 2, 3)
    assert await heard() == []


async def test_an_answer_that_is_a_document_is_what_the_server_told() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(BackendRefused, match=r"^Speaker at http://\S+/speech answered 200: no such voice$")
    ):
        await heard(b'{"error": "no such', b' voice"}', kind="application/json; charset=utf-8")


async def test_an_answer_that_is_another_thing_is_broken() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="sent Ogg where a WAV was to come")):
        await heard(b"Og", b"gS\0\2")
    with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="ended before the last 2 bytes")):
        await heard(wav(pcm(1, 2, 3))[:-2])
