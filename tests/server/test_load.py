"""Three hundred turns at once: none lost, none mixed, and nothing left behind."""

from __future__ import annotations

import os

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


async def test_three_hundred_turns_at_once_lose_and_mix_nothing(serving):
    flow = FakeLLM("you said {} and I heard it", first_s=0.01, each_s=0.01).shown() >> FakeTTS(0.005, char_s=0.001)
    async with serving(flow, idle_s=0.0, max_sessions=TURNS) as server:
        await server.turn(user="first", input="warm")
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = (tasks(), descriptors())
        answers: dict[str, str] = {}

        async def ask(user: str) -> None:
            events = await server.turn(user=user, input=f"word-{user}")
            assert events[-1]["reason"] == "done"
            assert [event["seq"] for event in events] == list(range(len(events)))
            answers[user] = "".join(event["text"] for event in events if event["type"] == "text")

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(TURNS):
                    nursery.start_soon(ask, f"user{number}")
        with trio.fail_after(10):  # less than the time that an idle connection is kept
            while tasks() > before[0] or descriptors() > before[1]:
                await trio.testing.wait_all_tasks_blocked(0.05)
    assert answers == {f"user{n}": f"you said word-user{n} and I heard it" for n in range(TURNS)}
