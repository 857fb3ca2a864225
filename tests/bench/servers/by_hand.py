"""What the hand-written servers say and ask, the same for both."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec

WAV_HEADER_BYTES = 44
SENTENCE_ENDS = "。！？.!?"

encode = msgspec.json.Encoder().encode
decode = msgspec.json.decode


class Ask(msgspec.Struct):
    user: str
    input: str


read_ask = msgspec.json.Decoder(Ask).decode


class Said(msgspec.Struct):
    content: str


class Delta(msgspec.Struct):
    message: Said
    done: bool


read_delta = msgspec.json.Decoder(Delta).decode


def chat(text: str) -> bytes:
    return encode({"model": "bench", "messages": [{"role": "user", "content": text}], "stream": True, "options": {}})


def speech(text: str) -> bytes:
    body: dict[str, Any] = {
        "text": text,
        "text_lang": "en",
        "ref_audio_path": "voice.wav",
        "prompt_text": "hello",
        "prompt_lang": "en",
        "streaming_mode": True,
        "media_type": "wav",
    }
    return encode(body)


def text_line(text: str) -> bytes:
    return encode({"type": "text", "text": text}) + b"\n"


def audio_line(pcm: bytes) -> bytes:
    return b'{"type":"audio","rate_hz":24000,"data":"%b"}\n' % b64encode(pcm)
