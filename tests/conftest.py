"""One server with the voice example for all tests that speak to real models over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import serving


@pytest.fixture(scope="session")
def voice_url() -> Iterator[str]:
    """The URL of `ezflow serve examples/voice.py`, a process of its own."""
    with serving("voice") as url:
        yield url
