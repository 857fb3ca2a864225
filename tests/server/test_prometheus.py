"""A real Prometheus scrapes a real server, and answers questions about it."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from ezflow import Latest
from ezflow.testing import FakeLLM, FakeTTS

PROMETHEUS = shutil.which("prometheus")
TOKEN, SCRAPER = "a-token-of-more-than-16", "a-token-of-the-scraper"
CONFIGURATION = """
global:
  scrape_interval: 250ms
  scrape_timeout: 250ms
scrape_configs:
  - job_name: ezflow
    authorization:
      credentials: {token}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="no prometheus on the PATH: nothing scrapes the metrics (apt install prometheus)"
)


class Scraper:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, path: str) -> Any:
        """What its API answers; None as long as it does not."""
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        except OSError:
            return None
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            data = b"".join([piece async for piece in stream])
        head, _, body = data.partition(b"\r\n\r\n")
        return json.loads(body)["data"] if head.split()[1] == b"200" else None

    async def until(self, expression: str, wanted: float) -> None:
        """Wait until an expression has a value."""
        path = f"/api/v1/query?query={urllib.parse.quote(expression)}"
        found: list[float] = []
        with trio.move_on_after(30):
            while found != [wanted]:
                data = await self.ask(path)
                found = [float(one["value"][1]) for one in data["result"]] if data else []
                await trio.sleep(0.05)
        assert found == [wanted], expression


@asynccontextmanager
async def prometheus(folder: Path, target: int, token: str) -> AsyncIterator[Scraper]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(token=token, port=target))
    command = [
        str(PROMETHEUS),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=log, stderr=log)
        try:
            yield Scraper(port)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def test_prometheus_reads_what_turns_do_with_a_token_that_is_nobodys(serving, tmp_path):
    flows = {"voice": FakeLLM("a b c", first_s=0.05).shown() >> FakeTTS(), "live": Latest(FakeLLM())}
    async with serving(flows, metrics=True, tokens=[TOKEN, f"{SCRAPER} nobody"]) as server:
        async with prometheus(tmp_path, server.port, SCRAPER) as scraper:
            await scraper.until('up{job="ezflow"}', 1)
            body = json.dumps({"user": "ann", "input": "x"}).encode()
            for _ in range(3):
                async with server.request("POST", "/turns", body, Authorization=f"Bearer {TOKEN}") as response:
                    assert b"turn.ended" in await response.read()
            await scraper.until('ezflow_turns_total{flow="voice",result="done"}', 3)
            await scraper.until('ezflow_turns_total{flow="live",result="done"}', 0)
            await scraper.until('ezflow_stage_items_in_total{flow="voice",stage="fake_tts"}', 9)
            await scraper.until("sum(ezflow_turns_running)", 0)
            first = 'ezflow_stage_first_output_seconds_bucket{flow="voice",stage="fake_llm"}'
            await scraper.until(f"histogram_quantile(0.5, {first}) <= bool 0.1", 1)
            await scraper.until(f"histogram_quantile(0.5, {first}) >= bool 0.05", 1)
            await scraper.until("ezflow_loop_lag_seconds_count > bool 5", 1)
            await scraper.until("process_cpu_seconds_total > bool 0", 1)
            kinds = await scraper.ask("/api/v1/metadata?metric=ezflow_turns")  # as OpenMetrics names it
            assert kinds["ezflow_turns"][0]["type"] == "counter"


async def test_prometheus_without_the_token_is_refused_and_says_so(serving, tmp_path):
    async with serving(FakeLLM(), metrics=True, tokens=[TOKEN]) as server:
        async with prometheus(tmp_path, server.port, "none-of-the-servers-tokens") as scraper:
            await scraper.until('up{job="ezflow"}', 0)
            (target,) = (await scraper.ask("/api/v1/targets"))["activeTargets"]
            assert "401" in target["lastError"]
