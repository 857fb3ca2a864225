"""Anything a stranger may send: text, JSON, bodies, frames and sounds, most of them nearly right."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import strategies as st

MIB = 1024 * 1024

# Numbers at the edges of what anything can hold, some of them written by those alone who do not keep to JSON.
NUMBERS = st.integers() | st.sampled_from([2**31, 2**53 + 1, 2**64, 10**400, -(10**400)]) | st.floats()
NAMES = """type start input end interrupt played ping data entry options format rate_hz channels timeline turn seq ms
    user Input Entry LLM TTS ENDASR ann llm"""
WORDS = st.sampled_from(NAMES.split())
TEXTS = WORDS | st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


def objects(first: dict[str, st.SearchStrategy[Any]], others: str) -> st.SearchStrategy[dict[str, Any]]:
    """What is nearly right: it comes further in than what is not."""
    return st.fixed_dictionaries(first, optional=dict.fromkeys(others.split(), JSON))


FRAMES = objects({"type": WORDS}, "entry options format timeline data turn seq ms")
BODIES = objects({"user": st.just("ann") | JSON}, "input Input Entry entry options timeline LLM FakeLLM")
MANY_KEYS = ",".join(f'"{number}":0' for number in range(9999))
ODD = st.sampled_from(
    [
        "", "\0", "NaN", "-", "1e999", "1" * 5000, '"\\ud800"', "\ufeff{}", '{"a":1,"a":2}', "[" * 999, "[" * 100_000,
        '{"type":' * 990 + "1" + "}" * 990, '{"type":"input","data":' + "[" * 990 + "]" * 990 + "}",
        f'{{"type":"start",{MANY_KEYS}}}', f'{{"user":"ann","input":1,"{"k" * MIB}":0}}',
    ]
)  # fmt: skip
MESSAGES = st.text(max_size=200) | st.builds(json.dumps, JSON | FRAMES | BODIES) | ODD

# A WAV whose fields are what they may not be, and one whose bytes end anywhere.
FIELD = st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 24, 32, 40, 64, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF)
SIZE = st.sampled_from([0, 1, 4, 16, 18, 40, 100, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]) | st.integers(0, 200)
CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([b"fmt ", b"data", b"LIST", b"RIFF", b"fact"]) | st.binary(min_size=4, max_size=4), SIZE
    ).flatmap(lambda head: st.binary(max_size=60).map(lambda body: struct.pack("<4sI", *head) + body)),
    max_size=4,
).map(b"".join)


@st.composite
def wavs(draw: st.DrawFn) -> bytes:
    form = struct.pack("<HHIIHH", draw(FIELD), draw(FIELD), draw(SIZE), draw(SIZE), draw(FIELD), draw(FIELD))
    form += draw(st.binary(max_size=30))
    size = draw(st.just(len(form)) | SIZE)
    data = draw(st.binary(max_size=100))
    whole = b"".join(
        [
            draw(st.sampled_from([b"RIFF", b"RF64"])) + struct.pack("<I", draw(SIZE)) + b"WAVE",
            draw(CHUNKS) if draw(st.booleans()) else b"",
            b"fmt " + struct.pack("<I", size) + form,
            b"data" + struct.pack("<I", draw(st.just(len(data)) | SIZE)) + data,
            draw(CHUNKS),
        ]
    )
    return whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))]


SOUNDS = wavs() | st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"RIFF\0\0\0\0WAVE" + rest)
