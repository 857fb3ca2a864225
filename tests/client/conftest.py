"""A running server for the clients: the real one, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from ezflow.server.config import Settings
from ezflow.server.run import run


@attrs.define
class Serving:
    url: str
    stop: trio.Event


@pytest.fixture
def serving(caplog):
    """`async with serving(flows, **settings) as server:` a server on a free port; `server.stop.set()` ends it."""

    @asynccontextmanager
    async def serve(flows: Any, **settings: Any) -> AsyncIterator[Serving]:
        stop = trio.Event()
        chosen = Settings(**{"port": 0, "grace_s": 1.0, **settings})
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(run, flows, chosen, say=lambda _: None, stop=stop))
            try:
                yield Serving(url, stop)
            finally:
                stop.set()
        assert "Error in ASGI Framework" not in caplog.text
        assert "One connection failed" not in caplog.text

    return serve
