"""ezflow/sqlite.py, store.py: what is appended lasts, in order, within its bounds; what is deleted is gone."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ezflow import SettingsError, StoreError
from ezflow.history import History, Message
from ezflow.limits import Limits
from ezflow.sqlite import APPLICATION, STEPS, SQLiteStore, open_sqlite
from ezflow.store import Bounds, Store, open_store, place_of

WIDE = Bounds(messages=200, chars=100_000, size=1024**3)


def said(*contents: str, at: float = 1.0) -> list[Message]:
    return [Message("user", content, at=at) for content in contents]


def words(messages: object) -> list[str]:
    return [message.content for message in messages]  # type: ignore[attr-defined]


@asynccontextmanager
async def opened(path: Path, bounds: Bounds = WIDE) -> AsyncIterator[SQLiteStore]:
    async with open_sqlite(path, bounds) as store:
        yield store


# ---- what is kept


async def test_messages_come_back_as_they_were_said_after_the_file_was_closed(tmp_path):
    messages = [
        Message("user", "hi", at=1.25),
        Message("assistant", "", at=2.5),
        Message("assistant", "a\0b\ud800 你好", cut=True, at=1e9),
    ]
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": messages, "bo\0b\udfff": said("x")})
    async with opened(tmp_path / "h.db") as store:
        found = await store.load("ann")
        assert [(m.role, m.content, m.cut, m.at) for m in found] == [(m.role, m.content, m.cut, m.at) for m in messages]
        assert words(await store.load("bo\0b\udfff")) == ["x"]
        assert await store.load("bo") == []
        assert await store.load("Ann") == []


TEXTS = st.text(st.sampled_from("ab\0é你\ud800'\""), max_size=12)
USERS = st.sampled_from(["ann", "bob", "a\0", "a\ud800"])
STEP = st.one_of(
    st.tuples(st.just("append"), st.dictionaries(USERS, st.lists(TEXTS, min_size=1, max_size=3), min_size=1)),
    st.tuples(st.just("delete"), USERS),
    st.tuples(st.just("expire"), st.integers(0, 30)),
    st.tuples(st.just("reopen"), st.none()),
)


@given(st.lists(STEP, max_size=30), st.integers(1, 5), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_a_store_is_as_good_as_a_history_for_each_user(steps, max_messages, max_chars):
    async def check() -> None:
        model: dict[str, list[Message]] = {}
        bounds = Bounds(max_messages, max_chars, WIDE.size)
        with tempfile.TemporaryDirectory() as folder:
            path, clock = Path(folder) / "h.db", 0.0
            left = list(steps)
            while left:
                async with opened(path, bounds) as store:
                    while left:
                        kind, what = left.pop(0)
                        if kind == "reopen":
                            break
                        if kind == "append":
                            batch = {}
                            for user, contents in what.items():
                                clock += 1
                                # what a history holds is never longer than its bound
                                batch[user] = said(*(text[-max_chars:] for text in contents), at=clock)
                                history = History(max_messages, max_chars)
                                for message in [*model.get(user, []), *batch[user]]:
                                    history.add(message)
                                model[user] = list(history.messages)
                            await store.append(batch)
                        elif kind == "delete":
                            assert await store.delete(what) == len(model.pop(what, []))
                        else:
                            young = {u: [m for m in kept if m.at >= what] for u, kept in model.items()}
                            gone = sum(map(len, model.values())) - sum(map(len, young.values()))
                            assert await store.expire(what) == gone
                            model = young
                        for user in ("ann", "bob", "a\0", "a\ud800", "a"):
                            assert words(await store.load(user)) == words(model.get(user, []))

    trio.run(check)


async def test_a_bound_that_has_become_smaller_holds_for_what_is_loaded(tmp_path):
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("a", "b", "c", "d")})
    async with opened(tmp_path / "h.db", Bounds(2, 100, WIDE.size)) as store:
        assert words(await store.load("ann")) == ["c", "d"]
        await store.append({"ann": said("e")})
    async with opened(tmp_path / "h.db") as store:
        assert words(await store.load("ann")) == ["d", "e"]


async def test_a_full_file_makes_room_by_the_oldest_messages_of_all(tmp_path, caplog):
    bounds = Bounds(messages=200, chars=100_000, size=1024**2)
    async with opened(tmp_path / "h.db", bounds) as store:
        for number in range(300):
            await store.append({f"user-{number}": said("x" * 10_000)})
        assert await store.load("user-0") == []
        assert len(await store.load("user-299")) == 1
        kept = [number for number in range(300) if await store.load(f"user-{number}")]
        assert kept == list(range(kept[0], 300))
    assert 30 < len(kept) < 110
    assert (tmp_path / "h.db").stat().st_size < 1.2 * bounds.size
    assert [record.levelname for record in caplog.records if "is full" in record.message] == ["WARNING"]


# ---- what is deleted


@pytest.mark.parametrize("way", ["delete", "trim", "expire"])
async def test_what_is_deleted_is_in_none_of_the_files(tmp_path, way):
    async with opened(tmp_path / "h.db", Bounds(2, 100_000, WIDE.size)) as store:
        await store.append({"ann": said("secret-word", "SECRET-WORD" * 3000), "bob": said("kept-word", at=9.0)})
        if way == "delete":
            assert await store.delete("ann") == 2
        elif way == "expire":
            assert await store.expire(5.0) == 2
        else:
            await store.append({"ann": said("a", "b")})
            await store.delete("nobody")  # a trimmed message is in the log until it is next emptied
        held = b"".join(path.read_bytes().lower() for path in tmp_path.iterdir())
        assert b"secret-word" not in held
        assert words(await store.load("bob")) == ["kept-word"]
    assert b"kept-word" in (tmp_path / "h.db").read_bytes()


async def test_while_another_reads_the_log_keeps_what_was_deleted_until_the_next_write(tmp_path):
    def held() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("secret-word")})
        reader = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        with trio.fail_after(2):
            assert await store.delete("ann") == 1
        assert b"secret-word" in held()
        reader.close()
        await store.append({"bob": said("x")})
        assert b"secret-word" not in held()


# ---- the file


async def test_the_files_are_for_their_owner_alone(tmp_path):
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("x")})
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"h.db": 0o600, "h.db-wal": 0o600, "h.db-shm": 0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["h.db"]


async def test_what_one_store_commits_another_on_the_same_file_reads(tmp_path):
    async with opened(tmp_path / "h.db") as one, opened(tmp_path / "h.db") as two:
        for number in range(10):
            await (one, two)[number % 2].append({"ann": said(str(number))})
            assert words(await (two, one)[number % 2].load("ann")) == [str(n) for n in range(number + 1)]


async def test_many_who_open_and_write_one_new_file_at_once_lose_nothing(tmp_path):
    users = [f"user-{number}" for number in range(8)]

    async def use(path: Path, user: str) -> None:
        async with opened(path) as store:
            for number in range(3):
                await store.append({user: said(str(number)), "all": said(user)})

    for path in (tmp_path / f"{number}.db" for number in range(20)):
        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(use, path, user)
        async with opened(path) as store:
            assert [words(await store.load(user)) for user in users] == [["0", "1", "2"]] * len(users)
            assert sorted(words(await store.load("all"))) == sorted(3 * users)


KILLED = """
import sys, trio
from pathlib import Path
from ezflow.history import Message
from ezflow.sqlite import open_sqlite
from ezflow.store import Bounds

async def main():
    async with open_sqlite(Path(sys.argv[1]), Bounds(10**6, 10**9, 2**30)) as store:
        for number in range(10**6):
            await store.append({"ann": [Message("user", f"{number}")]})
            print(number, flush=True)

trio.run(main)
"""


def test_what_a_killed_process_had_appended_is_there(tmp_path):
    path = tmp_path / "h.db"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "50\n":
                process.kill()
                break
        known = [line, *process.stdout][-1]

    async def found() -> list[str]:
        async with opened(path, Bounds(10**6, 10**9, WIDE.size)) as store:
            return words(await store.load("ann"))

    kept = trio.run(found)
    assert kept == [str(number) for number in range(len(kept))]
    assert len(kept) > int(known)


async def test_a_file_that_is_written_by_another_for_too_long_is_an_error_and_works_again_after_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("ezflow.sqlite.BUSY_S", 0.05)
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("a")})
        writer = sqlite3.connect(tmp_path / "h.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"h\.db: database is locked"):
            await store.append({"ann": said("b")})
        assert words(await store.load("ann")) == ["a"]  # who only reads does not wait
        writer.close()
        await store.append({"ann": said("c")})
        assert words(await store.load("ann")) == ["a", "c"]


async def test_a_full_disk_is_an_error_and_leaves_what_was_stored(tmp_path):
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("a")})
        store._connection.execute(
            "PRAGMA max_page_count = 10"
        )  # what SQLite then says is what a full disk makes it say
        with pytest.raises(StoreError, match="full"):
            await store.append({"ann": said("b"), "bob": said("x" * 90_000)})
        assert words(await store.load("ann")) == ["a"]
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await store.append({"ann": said("c")})
        assert words(await store.load("ann")) == ["a", "c"]


@pytest.mark.parametrize("way", ["deleted", "replaced"])
async def test_a_file_that_was_deleted_or_replaced_is_not_written_to(tmp_path, way):
    async with opened(tmp_path / "h.db") as store:
        (tmp_path / "h.db").rename(tmp_path / "old.db")
        if way == "replaced":
            (tmp_path / "h.db").touch()
        with pytest.raises(StoreError, match=r"another one than was opened|No such file"):
            await store.append({"ann": said("x")})


async def test_a_file_that_has_gone_bad_is_an_error(tmp_path):
    path = tmp_path / "h.db"
    async with opened(path) as store:
        await store.append({f"user-{n}": said("x" * 3000) for n in range(20)})
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    async with opened(path) as store:
        with pytest.raises(StoreError, match="malformed"):
            await store.append({"user-3": said("y")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no database, but a page of text. " * 50, "file is not a database"),
        ("CREATE TABLE recipe (name TEXT)", "is a database of something else"),
        (f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 99; CREATE TABLE m (a)", "layout 99"),
    ],
)
async def test_a_file_that_is_not_a_store_is_refused_and_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "h.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        connection = sqlite3.connect(path)
        connection.executescript(content)
        connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        async with opened(path):
            pass
    assert path.read_bytes() == before


async def test_a_file_of_an_earlier_layout_is_brought_to_the_newest(tmp_path, monkeypatch):
    async with opened(tmp_path / "h.db") as store:
        await store.append({"ann": said("a")})
    monkeypatch.setattr("ezflow.sqlite.STEPS", (*STEPS, ("ALTER TABLE message ADD COLUMN mood TEXT",)))
    for _ in range(2):  # the second finds it done
        async with opened(tmp_path / "h.db") as store:
            assert words(await store.load("ann")) == ["a"]
    connection = sqlite3.connect(tmp_path / "h.db")
    assert connection.execute("SELECT content, mood FROM message").fetchall() == [("a", None)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
    connection.close()


# ---- the URL


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///h.db", "h.db"), ("sqlite:////tmp/h.db", "/tmp/h.db"), ("sqlite:///a%20b.db", "a b.db")],
)
def test_three_slashes_name_a_relative_file_and_four_an_absolute_one(url, path):
    assert place_of(url) == Path(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("history.db", "sqlite:///FILE is needed"),
        ("sqlite://h.db", "sqlite:///FILE is needed"),
        ("sqlite:///", "sqlite:///FILE is needed"),
        ("sqlite:///h.db?mode=ro", "sqlite:///FILE is needed"),
        ("redis://127.0.0.1", "sqlite:///FILE is needed"),
        ("sqlite:////no/such/folder/h.db", "there is no folder /no/such/folder: make it"),
        ("sqlite:////tmp", "/tmp is a folder: name a file in it, sqlite:////tmp/history.db"),
        (5, "a URL is needed"),
        (object, "a URL is needed"),
    ],
)
def test_a_store_that_cannot_be_is_an_error_of_the_settings(given, message):
    with pytest.raises(SettingsError, match=message):
        Limits(store=given)


@pytest.mark.parametrize("bad", [{"history_days": 0}, {"store_bytes": 1000}, {"history_days": "a week"}])
def test_a_bound_that_cannot_be_is_an_error_of_the_settings(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        Limits(**bad)


async def test_a_url_opens_a_store_and_a_store_that_is_given_is_taken_as_it_is(tmp_path):
    async with open_store(f"sqlite:///{tmp_path}/h.db", WIDE) as store:
        assert isinstance(store, Store)
        async with open_store(store, WIDE) as same:
            assert same is store
        await store.append({"ann": said("still open")})
    async with open_store(None, WIDE) as none:
        assert none is None


async def test_a_file_that_may_not_be_opened_is_an_error(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "no" / "where.db")
    with pytest.raises(StoreError, match=r"link\.db cannot be opened: .*No such file"):
        async with opened(tmp_path / "link.db"):
            pass
