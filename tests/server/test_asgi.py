"""What the application does when its client leaves at an awkward moment, seen from where an ASGI server stands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ezflow import Service
from ezflow.server.app import create_app
from ezflow.server.config import Settings
from ezflow.service import open_flows
from ezflow.testing import FakeLLM


@asynccontextmanager
async def application(flow: Any) -> AsyncIterator[tuple[Any, Service]]:
    settings = Settings(port=0, idle_s=0.0)
    async with open_flows({"": flow}, settings) as services, trio.open_nursery() as nursery:
        yield create_app(services, settings, trio.Event(), nursery), services[""]
        nursery.cancel_scope.cancel()


def asked(path: str, body: bytes) -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"content-length", b"%d" % len(body))]
    return {
        "type": "http", "http_version": "1.1", "asgi": {}, "method": "POST", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "state": {}, "extensions": {},
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/turns", "/input"])
@pytest.mark.parametrize("sent", ["http.response.start", "http.response.body"])
async def test_a_client_that_leaves_while_it_is_being_answered_ends_its_turn(path, sent, autojump_clock):
    """Also if not even the head of its answer had gone out: else only the garbage collector would find it."""
    body = json.dumps({"user": "ann", "input" if path == "/turns" else "Input": "x"}).encode()
    sending = trio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == sent:
            sending.set()
            await trio.sleep_forever()

    async with application(FakeLLM("{}")) as (app, service):
        with trio.fail_after(10):
            await app(asked(path, body), receive, send)
        assert "ann" not in service.sessions
