"""`GET /history` and `DELETE /history`, and `--store`: over real sockets, as a client and an operator see them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from ezflow.sqlite import APPLICATION
from ezflow.testing import FakeLLM

TOKEN, OTHER = "a-token-of-more-than-16", "another-token-of-a-team"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/history.db"


def said(body: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [(message["role"], message["content"], message["cut"]) for message in body["messages"]]


async def asked(server: Any, method: str, path: str, **headers: str) -> tuple[int, Any]:
    async with server.request(method, path, **headers) as response:
        return response.status, json.loads(await response.read())


async def test_what_was_said_is_shown_to_the_user_and_outlives_the_server(serving, store):
    began = datetime.now(UTC) - timedelta(seconds=1)
    for count in (1, 2):
        async with serving(FakeLLM("you said {}"), store=store) as server:
            await server.turn(user="ann", input=f"question {count}")
            status, body = await server.json("GET", "/history?user=ann")
    assert status == 200
    assert body["user"] == "ann"
    assert said(body) == [
        ("user", "question 1", False),
        ("assistant", "you said question 1", False),
        ("user", "question 2", False),
        ("assistant", "you said question 2", False),
    ]
    times = [datetime.fromisoformat(message["at"]) for message in body["messages"]]
    assert all(message["at"].endswith("Z") for message in body["messages"])
    assert began < times[0] <= times[1] <= times[2] <= times[3] < datetime.now(UTC) + timedelta(seconds=1)


async def test_a_turn_that_the_end_of_the_server_cuts_is_stored_as_far_as_it_was_sent(serving, store):
    async with serving(FakeLLM("one two three", 0.0, 0.2), store=store, grace_s=0.1) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "hello"}') as response:
            assert (await response.until("text"))["text"] == "one"
            server.stop.set()
            assert (await response.until("turn.ended"))["reason"] == "interrupted"
    async with serving(FakeLLM(), store=store) as server:
        body = (await server.json("GET", "/history?user=ann"))[1]
    assert said(body) == [("user", "hello", False), ("assistant", "one", True)]


@pytest.mark.parametrize("lasting", [False, True])
async def test_a_history_is_deleted_for_good_and_begins_anew(serving, store, tmp_path, lasting):
    chosen = {"store": store} if lasting else {}
    async with serving({"a": FakeLLM("{n} {}"), "b": FakeLLM("{n}")}, **chosen) as server:
        for text in ("secret-word", "x"):
            await server.turn(user="ann", input=text)
        await server.turn(user="bob", input="y")
        assert await server.json("DELETE", "/history?user=ann") == (200, {"user": "ann", "deleted": 4})
        assert await server.json("DELETE", "/b/history?user=ann") == (200, {"user": "ann", "deleted": 0})
        assert await server.json("GET", "/history?user=ann") == (200, {"user": "ann", "messages": []})
        assert b"secret-word" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
        events = await server.turn(user="ann", input="z")
        assert next(event["text"] for event in events if event["type"] == "text") == "0"
        assert len((await server.json("GET", "/b/history?user=ann"))[1]["messages"]) == 2
        assert len((await server.json("GET", "/history?user=bob"))[1]["messages"]) == 2
    async with serving(FakeLLM(), **chosen) as server:
        assert len((await server.json("GET", "/history?user=ann"))[1]["messages"]) == (2 if lasting else 0)


async def test_a_token_shows_and_deletes_the_histories_of_its_users_alone(serving, store):
    async with serving(FakeLLM("hi"), store=store, tokens=[TOKEN, f"{OTHER} ann team-*"]) as server:
        every, team = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, OTHER))
        for user in ("ann", "bob", "team-1"):
            body = json.dumps({"user": user, "input": "x"}).encode()
            async with server.request("POST", "/turns", body, **every) as response:
                await response.read()
        for method in ("GET", "DELETE"):
            for path in ("/history?user=bob", "/history?user=bob&user=ann", "/history?user=ann&user=bob"):
                status, body = await asked(server, method, path, **team)
                assert (status, body["error"]) == (403, "Forbidden")
            assert (await asked(server, method, "/history?user=ann"))[0] == 401
            assert (await asked(server, method, "/history?user=team-1", **team))[0] == 200
        assert len((await asked(server, "GET", "/history?user=bob", **every))[1]["messages"]) == 2
        assert (await asked(server, "GET", "/history?user=team-1", **every))[1]["messages"] == []


@pytest.mark.parametrize("path", ["/history", "/history?user=", f"/history?user={'x' * 257}"])
async def test_a_request_without_a_user_is_refused(serving, path):
    async with serving(FakeLLM()) as server:
        for method in ("GET", "DELETE"):
            status, body = await server.json(method, path)
            assert (status, body["error"], body["path"]) == (422, "InputError", "user")


async def test_a_store_that_fails_is_told_and_ends_neither_turn_nor_server(serving, store, tmp_path, caplog):
    async with serving(FakeLLM("hi"), store=store) as server:
        await server.turn(user="ann", input="x")
        (tmp_path / "history.db").rename(tmp_path / "gone.db")
        events = await server.turn(user="ann", input="y")
        assert [event["type"] for event in events] == ["turn.started", "text", "error", "turn.ended"]
        assert (events[-2]["error"], events[-1]["reason"]) == ("StoreError", "done")
        assert "history.db" in events[-2]["message"]
        assert "is not stored: " in caplog.text
        for method in ("GET", "DELETE"):
            status, body = await server.json(method, "/history?user=bob")
            assert (status, body["error"]) == (503, "StoreError")
        (tmp_path / "gone.db").rename(tmp_path / "history.db")
        await server.turn(user="ann", input="z")
        kept = said((await server.json("GET", "/history?user=ann"))[1])
        assert [content for _, content, _ in kept] == ["x", "hi", "y", "hi", "z", "hi"]


async def test_what_has_no_json_form_is_shown_all_the_same(serving, tmp_path, store):
    async with serving(FakeLLM("hi"), store=store) as server:
        await server.turn(user="ann", input="x")
        connection = sqlite3.connect(tmp_path / "history.db")
        with connection:
            connection.execute("UPDATE message SET content = CAST(x'61eda080' AS TEXT) WHERE role = 'user'")
        connection.close()
    async with serving(FakeLLM("hi"), store=store) as server:
        assert said((await server.json("GET", "/history?user=ann"))[1])[0] == ("user", "a?", False)


async def test_two_servers_on_one_file_know_what_was_said_to_either(serving, store):
    async with (
        serving(FakeLLM("{n}"), store=store, idle_s=0) as one,
        serving(FakeLLM("{n}"), store=store, idle_s=0) as two,
    ):
        for number, server in enumerate([one, two, two, one, two]):
            events = await server.turn(user="ann", input="x")
            assert [event["text"] for event in events if event["type"] == "text"] == [str(2 * number)]
            await trio.sleep(0.01)  # the session has ended


def serve(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "pipeline.py").write_text("from ezflow.testing import FakeLLM\nflow = FakeLLM()\n")
    command = [sys.executable, "-m", "ezflow", "serve", "pipeline.py", "--port", "0", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=60
    )


def test_a_store_that_cannot_be_ends_the_command_before_anything_is_opened(tmp_path):
    done = serve(tmp_path, "--store", "sqlite:///nowhere/history.db")
    assert (done.returncode, done.stdout) == (2, "")
    why = f"store: there is no folder {tmp_path}/nowhere: make it, or name a file elsewhere. (It is from --store.)"
    assert done.stderr == f"ezflow: {why}\n"
    connection = sqlite3.connect(tmp_path / "later.db")
    connection.executescript(f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 99; CREATE TABLE m (a)")
    connection.close()
    done = serve(tmp_path, "--store", "sqlite:///later.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert "was written by a later ezflow (layout 99, this one knows 1): upgrade ezflow, or name" in done.stderr
    assert "Traceback" not in done.stderr
