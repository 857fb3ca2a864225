"""docs/serving.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import trio

from ezflow.server.app import create_app
from ezflow.server.config import Settings
from ezflow.service import open_flows
from ezflow.testing import FakeLLM

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


async def test_each_route_has_its_line():
    settings = Settings()
    async with open_flows({"": FakeLLM()}, settings) as services, trio.open_nursery() as nursery:
        routes = {rule.rule for rule in create_app(services, settings, trio.Event(), nursery).url_map.iter_rules()}
    table = PAGE.partition("## Routes")[2].partition("\n## ")[0]
    routes = {rule.partition("<")[0] for rule in routes}
    assert routes == set(re.findall(r"(?<=[` ])/[a-z_/]*", table))
