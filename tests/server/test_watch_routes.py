"""`GET /metrics` and `GET /debug/tree`: who may see what of a running server."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import trio
from quart import Quart

from ezflow import Latest, MissingDependency, Module, SettingsError, Turn, module
from ezflow.server.config import Settings
from ezflow.server.edges import Edges
from ezflow.server.refusals import Forbidden
from ezflow.testing import FakeLLM, Pause

TOKEN, TEAMS = "a-token-of-more-than-16", "another-token-of-a-team"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def asked(server, path: str, **headers: str) -> tuple[int, str]:
    async with server.request("GET", path, **headers) as response:
        return response.status, (await response.read()).decode()


def value(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    assert found is not None, series
    return float(found[1])


async def test_a_turn_over_http_shows_in_the_metrics_and_the_process_does(serving):
    async with serving({"voice": FakeLLM("a b"), "live": Latest(FakeLLM())}, metrics=True) as server:
        await server.turn(user="ann", input="x")
        async with server.request("GET", "/metrics") as response:
            assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
            text = (await response.read()).decode()
        assert value(text, 'ezflow_turns_total{flow="voice",result="done"}') == 1
        assert value(text, 'ezflow_turns_total{flow="live",result="done"}') == 0
        assert value(text, 'ezflow_stage_replies_total{flow="voice",stage="fake_llm"}') == 2
        assert value(text, "process_open_fds") > 3
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with server.request("GET", "/metrics", **accept) as response:
            assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            assert (await response.read()).endswith(b"# EOF\n")


async def test_refused_requests_and_sockets_are_counted_by_status(serving):
    async with serving(
        FakeLLM(), metrics=True, tokens=[TOKEN, f"{TEAMS} ann"], rate_burst=1, rate_per_s=0.001
    ) as server:
        for path, headers in (("/flow", {}), ("/nowhere", bearer(TOKEN)), ("/flow?user=bob", bearer(TEAMS))):
            await asked(server, path, **headers)
        body = json.dumps({"user": "ann", "input": "x"}).encode()
        for _ in range(2):
            async with server.request("POST", "/turns", body, **bearer(TOKEN)) as response:
                await response.read()
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        await closed(server, "/ws?user=ann", **upgrade)
        _, text = await asked(server, "/metrics", **bearer(TOKEN))
        counts = {
            status: value(text, f'ezflow_refused_requests_total{{status="{status}"}}') for status in (403, 404, 429)
        }
        assert counts == {403: 1, 404: 1, 429: 1}
        assert value(text, 'ezflow_refused_requests_total{status="401"}') == 2  # a request and a socket


async def closed(server, path: str, **headers: str) -> None:
    """Open a socket that the server closes at once."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with stream:
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        data = b""
        while b"\x88" not in data:  # its closing frame
            data += await stream.receive_some()


async def test_metrics_are_off_unless_they_are_wanted_and_the_answer_says_how(serving):
    async with serving(FakeLLM()) as server:
        status, text = await asked(server, "/metrics")
        assert status == 404
        assert "--metrics" in json.loads(text)["message"]


async def test_the_tree_is_there_without_metrics_and_knows_more_with_them(serving):
    for metrics in (False, True):
        async with serving({"voice": Pause(9.0)}, metrics=metrics) as server:
            body = json.dumps({"user": "ann", "input": "x"}).encode()
            async with server.request("POST", "/turns", body) as response:
                await response.until("turn.started")
                status, tree = await server.json("GET", "/debug/tree")
            assert (status, tree["observed"], tree["stopping"]) == (200, metrics, False)
            assert tree["threads"]["busy"] == 0
            assert tree["uptime_s"] > 0
            (session,) = tree["sessions"]["list"]
            (stage,) = session["turns"][0]["runs"][0]["stages"]
            assert (session["user"], stage["stage"], stage["waits_for"]) == ("ann", "pause", None)
            assert stage["at"].startswith("fakes.py:")
            assert ("since_s" in stage) == metrics


async def test_how_many_sessions_are_told_of_is_bounded(serving):
    async with serving(FakeLLM()) as server:
        for user in ("a", "b", "c"):
            await server.turn(user=user, input="x")
        told = (await server.json("GET", "/debug/tree?sessions=2"))[1]["sessions"]
        assert (len(told["list"]), told["more"]) == (2, 1)
        for wrong in ("0", "1001", "-1", "x", "%D9%A1", "1" * 5000):
            status, told = await server.json("GET", f"/debug/tree?sessions={wrong}")
            assert (status, told["path"]) == (422, "sessions")


async def test_with_tokens_each_may_scrape_and_only_one_for_all_sees_the_users(serving):
    async with serving(FakeLLM(), metrics=True, tokens=[TOKEN, f"{TEAMS} ann"]) as server:
        codes = {
            (path, shown): (await asked(server, path, **(bearer(shown) if shown else {})))[0]
            for path in ("/metrics", "/debug/tree")
            for shown in ("", "wrong-token-of-16-characters", TEAMS, TOKEN)
        }
    assert codes == {
        ("/metrics", ""): 401,
        ("/metrics", "wrong-token-of-16-characters"): 401,
        ("/metrics", TEAMS): 200,
        ("/metrics", TOKEN): 200,
        ("/debug/tree", ""): 401,
        ("/debug/tree", "wrong-token-of-16-characters"): 401,
        ("/debug/tree", TEAMS): 403,
        ("/debug/tree", TOKEN): 200,
    }


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_without_tokens_a_proxy_on_this_machine_is_not_this_machine(serving, header):
    async with serving(FakeLLM(), metrics=True) as server:
        for path in ("/metrics", "/debug/tree"):
            assert (await asked(server, path))[0] == 200
            assert (await asked(server, path, **{header: "203.0.113.9"}))[0] == 403


async def test_without_tokens_another_machine_is_refused():
    edges = Edges(app := Quart("test"), Settings(host="0.0.0.0", insecure=True), trio.Event())
    for address, refused in (("127.0.0.1", False), ("::1", False), ("192.168.1.5", True), ("", True)):
        # Quart hands the address of the connection on under this name, whatever the client has sent.
        async with app.test_request_context("/metrics", headers={"Remote-Addr": address}):
            if refused:
                with pytest.raises(Forbidden):
                    edges.admit_operator(for_all=False)
            else:
                edges.admit_operator(for_all=False)


async def test_a_foreign_page_can_read_neither(serving):
    async with serving(FakeLLM(), metrics=True) as server:
        for path in ("/metrics", "/debug/tree"):
            assert (await asked(server, path, Origin="https://evil.example"))[0] == 403
            assert (await asked(server, path, Host="evil.example"))[0] == 403


async def test_a_tree_of_many_users_under_load_is_whole_and_disturbs_none(serving):
    users = 60
    flow = FakeLLM("one two three four five six", each_s=0.02).shown() >> Pause(0.001)
    async with serving({"voice": flow}, metrics=True) as server:
        seen: list[int] = []

        async def ask(user: str) -> None:
            events = await server.turn(user=user, input="x")
            assert events[-1]["reason"] == "done"

        async def look() -> None:
            while True:
                tree = (await server.json("GET", "/debug/tree"))[1]["sessions"]
                for session in tree["list"]:
                    for turn in session["turns"]:
                        for run in turn["runs"]:
                            assert [it["stage"] for it in run["stages"]] in (
                                ["fake_llm", "pause"],
                                ["pause"],
                                ["fake_llm"],
                                [],
                            )
                seen.append(tree["busy"])
                assert (await asked(server, "/metrics"))[0] == 200

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                async with trio.open_nursery() as askers:
                    for number in range(users):
                        askers.start_soon(ask, f"user-{number}")
                nursery.cancel_scope.cancel()
        assert max(seen) > 5
        _, text = await asked(server, "/metrics")
        assert value(text, 'ezflow_turns_total{flow="voice",result="done"}') == users
        assert value(text, 'ezflow_stage_items_in_total{flow="voice",stage="pause"}') == 6 * users
        assert value(text, 'ezflow_turns_running{flow="voice"}') == 0


async def test_a_module_that_blocks_the_loop_is_named_in_the_log_and_counted(serving, caplog):
    import time

    @module
    class Blocks(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            time.sleep(0.8)  # noqa: ASYNC251  (the fault that is looked for)
            return text

    async with serving({"voice": Blocks()}, block_s=0.1) as server:
        await server.turn(user="ann", input="x")
        loop = (await server.json("GET", "/debug/tree"))[1]["loop"]
        assert loop["blocks"] >= 1
        assert loop["max_lag_s"] > 0.3
    assert "by stage blocks of voice (Blocks), at test_watch_routes.py" in caplog.text


def test_without_prometheus_client_the_start_says_what_to_install(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "sys.modules['prometheus_client'] = None\n"
        "from ezflow import serve\n"
        "from ezflow.testing import FakeLLM\n"
        "serve(FakeLLM(), port=0, metrics=True)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert MissingDependency.__name__ in done.stderr
    assert 'pip install "ezflow-trio[observe]"' in done.stderr


def test_a_server_without_metrics_loads_no_prometheus_client():
    program = "import sys, ezflow.server.run; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_a_threshold_is_no_less_than_nothing():
    with pytest.raises(SettingsError, match="block_s"):
        Settings(block_s=-1.0)
