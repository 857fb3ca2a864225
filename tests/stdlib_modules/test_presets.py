"""Every preset that stands on a server: the conformance suite, the list of faults, interruption. One file a preset in
cases/; a preset without one fails here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import stdlib_modules
from ezflow import Module
from ezflow.modules import FunctionModule
from ezflow.testing import check_module
from ezflow.testing.backends import Fault, StandIn

sys.path.insert(0, str(Path(__file__).parent / "cases"))

from case import FAULTS, NAMES, Case, load

# Presets that stand on no server of their own: each has a `check_module` in its own test file.
LOCAL = {
    "FasterWhisper",
    "Hibari",
    "LocalLLM",
    "Moonshine",
    "Sentences",
    "SileroVAD",
    "Think",
    "WithoutMarkdown",
    "without_markdown",
}
# What presets are made of.
GENERIC = {"HTTPStream", "WebSocketStream"}
INTERRUPTIONS = 200
SAID = ("text", "audio", "transcript")  # other events may hold ids, which are new in each answer
LOADED = {name: load(name) for name in NAMES}


def presets() -> set[str]:
    """The modules that stdlib_modules defines."""
    found = set()
    for info in pkgutil.walk_packages(stdlib_modules.__path__, "stdlib_modules."):
        file = importlib.import_module(info.name)
        for name in getattr(file, "__all__", ()):
            value = getattr(file, name)
            is_class = inspect.isclass(value) and issubclass(value, Module) and value.__module__ == file.__name__
            if is_class or isinstance(value, FunctionModule):
                found.add(name)
    return found


def of(name: str) -> str:
    case = LOADED[name]
    return type(case.module("http://127.0.0.1:1")).__name__


def test_every_preset_has_a_stand_in():
    assert presets() - LOCAL - GENERIC == {of(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_all_rules_of_the_conformance_suite(name):
    case = LOADED[name]
    with case.standin(each_s=0.002).in_thread() as server:
        check_module(case.module(server.url), case.samples, real=True, options=dict(case.options), same=alike)


@pytest.mark.parametrize("name", NAMES)
async def test_what_a_good_server_answers_comes_out(name):
    case = LOADED[name]
    async with case.standin().serving() as server:
        given = await case.module(server.url).collect(case.samples, options=case.options)
    assert given
    assert case.gives is None or list(map(shown, given)) == list(map(shown, case.gives))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("name", NAMES)
async def test_what_a_server_does_wrong_is_told_and_the_next_answer_is_good(name, fault, caplog):
    case = LOADED[name]
    expected = case.faults.get(fault, FAULTS[fault])
    if isinstance(expected, str):
        return  # the table in the docs says why there is no such fault
    async with case.standin().serving() as server:
        module = case.module(server.url, read_s=0.5, retries=0)
        async with module.open() as service:
            async with service.session("before") as session:
                good = await answer(session, case)
            server.fault = fault
            async with service.session("meanwhile") as session:
                events = [event async for event in session.turn(case.samples[0], options=case.options)]
            errors = [event for event in events if event.type == "error"]
            if expected is None:
                assert not errors, errors[0].error
                assert joined([shown(e.item) for e in events if e.type in SAID]) == joined(good)
            else:
                assert [event.error.name for event in errors] == [expected.__name__]
                assert errors[0].stage == module.name
                message = errors[0].error.message
                assert message.startswith(f"{type(module).__name__} at {server.url}"), message
                assert "Traceback" not in message
            server.fault = Fault.NONE
            async with service.session("after") as session:
                assert joined(await answer(session, case)) == joined(good)


@pytest.mark.parametrize("name", NAMES)
async def test_interrupting_a_turn_closes_the_servers_connection_and_leaves_the_pool_whole(name):
    case = LOADED[name]
    async with case.standin(**case.slow).serving() as server:
        module = case.module(server.url, max_connections=2)
        async with module.open() as service, service.session("ann") as session:
            for number in range(1, INTERRUPTIONS + 1):
                async with session.turn(case.samples[0], options=case.options):
                    await server.until(lambda number=number: asked(server) >= number)
                    await session.interrupt()
                await server.until(lambda number=number: len(server.left) >= number)
            script, server.each_s = server.each_s, 0.0
            with trio.fail_after(10):
                assert await answer(session, case)
            server.each_s = script


@pytest.mark.parametrize("name", NAMES)
async def test_a_budget_that_is_up_names_the_server_and_leaves_the_pool_whole(name):
    case = LOADED[name]
    async with case.standin().serving() as server:
        module = case.module(server.url, max_connections=1)
        flow = module.budget(total_s=0.2)
        async with flow.open() as service, service.session("ann") as session:
            server.fault = Fault.SILENT
            for _ in range(2):  # the one place is free again
                events = [event async for event in session.turn(case.samples[0], options=case.options)]
                told, end = events[-2:]
                assert (told.error.name, told.stage, end.reason) == ("BudgetExceeded", module.name, "timeout")
                assert f"{module.name} waits for {type(module).__name__} at {server.url}" in told.error.message
            await server.until(lambda: server.connections == 0)
        server.fault = Fault.NONE
        async with module.open() as service, service.session("ann") as session:
            assert await answer(session, case)


@pytest.mark.parametrize("name", NAMES)
async def test_what_it_holds_can_be_seen(name):
    case = LOADED[name]
    async with case.standin(**case.slow).serving() as server:
        module = case.module(server.url, max_connections=2)
        async with module.open() as service, service.session("ann") as session:
            status = service.stages[0].module.status
            async with session.turn(case.samples[0], options=case.options):
                await server.until(lambda: asked(server) == 1)
                assert (status()["connections_in_use"], status()["connections_limit"]) == (1, 2)
            assert (status()["connections_in_use"], status()["connections_waited_for"]) == (0, 0)


async def answer(session: Any, case: Case) -> list[str]:
    events = [event async for event in session.turn(case.samples[0], options=case.options)]
    assert events[-1].reason == "done", events
    return [shown(event.item) for event in events if event.type in SAID]


def asked(server: StandIn) -> int:
    return len(server.requests)


def shown(item: Any) -> str:
    return item if isinstance(item, str) else repr(getattr(item, "pcm", item))


def joined(items: list[str]) -> str:
    """What was said, however it was cut into pieces."""
    return "".join(items).replace("'b'", "")


def alike(one: Any, other: Any) -> bool:
    return shown(one) == shown(other)
