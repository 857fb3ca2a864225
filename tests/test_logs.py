"""ezflow/logs.py, ezflow/context.py: whom a record is about, and how a failure is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from ezflow import EzflowError, Latest, Module, StageTimeout, Turn, fallback, module, retry, timeout
from ezflow.context import bound
from ezflow.errors import StageError, is_expected
from ezflow.logs import WithContext, failed
from ezflow.service import Limits, open_flows
from ezflow.testing import FakeLLM, Pause

log = logging.getLogger("somebody.elses")


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """All from INFO on, as a handler with the filter sees them."""
    handler, root = Kept(), logging.getLogger()
    handler.addFilter(WithContext())
    caplog.set_level(logging.INFO)
    root.addHandler(handler)
    yield handler.records
    root.removeHandler(handler)


def about(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(vars(record)[name] for name in ("user", "turn", "run", "flow", "stage"))


@module
class Notes(Module[str, str]):
    """Logs what it takes, by a library's logger."""

    async def process(self, text: str, turn: Turn) -> str:
        log.info("took %s", text)
        await trio.lowlevel.checkpoint()
        log.info("gives %s", text)
        return text


@module(blocking=True)
def notes_in_a_thread(text: str) -> str:
    log.info("in a thread")
    return text


async def run(service: Any, user: str, *items: str) -> list[str]:
    async with service.session(user) as session, session.live() as live:
        for item in items:
            await live.send(item)
        await live.end()
        return [event.type async for event in live]


async def test_a_record_made_in_a_stage_tells_whose_it_is(autojump_clock, records):
    flow = Notes().named("first") >> Notes().named("second")
    async with open_flows({"talk": flow}, Limits()) as services:
        await run(services["talk"], "ann", "x")
        await run(services["talk"], "ann", "y")
    told = [about(record) for record in records if record.name == log.name]
    assert [one for one in told if one[4] == "first"] == [
        ("ann", 1, "", "talk", "first")
    ] * 4  # takes, gives; and again in the next session
    assert len([one for one in told if one[4] == "second"]) == 4


async def test_a_record_made_in_a_worker_thread_or_in_a_task_of_a_stage_tells_it_too(records):
    @module
    class Nursery(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            async def child() -> None:
                log.info("in a task")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
            return text

    async with (Nursery() >> notes_in_a_thread).open() as service:
        await run(service, "ann", "x")
    assert [(*about(record), record.message) for record in records if record.name == log.name] == [
        ("ann", 1, "", "", "nursery", "in a task"),
        ("ann", 1, "", "", "notes_in_a_thread", "in a thread"),
    ]


async def test_inside_of_a_latest_a_record_tells_the_run(autojump_clock, records):
    async with Latest(Pause(1.0) >> Notes()).open() as service:
        await run(service, "ann", "x", "y")
    told = [about(record) for record in records if record.name == log.name]
    assert told == [("ann", 1, 2, "", "notes")] * 2


async def test_two_users_at_once_are_not_mistaken_for_each_other(autojump_clock, records):
    async with (Pause(0.5) >> Notes()).open() as service, trio.open_nursery() as nursery:
        for user in ("ann", "bob"):
            nursery.start_soon(run, service, user, user)
    told = {(record.getMessage(), about(record)[0]) for record in records if record.name == log.name}
    assert told == {(f"{does} {user}", user) for does in ("took", "gives") for user in ("ann", "bob")}


async def test_what_a_turn_binds_ends_with_it(autojump_clock, records):
    async with FakeLLM("a").open() as service:
        await run(service, "ann", "x")
        assert bound() == {}
    log.info("outside")
    assert about(records[-1]) == ("", "", "", "", "")


async def test_the_end_of_a_turn_is_told_at_info(autojump_clock, records):
    async with Pause(1.5).open() as service:
        await run(service, "ann", "x")
    (record,) = [record for record in records if record.name == "ezflow"]
    assert (record.getMessage(), about(record)[:2]) == ("turn ended: done, after 1.5 s", ("ann", 1))
    assert (vars(record)["reason"], vars(record)["took_s"]) == ("done", 1.5)


def test_what_a_record_says_of_itself_is_left(records):
    log.info("x", extra={"user": "somebody else"})
    assert about(records[-1])[0] == "somebody else"


# ---- failures


class Down(EzflowError):
    """As a model server that is not there."""

    expected = True

    def __init__(self, server: str = "Ollama", status: int = 503) -> None:
        super().__init__(f"{server} is down:\n start it")
        self.server = server
        self.status = status
        self.body = "what a user said"
        self.advice = ""


@module
class Fails(Module[str, str]):
    error: Exception

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        raise self.error
        yield ""


async def failure_of(flow: Any, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    async with flow.open() as service:
        assert "error" in await run(service, "ann", "x")
    (record,) = [record for record in caplog.records if record.levelno > logging.INFO]
    return record


async def test_an_expected_error_is_one_line_with_its_facts(autojump_clock, caplog):
    record = await failure_of(Fails(Down()), caplog)
    assert record.getMessage() == "user 'ann', turn 1, stage fails failed: Down: Ollama is down: start it"
    assert record.levelno == logging.ERROR
    assert (record.exc_info, "Traceback" in caplog.text) == (None, False)
    said = {"type": "Down", "message": "Ollama is down:\n start it", "server": "Ollama", "status": 503}
    assert (vars(record)["error"], vars(record)["stage"]) == (said, "fails")


async def test_at_debug_an_expected_error_has_its_traceback_too(autojump_clock, caplog):
    caplog.set_level(logging.DEBUG)
    record = await failure_of(Fails(Down()), caplog)
    assert "Down: Ollama is down: start it" in record.getMessage()
    assert "raise self.error" in caplog.text


async def test_a_bug_has_its_traceback(autojump_clock, caplog):
    record = await failure_of(Fails(ZeroDivisionError("by zero")), caplog)
    assert record.getMessage() == "user 'ann', turn 1, stage fails failed"
    assert "raise self.error" in caplog.text
    assert vars(record)["error"] == {"type": "ZeroDivisionError", "message": "by zero"}


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (fallback(Fails(Down()), Pause(0.0)), "fails failed; falling back to the next flow: StageError: fails: Down: "),
        (retry(Fails(Down()), 2), "fails failed, attempt 1 of 2: StageError: fails: Down: "),
    ],
)
async def test_a_combinator_that_answers_an_expected_error_says_it_in_one_line(autojump_clock, caplog, flow, said):
    async with flow.open() as service:
        await run(service, "ann", "x")
    record = caplog.records[0]
    assert record.getMessage() == f"{said}Ollama is down: start it"
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert vars(record)["error"]["server"] == "Ollama"


async def test_a_timeout_is_expected(autojump_clock, caplog):
    record = await failure_of(timeout(Pause(9.0), 1.0), caplog)
    assert "StageTimeout: pause took longer than 1 s." in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Down(), True),
        (ValueError("x"), False),
        (StageError("llm", [Down()]), True),
        (StageError("llm", [Down(), ValueError("x")]), False),
        (ExceptionGroup("g", [Down(), ExceptionGroup("h", [StageTimeout("f", 1)])]), True),
        (ExceptionGroup("g", [Down(), ValueError("x")]), False),
        (type("Odd", (Exception,), {"expected": "a value of its own"})(), False),
    ],
)
def test_what_is_made_of_expected_errors_alone_is_expected(error, expected):
    assert is_expected(error) is expected


def test_a_failure_that_nobody_listens_to_costs_nothing(caplog):
    class Dear(Exception):
        def __str__(self) -> str:
            raise AssertionError("it was looked at")

    caplog.set_level(logging.CRITICAL, log.name)
    failed(log, Dear(), "x")
    assert caplog.records == []
