"""`ezflow talk`, as a person or a script runs it: a process, its output, files and exit code; also at a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from peers import answering
from stages import Hears, Seen, Talks
from terminals import Terminal, needs_a_terminal, terminal

from ezflow import Audio, Latest, Module, Progress, Transcript, Turn, module
from ezflow.events import Event
from ezflow.talk.recording import Recording
from ezflow.talk.timeline import Chart
from ezflow.testing import Failing, FakeLLM, FakeTTS

TOKEN = "a-token-of-more-than-16"
VOICE = Hears() >> FakeLLM(reply="You said {}.").shown() >> FakeTTS()


async def talk(*arguments: object, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ezflow", "talk", *map(str, arguments)]
    with trio.fail_after(30):
        return await trio.run_process(
            command,
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **environment},
        )


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    path.write_bytes(Audio(bytes(3200), 16_000).to_wav())
    return path


async def test_piped_lines_are_a_turn_each_and_only_answers_go_to_standard_output(serving):
    async with serving(VOICE) as server:
        done = await talk(server.url, "--no-timeline", stdin="one\n\n  two  \ndrei äöü".encode())
    assert done.stdout.decode() == "You said one.\nYou said two.\nYou said drei äöü.\n"
    assert done.stderr == b""
    assert done.returncode == 0


async def test_a_wav_is_a_question_as_argument_or_piped(serving, question):
    async with serving(VOICE) as server:
        given = await talk(server.url, question)
        piped = await talk(server.url, stdin=question.read_bytes())
    for done in (given, piped):
        assert done.returncode == 0
        assert done.stdout == b"You said 1600 at 16000 Hz in 1.\n"
        assert b"heard: a question" in done.stderr
        assert b"\x1b" not in done.stderr


async def test_the_timeline_has_a_lane_for_each_stage_and_the_figures(serving):
    async with serving(VOICE) as server:
        done = await talk(server.url, stdin=b"hello\n")
    lines = done.stderr.decode().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["0", "fake_llm", "fake_tts"]
    assert "*" in lines[1]
    assert ". waits  = works" in lines[3]
    assert lines[4].startswith("first text 0.")
    assert "of sound, done after" in lines[4]


async def test_the_sound_of_each_answer_is_saved(serving, tmp_path):
    async with serving(VOICE) as server:
        done = await talk(server.url, "--save", tmp_path / "answer.wav", stdin=b"a\nbc\n")
    first, second = Audio.from_wav(tmp_path / "answer.wav"), Audio.from_wav(tmp_path / "answer-2.wav")
    assert (first.rate_hz, first.duration_s) == (24_000, pytest.approx(0.5, abs=0.1))
    assert second.duration_s == pytest.approx(first.duration_s + 0.05)
    assert done.stderr.decode().count("saved: ") == 2


async def test_an_error_names_its_stage_and_the_exit_code_is_1(serving):
    async with serving(FakeLLM().shown() >> Failing("no more")) as server:
        done = await talk(server.url, stdin=b"hello\n")
    assert b"error in failing: RuntimeError: no more" in done.stderr
    assert b"error after 0." in done.stderr
    assert done.returncode == 1


async def test_what_is_refused_or_not_there_exits_with_1_and_says_why(serving):
    async with serving(VOICE, tokens=(f"{TOKEN} ann",)) as server:
        refused = await talk(server.url, stdin=b"hello\n")
        assert b"a token is needed" in refused.stderr
        wrong = await talk(server.url, "--user", "bob", stdin=b"hello\n", EZFLOW_TOKEN=TOKEN)
        assert b"does not stand for user 'bob'" in wrong.stderr
        entry = await talk(server.url, "--user", "ann", "--entry", "nowhere", stdin=b"hello\n", EZFLOW_TOKEN=TOKEN)
        assert b"Entry nowhere does not exist" in entry.stderr
    gone = await talk(server.url, stdin=b"hello\n")
    assert b"Is `ezflow serve` running there?" in gone.stderr
    for done in (refused, wrong, entry, gone):
        assert done.returncode == 1
        assert done.stdout == b""
        assert b"Traceback" not in done.stderr
        assert TOKEN.encode() not in done.stderr


async def test_a_token_comes_from_a_file_or_the_environment(serving, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"# mine\n\n{TOKEN} ann\n")
    async with serving(FakeLLM(), tokens=(f"{TOKEN} ann",)) as server:
        from_file = await talk(server.url, "--user", "ann", "--token-file", file, stdin=b"hello\n")
        from_environment = await talk(server.url, "--user", "ann", stdin=b"hello\n", EZFLOW_TOKEN=TOKEN)
    for done in (from_file, from_environment):
        assert (done.returncode, done.stdout) == (0, b"You said hello.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:3421"], "a server's URL is needed"),
        (["http://a:secret@127.0.0.1"], "a token goes to"),
        (["http://127.0.0.1", "--options", "[]"], "a JSON object is needed"),
        (["http://127.0.0.1", "--options", "{"], "not JSON"),
        (["http://127.0.0.1", "--token-file", "nowhere"], "cannot be read"),
        (["http://127.0.0.1", "--token-file", os.devnull], "holds no token"),
        (["http://127.0.0.1", "--user", ""], "a user's name"),
        (["http://127.0.0.1", __file__], "not a WAV of PCM samples"),
        ([], "URL"),
    ],
)
async def test_a_wrong_command_line_exits_with_2_and_says_what_is_needed(arguments, said):
    done = await talk(*arguments)
    assert said in done.stderr.decode()
    assert "secret" not in done.stderr.decode()
    assert done.returncode == 2


async def test_a_question_that_no_stage_takes_is_refused_before_it_is_sent(serving, question):
    async with serving(FakeLLM()) as server:
        done = await talk(server.url, question)
    assert b"no stage of fake_llm takes sound" in done.stderr
    assert done.returncode == 2


@module
class Sums(Module[list[int], int]):
    async def process(self, numbers: list[int], turn: Turn) -> int:
        await turn.reply(Progress("adding"))
        return sum(numbers)


async def test_a_line_is_json_for_a_stage_that_takes_json(serving):
    async with serving(Sums()) as server:
        done = await talk(server.url, "--no-timeline", stdin=b"[1, 2]\n")
        words = await talk(server.url, stdin=b"one, two\n")
    assert (done.stdout, done.stderr) == (b"3\n", b"sums: adding\n")
    assert b"input: 'one, two' was given, but a list" in words.stderr
    assert words.returncode == 1


@module
class Pauses(Module[str, str]):
    """Says a word in two pieces, and in between what it is doing."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield "extra"
        await turn.reply(Progress("looking it up"))
        yield "ordinary"


async def test_a_note_in_mid_word_leaves_a_piped_answer_whole(serving):
    async with serving(Pauses()) as server:
        done = await talk(server.url, "--no-timeline", stdin=b"x\n")
    assert (done.stdout, done.stderr) == (b"extraordinary\n", b"pauses: looking it up\n")


async def test_sound_that_no_folder_can_hold_is_refused_before_anything_is_asked(tmp_path):
    for path in (tmp_path / "nowhere" / "a.wav", tmp_path):
        done = await talk("http://127.0.0.1:1", "--save", path, stdin=b"x\n")
        assert b"cannot be written" in done.stderr
        assert b"Exception ignored" not in done.stderr
        assert done.returncode == 2


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"stages": 5}', b'{"stages": [{"name": "x"}]}', b'{"stages": ["x"]}'])
async def test_a_server_that_does_not_say_what_its_flow_is_is_an_error(body):
    async with answering(answer(body), then=trio.SocketStream.aclose) as url:
        done = await talk(url, stdin=b"x\n")
    assert b"ezflow: " in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


async def test_a_refusal_does_not_steer_the_terminal():
    body = json.dumps({"error": "E", "message": "\x1b]0;owned\x07\x1b[2J"}).encode()
    async with answering(answer(body, b"403 No"), then=trio.SocketStream.aclose) as url:
        done = await talk(url, stdin=b"x\n")
    assert done.stderr == b"ezflow: E (403): ]0;owned[2J\n"


async def test_options_and_entry_reach_the_server(serving):
    async with serving(FakeLLM() >> FakeLLM(reply="{}?")) as server:
        done = await talk(server.url, "--entry", "1", "--no-timeline", stdin=b"hm\n")
        assert done.stdout == b"hm?\n"
        refused = await talk(server.url, "--options", '{"x": {}}', stdin=b"hm\n")
        assert b"options.x: no stage answers to it" in refused.stderr


async def test_a_flow_that_listens_live_answers_one_question_too(serving):
    async with serving({"voice": VOICE, "live": Latest(VOICE)}) as server:
        done = await talk(f"{server.url}/live", stdin=b"hello\n")
    assert done.stdout == b"You said hello.\n"


async def test_a_reader_that_leaves_ends_it_quietly(serving):
    async with serving(FakeLLM(reply="word " * 50_000)) as server:
        command = f"{sys.executable} -m ezflow talk {server.url} | head -c 10"
        done = await trio.run_process(["sh", "-c", command], stdin=b"x\n", capture_stdout=True, capture_stderr=True)
    assert done.stdout == b"word word "
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@asynccontextmanager
async def talking(url: str, **streams: int) -> AsyncIterator[trio.Process]:
    """A conversation whose lines are piped."""
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = await trio.lowlevel.open_process([sys.executable, "-m", "ezflow", "talk", url], **given)
    try:
        with trio.fail_after(20):
            yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


posix_signals = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


@posix_signals
async def test_ctrl_c_that_ends_the_only_turn_exits_with_130(serving):
    async with serving(Talks(Seen())) as server, talking(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send_all(b"hello\n")
        await process.stdin.aclose()
        assert await process.stdout.receive_some() == b"hello "
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


@posix_signals
async def test_ctrl_c_after_the_reader_has_left_ends_it_quietly(serving):
    reader, writer = os.pipe()
    async with serving(Talks(Seen())) as server, talking(server.url, stdout=writer) as process:
        os.close(writer)
        assert process.stdin is not None
        assert process.stderr is not None
        await process.stdin.send_all(b"hello\n")
        assert await trio.to_thread.run_sync(os.read, reader, 6) == b"hello "
        os.close(reader)
        process.send_signal(signal.SIGINT)
        errors = b"".join([piece async for piece in process.stderr])
        assert await process.wait() == 1
    assert b"Traceback" not in errors


@posix_signals
async def test_ctrl_c_before_the_server_has_begun_the_turn_gives_it_up():
    asked, left = trio.Event(), trio.Event()

    async def hesitates(stream: trio.SocketStream) -> None:
        request = await stream.receive_some()
        if request.startswith(b"GET"):
            await stream.send_all(answer(b'{"stages": [{"index": 0, "name": "x", "takes": "text"}]}'))
            return
        asked.set()
        while await stream.receive_some():
            pass
        left.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hesitates, 0)
        async with talking(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as process:
            assert process.stdin is not None
            await process.stdin.send_all(b"hello\n")
            await asked.wait()
            process.send_signal(signal.SIGINT)
            await left.wait()
            await process.stdin.aclose()
            assert await process.wait() == 130
        nursery.cancel_scope.cancel()


def talking_at_terminal(*arguments: object) -> AbstractAsyncContextManager[Terminal]:
    return terminal(sys.executable, "-m", "ezflow", "talk", *arguments)


@module
class Lingers(Module[str, str]):
    """Takes its time to leave."""

    seen: Seen

    async def process(self, text: str, turn: Turn) -> str:
        try:
            await turn.reply("begun ")
            await trio.sleep_forever()
        finally:
            with turn.cleanup():
                await self.seen.left.wait()
        return text


@needs_a_terminal
async def test_at_a_terminal_ctrl_c_interrupts_the_answer_and_ctrl_d_leaves(serving):
    async with serving({"voice": Talks(Seen())}) as server, talking_at_terminal(server.url) as person:
        assert "talks. Ctrl+C interrupts" in await person.until("> ")
        await person.type("hello\n")
        await person.until("hello\r\n")
        await person.until("hello ")
        await person.type("\x03")
        assert "the turn ended: interrupted" in await person.until("> ")
        await person.type("again\n")
        await person.until("again\r\n")
        await person.until("again ")
        await person.type("\x03")
        assert "interrupted after" in await person.until("> ")
        await person.type("\x04")
        assert await person.left() == 0


@needs_a_terminal
async def test_at_a_terminal_a_second_ctrl_c_leaves_and_so_does_one_at_the_prompt(serving):
    seen = Seen()
    async with serving(Lingers(seen)) as server:
        async with talking_at_terminal(server.url) as person:
            await person.until("> ")
            await person.type("hello\n")
            await person.until("begun")
            await person.type("\x03")
            await person.until("Ctrl+C again leaves")
            await person.type("\x03")
            assert await person.left() == 130
        seen.left.set()
        async with talking_at_terminal(server.url) as person:
            await person.until("> ")
            await person.type("\x03")
            assert await person.left() == 130


@needs_a_terminal
async def test_at_a_terminal_what_is_understood_so_far_is_written_over(serving, question):
    async with serving(VOICE) as server, talking_at_terminal(server.url, question) as person:
        shown = await person.until("done after")
        assert "... a\r\x1b[2Kheard: a question\r\n" in shown
        assert await person.left() == 0


@module
class HearsChinese(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        await turn.reply(Transcript("今天天气很好\n我们一起去公园散步吧" * 5 + "了", final=False))
        await turn.reply(Transcript("完"))
        return "ok"


@needs_a_terminal
async def test_at_a_terminal_what_is_understood_so_far_fits_into_one_line(serving, question):
    async with serving(HearsChinese()) as server, talking_at_terminal(server.url, question) as person:
        partial = (await person.until("\r\x1b[2K")).removesuffix("\r\x1b[2K")
        assert partial.startswith("... ")
        assert partial.endswith("公园散步吧了")
        assert 74 <= len(partial.encode("gb18030")) <= 79  # a byte for a narrow character, two for a wide one
        await person.until("heard: 完")


@needs_a_terminal
async def test_a_models_text_does_not_steer_the_terminal(serving):
    async with serving(FakeLLM(reply="\x1b[2Jboo\x07").shown()) as server, talking_at_terminal(server.url) as person:
        await person.until("> ")
        await person.type("hello\n")
        shown = await person.until("done after")
        assert "[2Jboo" in shown
        assert "\x1b" not in shown
        assert "\x07" not in shown


@needs_a_terminal
async def test_at_a_terminal_a_refusal_does_not_end_the_conversation(serving):
    async with serving(FakeLLM(), rate_per_s=0.001, rate_burst=1) as server, talking_at_terminal(server.url) as person:
        await person.until("> ")
        await person.type("one\n")
        await person.until("> ")
        await person.type("two\n")
        assert "asks too often" in await person.until("> ")
        await person.type("\x04")
        assert await person.left() == 0


def stage(t: float, name: str, state: str) -> Event:
    return Event(type="stage", turn=1, seq=0, t=t, stage=name, item=state)


def test_a_lane_shows_what_a_stage_did_when():
    chart = Chart()
    for event in (
        stage(0.0, "llm", "waiting"),
        stage(0.0, "tts", "waiting"),
        stage(2.0, "llm", "working"),
        stage(4.0, "llm", "first"),
        stage(4.0, "tts", "working"),
        stage(6.0, "llm", "blocked"),
        stage(8.0, "llm", "done"),
        Event(type="interrupted", turn=1, seq=1, t=9.0, run=1),
        Event(type="turn.ended", turn=1, seq=2, t=10.0, reason="done"),
    ):
        chart.take(event)
    assert list(chart.lines(["asr", "llm", "tts"], 24)) == [
        "    0 s          10.00 s",
        "llm ....====*===####| !",
        "tts ........==========!=",
        "    . waits  = works  * first output  # waits for room  | done  x failed  ! interrupted",
        "done after 10.00 s",
    ]


def test_a_turn_without_stages_has_its_figures_alone():
    chart = Chart()
    assert list(chart.lines(["llm"], 80)) == ["broken off after 0.00 s"]


def test_sound_of_another_stage_or_rate_has_a_file_of_its_own(tmp_path):
    recording = Recording(tmp_path / "a.wav")
    for turn in range(2):
        for name, rate_hz in (("tts", 8000), ("other", 8000), ("tts", 24_000), ("tts", 8000)):
            sound = Audio(bytes(2 * (turn + 1)), rate_hz)
            recording.take(Event(type="audio", turn=1, seq=0, t=0.0, stage=name, item=sound))
        recording.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-2-other-8000.wav",
        "a-2-tts-24000.wav",
        "a-2.wav",
        "a-other-8000.wav",
        "a-tts-24000.wav",
        "a.wav",
    ]
    assert Audio.from_wav(tmp_path / "a-2.wav").samples == 4
    assert recording.end() == []
