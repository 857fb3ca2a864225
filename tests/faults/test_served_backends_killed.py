"""A served voice flow of which half of the backends are killed while fifty clients are amid their answers.

All are processes of their own: `ezflow serve`, two servers for answering and two for speaking. Those whose backends are
untouched go on; the others are told, and go on with the next turn when theirs are there again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from backend_process import BackendProcess, backend
from programs import answer, killable
from reachable import becomes

from ezflow import Audio
from ezflow.client import Client
from ezflow.events import Event
from ezflow.testing.backends import GPTSoVITSStandIn

FLOWS = """
from stdlib_modules.llm.ollama import Ollama
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.gpt_sovits import GPTSoVITS

def speaks(url):
    return Sentences() >> GPTSoVITS(ref_audio_path="a.wav", prompt_text="Hello.", url=url, max_connections=50)

def answers(url):
    return Ollama("qwen2.5", url=url).shown()

flows = {{
    "whole": answers("{good_llm}") >> speaks("{good_tts}"),
    "dumb": answers("{bad_llm}") >> speaks("{good_tts}"),
    "mute": answers("{good_llm}") >> speaks("{bad_tts}"),
}}
"""
SERVERS = {"good_llm": "ollama", "bad_llm": "ollama", "good_tts": "gpt_sovits", "bad_tts": "gpt_sovits"}
KILLED = ("bad_llm", "bad_tts")
FLOW_NAMES = ("whole", "dumb", "mute")
BROKEN = {"dumb": "ollama", "mute": "gpt_so_vits"}  # and the stage of theirs whose backend is killed
USERS = range(10, 60)
ROUNDS = 5
WITHIN_S = 60.0
SENTENCES = ("You said Hello no{}.", "How are you?", "Fine.")
HEAD = 1  # piece of an answer, before its words
AMID_TEXT = HEAD + len(["You", "said", "Hello", "no10.", "How", "are"]) + 1  # by then the first sentence is known
AMID_SOUND = HEAD + 3


@attrs.define
class User:
    """A user of one of the flows: by HTTP, or by a WebSocket; and what they are told in their present turn."""

    number: int
    client: Client
    turns: int = 0
    events: list[Event] = attrs.field(factory=list)

    @property
    def name(self) -> str:
        return f"no{self.number}"

    @property
    def flow(self) -> str:
        return FLOW_NAMES[self.number % 3]

    @property
    def question(self) -> str:
        return f"Hello {self.name}. How are you? Fine"

    @property
    def answer(self) -> str:
        return f"You said {self.question}."

    @property
    def sound(self) -> bytes:
        said = [sentence.format(self.number) for sentence in SENTENCES]
        return b"".join(GPTSoVITSStandIn.sound_of("a.wav", "Hello.", sentence) for sentence in said)

    @property
    def text_heard(self) -> str:
        return "".join(event.item for event in self.events if event.type == "text")

    @property
    def sound_heard(self) -> bytes:
        return b"".join(event.item.pcm for event in self.events if isinstance(event.item, Audio))

    async def ask(self) -> None:
        """Have a turn, from its question to its end."""
        self.turns, self.events = self.turns + 1, []
        if self.number % 2:
            async for event in self.client.turn(self.question):
                self.events.append(event)
            return
        async with self.client.live() as live:
            await live.send(self.question)
            await live.end()
            async for event in live:
                self.events.append(event)

    def was_answered(self) -> None:
        self.is_in_order("done")
        assert (self.text_heard, self.sound_heard) == (self.answer, self.sound)

    def was_told(self, error: str) -> None:
        self.is_in_order("error")
        (event,) = [event for event in self.events if event.type == "error"]
        assert event.error is not None
        assert (event.error.name, event.stage) == (error, BROKEN[self.flow])
        assert self.answer.startswith(self.text_heard)
        assert self.sound.startswith(self.sound_heard)

    def is_in_order(self, reason: str) -> None:
        assert self.events[-1].reason == reason, self.events
        assert {event.turn for event in self.events} == {self.turns}
        assert [event.seq for event in self.events] == list(range(len(self.events)))


@asynccontextmanager
async def served(file: Path, log: Path) -> AsyncGenerator[tuple[str, int], None]:
    """The URL of `ezflow serve` on a file, and its process' number."""
    command = [sys.executable, "-m", "ezflow", "serve", str(file), "--port", "0"]
    async with killable(command, log=log) as (url, process):
        yield url, process.pid
        process.terminate()
        with trio.fail_after(WITHIN_S):
            assert await process.wait() == 0


async def in_time(*asking: Any) -> None:
    """Have it all done at once."""
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            for one in asking:
                nursery.start_soon(one)


async def test_of_fifty_clients_amid_their_answers_those_go_on_whose_backends_are_not_killed(tmp_path, is_long, count):
    file, log = tmp_path / "pipeline.py", tmp_path / "log"
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(backend(case)) for name, case in SERVERS.items()}
        file.write_text(FLOWS.format(**{name: server.url for name, server in servers.items()}))
        url, pid = await stack.enter_async_context(served(file, log))
        files = descriptors_of(pid)
        async with AsyncExitStack() as clients:
            users = []
            for number in USERS:
                client = Client(f"{url}/{FLOW_NAMES[number % 3]}", user=f"no{number}")
                users.append(User(number, await clients.enter_async_context(client)))
            for _ in range(ROUNDS if is_long else 1):
                await strike(users, servers, count)
                await a_newcomer_is_told(url)
                for name in KILLED:
                    again = backend(SERVERS[name], servers[name].port, again=True)
                    servers[name] = await stack.enter_async_context(again)
                await in_time(*[user.ask for user in users])
                for user in users:
                    user.was_answered()
                await nothing_is_left(url)
        for user in users:
            await is_remembered(url, user)

        kept = sum(module["values"].get("connections_idle", 0) for module in (await tree(url))["modules"])
        await becomes(lambda: descriptors_of(pid) <= files + kept, "no descriptor is left but of kept connections")
    assert "Traceback" not in log.read_text()


async def strike(users: list[User], servers: dict[str, BackendProcess], count: Any) -> None:
    """Have all ask, kill half of the backends when all are amid their answers, and let the others go on."""
    of = {flow: [user for user in users if user.flow == flow] for flow in FLOW_NAMES}
    told = {flow: trio.Event() for flow in FLOW_NAMES}
    await servers["good_llm"].hold(len(of["whole"] + of["mute"]), AMID_TEXT)
    await servers["bad_llm"].hold(len(of["dumb"]), AMID_TEXT)
    await servers["bad_tts"].hold(len(of["mute"]), AMID_SOUND)

    async def ask(flow: str) -> None:
        await in_time(*[user.ask for user in of[flow]])
        told[flow].set()

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            for flow in FLOW_NAMES:
                nursery.start_soon(ask, flow)
            for name in ("good_llm", "bad_llm", "bad_tts"):
                await servers[name].all_held()
            await becomes(lambda: all(user.text_heard and user.sound_heard for user in users), "all hear something")
            struck_at = trio.current_time()
            for name in KILLED:
                await servers[name].kill()
            for flow in BROKEN:
                await told[flow].wait()
            told_s = trio.current_time() - struck_at
            assert not any(user.events[-1].reason for user in of["whole"])
            going_at = trio.current_time()
            await servers["good_llm"].go_on()
            await told["whole"].wait()
            went_on_s = trio.current_time() - going_at
    for flow in BROKEN:
        for user in of[flow]:
            user.was_told("BackendBroken")
    for user in of["whole"]:
        user.was_answered()
    broken = len(of["dumb"] + of["mute"])
    times = {"worst_ms_until_told": round(1000 * told_s), "worst_ms_going_on": round(1000 * went_on_s)}
    count(rounds=1, broken=broken, untouched=len(of["whole"]), **times)


async def a_newcomer_is_told(url: str) -> None:
    """While half of the backends are away: who needs them is told, who does not is answered."""
    for number, flow in enumerate(FLOW_NAMES, 60):
        async with Client(f"{url}/{flow}", user=f"no{number}-{trio.current_time()}") as client:
            user = User(number, client)
            assert user.flow == flow
            await in_time(user.ask)
            if flow in BROKEN:
                user.was_told("BackendUnreachable")
            else:
                user.was_answered()


async def tree(url: str) -> Any:
    return await trio.to_thread.run_sync(answer, f"{url}/debug/tree")


async def nothing_is_left(url: str) -> None:
    """No turn runs, and no place in a pool is taken."""
    found = await tree(url)
    assert found["sessions"]["busy"] == 0
    values = [module["values"] for module in found["modules"]]
    assert len(values) == len(SERVERS)
    assert not any(value["connections_in_use"] or value["connections_waited_for"] for value in values)


async def is_remembered(url: str, user: User) -> None:
    """A history holds what its user asked and was told, cut where it was cut, and at last the whole answer."""
    body = await trio.to_thread.run_sync(answer, f"{url}/history?user={user.name}")
    messages = [(message["role"], message["content"], message["cut"]) for message in body["messages"]]
    for role, content, cut in messages:
        if role == "user":
            assert content == user.question
        else:
            assert user.answer.startswith(content)
            assert cut is (content != user.answer)
    assert [role for role, _, _ in messages] == ["user", "assistant"] * user.turns
    assert messages[-1] == ("assistant", user.answer, False)


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
