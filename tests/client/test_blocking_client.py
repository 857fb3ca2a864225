"""The client for scripts: the same turns without async, from one thread or several, and no thread left behind."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from peers import Peer, answering, playing
from stages import Floods, Hears, Seen, Talks
from trio_websocket import ConnectionClosed

from ezflow import Audio, Latest, Module, Turn, TurnClosedError, module
from ezflow.client import BlockingClient, Client, Closed, Refused, Unread
from ezflow.testing import FakeLLM

LLM = FakeLLM(reply="You said {}.").shown()


async def run(script: Callable[[str], Any], url: str) -> Any:
    """What a script gives, run in a thread as a script would be."""
    with trio.fail_after(30):
        return await trio.to_thread.run_sync(script, url)


def portals() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("trio-portal")]


async def test_a_script_takes_events_in_a_plain_loop_and_leaves_no_thread(serving):
    def script(url: str) -> str:
        with BlockingClient(url, user="ann") as client:
            assert len(portals()) == 1
            assert client.user == "ann"
            assert client.url == url
            assert client.ready()["status"] == "ready"
            assert client.flow()["stages"][0]["name"] == "fake_llm"
            assert client.schema("turns")["title"] == "TurnRequest"
            turn = client.turn("hello")
            said = "".join(event.item for event in turn if event.type == "text")
            assert (turn.id, list(turn)) == (1, [])
            assert client.interrupt() is None
        assert portals() == []
        return said

    async with serving(LLM) as server:
        assert await run(script, server.url) == "You said hello."


async def test_a_loop_or_a_block_that_is_left_ends_the_turn_on_the_server(serving):
    for how in ("loop", "block", "client"):
        seen = Seen()

        def script(url: str, how: str = how) -> None:
            with BlockingClient(url) as client:
                if how == "block":
                    with client.turn("hello") as events:
                        assert [next(events).type for _ in range(2)] == ["turn.started", "text"]
                    client.flow()
                    return
                kept = client.turn("hello") if how == "client" else None
                for event in kept or client.turn("hello"):
                    if event.type == "text":
                        break
                client.flow()

        async with serving(Talks(seen)) as server:
            await run(script, server.url)
            with trio.fail_after(5):
                await seen.left.wait()


async def test_errors_come_out_as_they_are_and_the_client_goes_on(serving):
    def script(url: str) -> None:
        with BlockingClient(url) as client:
            with pytest.raises(Refused, match="Entry nowhere"):
                list(client.turn("hello", entry="nowhere"))
            with pytest.raises(Refused, match="Entry nowhere"), client.live(entry="nowhere"):
                pytest.fail("it began")
            with pytest.raises(KeyError, match="mine"), client.live():
                raise KeyError("mine")
            assert list(client.turn("hello"))[-1].reason == "done"
        with pytest.raises(RuntimeError, match="not open"):
            client.flow()
        assert portals() == []
        with pytest.raises(ZeroDivisionError), BlockingClient(url):
            raise ZeroDivisionError
        assert portals() == []

    async with serving(LLM) as server:
        await run(script, server.url)


async def test_one_thread_sends_and_takes_events_in_turn(serving):
    def script(url: str) -> list[Any]:
        with BlockingClient(url) as client, client.of("live").live() as live:
            live.send("one")
            seen = [live.receive(), live.receive(), live.receive()]
            assert live.receive(0) is live.receive(-1) is live.receive(0.01) is None
            live.interrupt()
            live.send("two")
            live.end()
            with pytest.raises(TurnClosedError):
                live.send("late")
            seen += list(live)
            assert live.receive() is None
            assert live.flow["name"] == "live"
            assert live.id == 1
            return [event.item for event in seen if event.type == "text"]

    flows = {"voice": LLM, "live": Latest(FakeLLM(reply="{} again"))}
    async with serving(flows) as server:
        assert await run(script, server.url) == ["one", " again", "two", " again"]


async def test_one_thread_may_send_while_another_loops(serving):
    def script(url: str) -> list[str]:
        with BlockingClient(url) as client, client.live(format=Audio(b"", 8000)) as live:

            def speak() -> None:
                for samples in range(1, 51):
                    live.send(bytes(2 * samples))
                live.end()

            speaker = threading.Thread(target=speak)
            speaker.start()
            heard = [event.item for event in live if event.type == "text"]
            speaker.join()
            return heard

    async with serving(Hears()) as server:
        assert await run(script, server.url) == [f"{n} at 8000 Hz in 1" for n in range(1, 51)]


async def test_what_is_kept_for_a_script_that_only_sends_is_bounded(serving):
    def script(url: str) -> int:
        with BlockingClient(url) as client, client.live() as live:
            with pytest.raises(Unread, match="take them between two sends") as unread:
                while True:
                    live.send("x")
            live.end()
            assert sum(event.type == "text" for event in live) >= unread.value.count - 1
            return unread.value.count

    async with serving(FakeLLM()) as server:
        assert await run(script, server.url) == 1024


@module
class Lists(Module[str, list[str]]):
    """Says lists of 1 MiB, for which text is no measure."""

    async def process(self, text: str, turn: Turn) -> list[str]:
        return ["x" * 1024] * 1024


async def test_what_is_kept_is_bounded_in_bytes_whatever_it_is(serving):
    def script(url: str) -> int:
        with BlockingClient(url) as client, client.live() as live:
            with pytest.raises(Unread) as unread:
                while True:
                    live.send("x")
            return unread.value.count

    async with serving(Lists()) as server:
        assert await run(script, server.url) < 40


async def test_nothing_that_a_script_says_waits_for_a_server_that_waits_for_the_script(serving):
    asked, answers = trio.Event(), trio.Event()

    def script(url: str) -> None:
        with BlockingClient(url) as client, client.live() as live:
            started = live.receive()
            assert started is not None
            sent: list[str] = []

            def speak() -> None:
                with pytest.raises(Unread):
                    while True:
                        live.send("x" * 500_000)
                        sent.append("one more")

            speaker = threading.Thread(target=speak)
            speaker.start()
            trio.from_thread.run(asked.wait)
            before = -1
            while len(sent) > before:  # the server's room fills first, and the system's own buffers
                before = len(sent)
                trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.05)
            trio.from_thread.run_sync(answers.set)  # and only then the script's
            speaker.join()
            for say in (live.end, live.interrupt, partial(live.played, started, 1.0)):
                with pytest.raises(Unread):
                    say()

    async with serving(Floods(Seen(), 100_000, asked, answers)) as server:
        await run(script, server.url)


async def test_a_live_turn_outside_its_block_says_what_is_needed(serving):
    def script(url: str) -> None:
        with BlockingClient(url) as client:
            live = client.live()
            for call in (partial(live.send, "x"), live.end, live.interrupt, live.receive, partial(next, live)):
                with pytest.raises(RuntimeError, match=r"with client\.live\(\) as live"):
                    call()

    async with serving(LLM) as server:
        await run(script, server.url)


def test_its_arguments_are_those_of_the_client():
    assert inspect.signature(BlockingClient).parameters == inspect.signature(Client).parameters


async def test_events_that_a_script_does_not_take_hold_up_the_server(serving):
    seen = Seen()

    def script(url: str) -> None:
        with BlockingClient(url) as client, client.live() as live:
            live.send("go")
            live.end()
            before = -1
            while seen.count > before:  # what is kept fills first, and the system's own buffers
                before = seen.count
                trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.05)
            assert 500 < seen.count < 1500
            assert [event.reason for event in live][-1] == "done"

    async with serving(Floods(seen)) as server:
        await run(script, server.url)


async def test_a_call_that_waits_in_another_thread_ends_with_the_client(serving):
    def script(url: str) -> list[BaseException]:
        raised: list[BaseException] = []

        def loop(client: BlockingClient, begun: threading.Event) -> None:
            try:
                for event in client.turn("hello"):
                    if event.type == "text":
                        begun.set()
            except BaseException as error:
                raised.append(error)

        begun = threading.Event()
        with BlockingClient(url) as client:
            looping = threading.Thread(target=loop, args=(client, begun))
            looping.start()
            begun.wait(10)
        looping.join(10)
        assert not looping.is_alive()
        return raised

    async with serving(Talks(Seen())) as server:
        (raised,) = await run(script, server.url)
    assert isinstance(raised, Closed)


async def test_a_call_that_hangs_in_another_thread_ends_with_the_client():
    reached = threading.Event()

    async def stalls(stream: trio.SocketStream) -> None:
        reached.set()  # in the handshake, which leaving the client's connections does not end
        await trio.sleep_forever()

    def script(url: str) -> list[BaseException]:
        raised: list[BaseException] = []

        def ask(client: BlockingClient) -> None:
            try:
                client.flow()
            except BaseException as error:
                raised.append(error)

        with BlockingClient(url.replace("http", "https"), connect_s=600) as client:
            asking = threading.Thread(target=ask, args=(client,), daemon=True)
            asking.start()
            reached.wait(10)
        asking.join(10)
        return raised

    async with answering(then=stalls) as url:
        (raised,) = await run(script, url)
    assert isinstance(raised, Closed)
    assert "the client was left" in str(raised)


async def test_a_server_that_goes_away_is_an_error_for_a_script_too(serving):
    def script(url: str, stop: Callable[[], None]) -> None:
        with BlockingClient(url) as client, client.live() as live:
            live.send("hello")
            for event in live:
                if event.type == "text":
                    stop()
        assert event.reason == "interrupted"

    async with serving(Talks(Seen()), grace_s=0.2) as server:
        stop = partial(trio.from_thread.run_sync, server.stop.set)
        await run(lambda url: script(url, stop), server.url)


PROGRAM = """
import signal, sys, threading
from ezflow.client import BlockingClient

# A program that a shell starts in the background, as CI may be, ignores SIGINT and passes that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
with BlockingClient(sys.argv[1]) as client:
    try:
        for event in client.turn("hello"):
            print(event.type, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("".join(event.item for event in client.of("llm").turn("again") if event.type == "text"), flush=True)
    for event in client.turn("hello"):
        print(event.type, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
async def test_ctrl_c_ends_a_call_and_the_script_may_go_on(serving, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)

    def watch(url: str) -> None:
        with subprocess.Popen([sys.executable, script, url], stdout=-1, stderr=-1, text=True) as program:
            try:
                assert program.stdout is not None
                for expected in ("turn.started", "text"):
                    assert program.stdout.readline().strip() == expected
                program.send_signal(signal.SIGINT)
                for expected in ("interrupted", "You said again.", "turn.started", "text"):
                    assert program.stdout.readline().strip() == expected
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=10)
                assert program.returncode == -signal.SIGINT
                assert errors.count("Traceback") == 1
                assert errors.strip().endswith("KeyboardInterrupt")
            finally:
                program.kill()

    seen = Seen()
    async with serving({"talks": Talks(seen), "llm": LLM}) as server:
        await run(watch, server.url)
        with trio.fail_after(5):
            await seen.left.wait()


BEGINS = """
import signal, sys
from ezflow.client import BlockingClient

signal.signal(signal.SIGINT, signal.default_int_handler)
with BlockingClient(sys.argv[1]) as client:
    try:
        with client.live() if sys.argv[2] == "live" else client.turn("hello"):
            print("begun", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("kind", ["live", "turn"])
async def test_ctrl_c_while_a_turn_begins_ends_it(kind, tmp_path):
    reached, left = trio.Event(), trio.Event()

    async def hesitates(peer: Peer) -> None:
        await peer.says({"type": "ready", "flow": {}})
        await peer.hears()
        reached.set()
        with pytest.raises(ConnectionClosed):
            await peer.hears()
        left.set()

    async def stalls(stream: trio.SocketStream) -> None:
        reached.set()
        while await stream.receive_some():
            pass
        left.set()

    script = tmp_path / "script.py"
    script.write_text(BEGINS)
    async with playing(hesitates) if kind == "live" else answering(then=stalls) as url:
        program = await trio.lowlevel.open_process([sys.executable, script, url, kind], stdin=-1, stdout=-1)
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            with trio.fail_after(20):
                await reached.wait()
                program.send_signal(signal.SIGINT)
                assert (await program.stdout.receive_some()).strip() == b"interrupted"
                await left.wait()  # while the client is still open
                await program.stdin.aclose()
                assert await program.wait() == 0
        finally:
            program.kill()
            await program.stdout.aclose()


ALARMS = """
import signal, sys
from ezflow.client import BlockingClient

signal.signal(signal.SIGALRM, signal.default_int_handler)
with BlockingClient(sys.argv[1]) as client:
    seen, alarms, over = [], 0, False
    with client.live() if sys.argv[2] == "live" else client.turn("hello") as turn:
        if sys.argv[2] == "live":
            turn.send("hello")
            turn.end()
        while not over:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 * 1.01**alarms)
                for event in turn:
                    seen.append(event.seq)
                over = True
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                alarms += 1
assert alarms > 3, alarms
assert seen == list(range(len(seen))), seen
"""


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("kind", ["live", "turn"])
async def test_ctrl_c_loses_no_event_and_doubles_none(serving, kind, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ALARMS)
    async with serving(FakeLLM(reply="w " * 300, each_s=0.001)) as server:
        with trio.fail_after(30):
            await trio.run_process([sys.executable, script, server.url, kind])
