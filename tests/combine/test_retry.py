"""retry: an item again, when it failed before its first output."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from standins import Add, Breaks, Endless, Log, Module, Silent, Take, Turn, module

from ezflow import StageTimeout, retry, timeout


@module
class Recovers(Module[int, int]):
    """Fails until its log has `failures` entries."""

    failures: int
    log: Log

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        if len(self.log.entries) < self.failures:
            self.log.add("failed")
            raise ConnectionError("not yet")
        yield item


async def test_an_item_is_tried_again_after_pauses_that_double(autojump_clock, caplog):
    log = Log()
    assert await retry(Recovers(3, log), 4, wait_s=1.0).collect([7]) == [7]
    assert [at for at, _ in log.entries] == [0, 1, 3]
    assert trio.current_time() == 7
    assert [record.message for record in caplog.records] == [
        f"recovers failed, attempt {attempt} of 4" for attempt in (1, 2, 3)
    ]
    assert "ConnectionError: not yet" in caplog.text


async def test_the_last_error_counts(autojump_clock):
    log = Log()
    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionError, match="not yet")):
        await retry(Recovers(9, log), 3, wait_s=1.0).collect([7])
    assert [at for at, _ in log.entries] == [0, 1, 3]


async def test_nothing_is_tried_again_after_a_first_output(autojump_clock):
    log = Log()
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await retry(Breaks(after=1, log=log), 3).collect([1])
    assert len(log.entries) == 1


async def test_one_attempt_is_none_again(autojump_clock):
    log = Log()
    with pytest.RaisesGroup(ConnectionError):
        await retry(Recovers(1, log), 1).collect([1])
    assert len(log.entries) == 1


async def test_no_output_is_no_failure(autojump_clock):
    assert await retry(Silent(), 3).collect([1]) == []


async def test_each_item_has_its_own_attempts(autojump_clock):
    log = Log()
    assert await retry(Recovers(2, log), 3, wait_s=0).collect([1, 2]) == [1, 2]


async def test_a_timeout_inside_is_tried_again(autojump_clock):
    with pytest.RaisesGroup(StageTimeout):
        await retry(timeout(Add(0, 5), 2), 2, wait_s=1.0).collect([1])
    assert trio.current_time() == 5


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> retry(Add(), 2) >> Take(2)).collect([5], capacity=capacity) == [5, 6]


def test_fewer_than_one_attempt_is_refused():
    with pytest.raises(ValueError):
        retry(Add(), 0)
