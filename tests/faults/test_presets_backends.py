"""Every preset's backend, while fifty users of one service are each in the middle of an answer: killed, frozen, torn
off, cut in the middle of a chunk, answering garbage, slow.

Each case of tests/stdlib_modules/cases is tried, so a new preset is too. `--long` has ROUNDS of each fault, one after
the other on the same service.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from backend_process import backend
from case import FAULTS, NAMES, Case, load
from fifty import USERS, Fifty, Turns, alone, fifty, is_in_order, longest_s
from wires import Way, Wires, cut, garbage, reset, slowly

from ezflow.limits import Limits
from ezflow.service import open_flows
from ezflow.testing.backends import Fault, StandIn

ROUNDS = 5
LONG_S = 10.0  # nobody waits for so long here
READ_S = 1.0  # where it is waited for
SLOW_READ_S = 2.0  # where a piece is slow: longer than one of its waits, shorter than all
BUDGET_S = 0.5
OF_A_USER = re.compile(rb"no(\d\d)")

FATES: dict[Way, Fault] = {reset: Fault.CUT, cut: Fault.CUT, garbage: Fault.GARBAGE, slowly: Fault.SPLIT}


@pytest.mark.parametrize("way", FATES, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", NAMES)
async def test_fifty_users_amid_their_answers_are_told_what_their_backend_does(name, way, is_long, count):
    case, each = load(name), await alone(name)
    expected = error_of(case, FATES[way])
    standin = case.standin()
    wires = Wires(standin)
    async with standin.serving(), fifty(case, standin.url, each, LONG_S if expected else SLOW_READ_S) as users:
        for _ in range(ROUNDS if is_long else 1):
            wires.hold(len(USERS), each.at, between=way is garbage)
            async with users.asking() as turns:
                await wires.until_held(len(USERS))
                struck_at = trio.current_time()
                wires.go_on(way)
            took_s = longest_s(turns, struck_at)
            if expected:
                users.all_failed(turns, expected, standin.url)
                await users.all_is_left()
                assert took_s < LONG_S
            else:
                users.all_answered(turns)
                assert took_s > SLOW_READ_S  # which is the time for each wait, and not for all of them
            users.all_answered(await users.ask())
            note(count, turns, worst_ms=took_s)
        keeps_users_apart(standin)


@pytest.mark.parametrize("name", NAMES)
async def test_fifty_users_amid_their_answers_are_told_that_their_backend_is_frozen_or_killed(name, is_long, count):
    case, each = load(name), await alone(name)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(backend(name))
        url = running.url
        users = await stack.enter_async_context(fifty(case, url, each, READ_S))

        async def strike(do: Callable[[], Awaitable[None]], error: str) -> None:
            await running.hold(len(USERS), each.at)
            async with users.asking() as turns:
                await running.all_held()
                struck_at = trio.current_time()
                await do()
            users.all_failed(turns, error, url)
            assert longest_s(turns, struck_at) < LONG_S
            note(count, turns, **{f"worst_ms_{do.__name__}": longest_s(turns, struck_at)})

        for _ in range(ROUNDS if is_long else 1):
            await strike(running.freeze, error_of(case, Fault.SILENT))
            await running.thaw()
            await users.all_is_left()
            users.all_answered(await users.ask())

            await strike(running.kill, error_of(case, Fault.CUT))
            await users.newcomer_fails("BackendUnreachable", url)
            await users.all_is_left()
            running = await stack.enter_async_context(backend(name, running.port, again=True))
            users.all_answered(await users.ask())


@pytest.mark.parametrize("name", ["gpt_sovits", "funasr"])  # over HTTP, and over a WebSocket
async def test_fifty_users_who_wait_for_one_place_at_a_silent_backend_are_told_when_their_budget_is_up(name, count):
    case, each = load(name), await alone(name)
    standin = case.standin()
    async with standin.serving():
        module = case.module(standin.url, max_connections=1, read_s=LONG_S)
        flows = {"bounded": module.budget(total_s=BUDGET_S), "free": module}
        async with open_flows(flows, Limits()) as services:
            standin.fault = Fault.SILENT
            async with AsyncExitStack() as stack:
                users = Fifty(case, services["bounded"], each)
                await users.join(stack)
                began_at = trio.current_time()
                with trio.fail_after(LONG_S):
                    turns = await users.ask()
                messages = []
                for told in turns.values():
                    is_in_order(told, 1, "timeout")
                    assert [(fault.error.name, fault.stage) for fault in told.errors] == [
                        ("BudgetExceeded", module.name)
                    ]
                    messages.append(told.errors[0].error.message)
                assert sum("where all places (1) were taken" in message for message in messages) == len(USERS) - 1
                await users.all_is_left()
            standin.fault = Fault.NONE
            async with AsyncExitStack() as stack:
                users = Fifty(case, services["free"], each)
                await users.join(stack)
                users.all_answered(await users.ask())
    note(count, turns, worst_ms=longest_s(turns, began_at))


def error_of(case: Case, fault: Fault) -> str:
    """The error that a fault is for a client of this preset; "" for none."""
    expected = case.faults.get(fault, FAULTS[fault])
    assert not isinstance(expected, str), f"its stand-in has this fault: {expected}"
    return expected.__name__ if expected else ""


def keeps_users_apart(standin: StandIn) -> None:
    """Nothing of one user was in a request for another."""
    for request in standin.requests:
        assert len(set(OF_A_USER.findall(request.body))) <= 1, request.body


def note(count: Any, turns: Turns, **worst_s: float) -> None:
    """What the end of the run tells of them; the times are those of the last of the turns, of the worst round."""
    begun = sum(bool(told.said) for told in turns.values())
    times = {what: round(1000 * seconds) for what, seconds in worst_s.items()}
    count(rounds=1, turns=len(turns), had_heard_something=begun, **times)
