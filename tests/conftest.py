"""What all tests share: `--long`, and one server with the voice example for those that speak to real models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import serving

from ezflow.redaction import SECRETS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="tests/faults: thousands of steps, and every checkpoint")


@pytest.fixture(autouse=True)
def _forgets_secrets() -> Iterator[None]:
    """What a test has this process take as secret is not hidden in the next one's errors."""
    before = SECRETS.copy()
    yield
    SECRETS.intersection_update(before)


@pytest.fixture(scope="session")
def voice_url() -> Iterator[str]:
    """The URL of `ezflow serve examples/voice.py`, a process of its own."""
    with serving("voice") as url:
        yield url
