"""Three hundred turns at once: none lost, none mixed, and nothing left behind."""

from __future__ import annotations

import gc
import os
import tracemalloc

import trio
import trio.testing

from ezflow.testing import FakeLLM, FakeTTS

TURNS = 300


def tasks() -> int:
    root = trio.lowlevel.current_root_task()
    count, queue = 0, [root]
    while queue:
        task = queue.pop()
        assert task is not None
        count += 1
        queue.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return count


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def test_three_hundred_turns_at_once_lose_and_mix_nothing_and_leave_nothing(serving):
    """Tasks, descriptors and memory are afterwards where they began: a leak of 1 KiB a turn is found."""
    flow = FakeLLM("you said {} and I heard it", first_s=0.01, each_s=0.01).shown() >> FakeTTS(0.005, char_s=0.001)
    # No watchdog: all is so slow under tracemalloc that it would tell, and Python keeps the lines that it shows.
    async with serving(flow, idle_s=0.0, max_sessions=TURNS, block_s=0.0) as server:
        answers: dict[str, str] = {}

        async def ask(user: str) -> None:
            events = await server.turn(user=user, input=f"word-{user}")
            assert events[-1]["reason"] == "done"
            assert [event["seq"] for event in events] == list(range(len(events)))
            answers[user] = "".join(event["text"] for event in events if event["type"] == "text")

        async def load(prefix: str, count: int) -> None:
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for number in range(count):
                        nursery.start_soon(ask, f"{prefix}{number}")

        async def settle(before: tuple[int, int]) -> int:
            """Wait, less than an idle connection is kept, until no more is left than before; the memory then held."""
            with trio.fail_after(10):
                while tasks() > before[0] or descriptors() > before[1]:
                    await trio.testing.wait_all_tasks_blocked(0.05)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        await load("first", 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = (tasks(), descriptors())
        tracemalloc.start()
        try:
            await load("warm", TURNS // 3)  # fills the caches of all libraries
            held = await settle(before)
            answers.clear()
            await load("user", TURNS)
            grown = await settle(before) - held
        finally:
            tracemalloc.stop()
    assert answers == {f"user{n}": f"you said word-user{n} and I heard it" for n in range(TURNS)}
    assert grown < TURNS * 1024, f"{grown} bytes more are held after {TURNS} turns"
