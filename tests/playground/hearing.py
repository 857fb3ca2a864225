"""What the microphone of a browser hears, and what is heard of its loudspeaker."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from speech import RATE_HZ, Samples, words

from stdlib_modules.sound import from_float32

__all__ = ["decoded", "encoded", "understood", "write_wav"]


def write_wav(path: Path, *sounds: Samples) -> None:
    """What the microphone will hear, one sound after the other."""
    path.write_bytes(from_float32(np.concatenate(sounds), RATE_HZ).to_wav())


def decoded(pcm16: str) -> Samples:
    """The sound that `observed.played()` tells, 16 kHz."""
    return np.frombuffer(base64.b64decode(pcm16), "<i2").astype(np.float32) / 32768


def encoded(samples: Samples) -> str:
    """The sound that `observed.say()` takes."""
    return base64.b64encode(from_float32(samples, RATE_HZ).pcm).decode()


def understood(samples: Samples) -> list[str]:
    """The words that Moonshine hears in it."""
    from moonshine_voice import ModelArch, Transcriber
    from moonshine_voice.utils import get_model_path

    with Transcriber(get_model_path("tiny-en"), ModelArch.TINY) as transcriber:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), RATE_HZ).lines
    return words(" ".join(line.text for line in lines))
