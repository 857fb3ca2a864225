"""The playground's page and files, and who gets them."""

from __future__ import annotations

import pytest

from ezflow.testing import FakeLLM

TOKEN = "a-token-of-the-tests"


async def test_the_page_stands_at_the_root_and_runs_only_what_this_server_serves(serving):
    async with serving(FakeLLM()) as server, server.request("GET", "/") as page:
        assert page.status == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert b"<html" in await page.read()
        policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ezflow.js", "text/javascript"), ("ezflow.d.ts", "text/plain"), ("look.css", "text/css")],
)
async def test_its_files_are_served(serving, name, kind):
    async with serving(FakeLLM()) as server, server.request("GET", f"/playground/{name}") as file:
        assert (file.status, file.headers["content-type"].partition(";")[0]) == (200, kind)


@pytest.mark.parametrize(
    "name", ["__init__.py", "nothing.js", "..%2Fapp.py", "%2e%2e/config.py", ".js", "a/b.js", 5000 * "a" + ".js"]
)
async def test_nothing_else_is(serving, name):
    async with serving(FakeLLM()) as server:
        assert (await server.json("GET", f"/playground/{name}"))[0] == 404


async def test_it_is_open_where_the_flow_needs_a_token(serving):
    async with serving(FakeLLM(), tokens=[TOKEN]) as server:
        async with server.request("GET", "/") as page:
            assert page.status == 200
        assert (await server.json("GET", "/flow"))[0] == 401


async def test_a_foreign_page_may_link_to_it_but_not_frame_or_load_it(serving):
    foreign = {"Sec-Fetch-Site": "cross-site"}
    async with serving(FakeLLM()) as server:
        async with server.request("GET", "/", **foreign, **{"Sec-Fetch-Mode": "navigate"}) as link:
            assert link.status == 200
            assert link.headers["x-frame-options"] == "DENY"
        async with server.request("GET", "/playground/ezflow.js", **foreign, **{"Sec-Fetch-Mode": "no-cors"}) as script:
            assert script.status == 403


async def test_it_can_be_left_out(serving):
    async with serving(FakeLLM(), playground=False) as server:
        assert (await server.json("GET", "/"))[0] == 404
        assert not [line for line in server.said if "Playground" in line]
