"""`ezflow run`: what it is given, its output, files and exit code; as a process where signals and readers matter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from programs import EXAMPLES

from ezflow import Audio
from ezflow.cli import main

FLOWS = Path(__file__).parent / "run_flows.py"
posix_signals = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ezflow", "run", *map(str, arguments)]


@attrs.frozen
class Done:
    returncode: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Done]:
    """`run(*arguments)`: the command, in this process."""

    def run(*arguments: object, stdin: bytes = b"", target: Path = FLOWS) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main(["run", str(target), *map(str, arguments)])
        return Done(int(ended.value.code or 0), *capsysbinary.readouterr())

    return run


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    path.write_bytes(Audio(bytes(3200), 16_000).to_wav())
    return path


def test_the_reply_alone_goes_to_standard_output_and_what_each_stage_did_to_standard_error(run):
    done = run("--input", "hello")
    assert done.returncode == 0
    assert done.stdout == b"You said hello.\n"
    said = re.sub(r"\d+\.\d\d s", "_", done.stderr.decode())
    assert re.sub(" +", " ", said).splitlines() == [
        "the file prints",
        "voice: hears -> fake_llm -> fake_tts, from fake_llm on",
        " _ fake_llm: working",
        " _ fake_llm: first output",
        " _ fake_tts: working",
        " _ fake_tts: first output",
        "STAGE STATE IN OUT FIRST OUTPUT WORKED",
        "fake_llm done 1 3 _ _",
        "fake_tts done 3 3 _ _",
        "first text _, first sound _, _ of sound, done after _",
        "the sound was not kept: --save FILE.wav keeps it",
    ]


def test_text_comes_from_the_command_line_or_whole_from_standard_input(run):
    for done in (run("--input", "a\nb"), run("--input", "-", stdin=b"a\nb\n"), run(stdin=b"a\nb\r\n")):
        assert done.stdout == b"You said a\nb.\n"


def test_sound_comes_from_a_wav_or_from_standard_input(run, question):
    for done in (run("--input", question), run(stdin=question.read_bytes())):
        assert done.stdout == b"You said 1600 samples.\n"
        assert b"heard: a question\n" in done.stderr


def test_what_comes_before_the_entry_is_not_opened(run, question):
    assert b"hears opens\n" in run("--input", question).stderr
    assert b"hears opens" not in run("--input", "hello").stderr
    by_name = run("--input", "hello", "--entry", "fake_tts", "--json")
    by_index = run("--input", "hello", "--entry", 2, "--json")
    for done in (by_name, by_index):
        assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == [
            "turn.started",
            "audio",
            "turn.ended",
        ]


def test_json_is_for_a_stage_that_takes_neither_text_nor_sound(run):
    done = run("--flow", "sums", "--input", "[1, 2]")
    assert (done.returncode, done.stdout) == (0, b"3\n")
    assert b"sums: adding\n" in done.stderr
    assert run("--flow", "summary", "--input", "[1, 2]").stdout == b"You said a sum of 3.\n"
    assert run("--flow", "summary", "--input", "12").stdout == b"You said 12.\n"  # a text stage is there for it
    refused = run("--flow", "sums", "--input", '["one"]')
    assert refused.returncode == 2
    assert b"ezflow: input[0]: 'one' was given, but int is needed\n" in refused.stderr


def test_of_several_flows_the_first_is_run_or_the_one_that_is_named(run):
    named = run("--flow", "counts", "--input", "hello")
    assert named.stdout == b"0 before\n"
    assert b"counts: fake_llm\n" in named.stderr
    by_target = run("--input", "hello", target=Path(f"{FLOWS}:voice"))
    assert by_target.stdout == b"You said hello.\n"
    assert b"flow: hears -> fake_llm -> fake_tts, from fake_llm on\n" in by_target.stderr


def test_a_flow_that_listens_live_is_asked_one_question_too(run):
    assert run("--flow", "live", "--input", "hello").stdout == b"You said hello.\n"


def test_options_reach_the_stages_also_those_that_are_not_asked(run):
    quiet = run("--flow", "mannered", "--input", "hello")
    loud = run("--flow", "mannered", "--input", "hello", "--options", '{"mannered": {"loud": true}}')
    assert (quiet.stdout, loud.stdout) == (b"hello\n", b"HELLO\n")
    before = run("--flow", "waits", "--entry", 1, "--timeout", 0.1, "--options", '{"mannered": {}}', "--input", "x")
    assert before.stdout == b"hello \n"


def test_the_file_takes_its_values_from_the_command_line(run):
    assert run("--flow", "settable", "--input", "x", "--set", "REPLY=hi").stdout == b"hi\n"


def test_the_sound_is_saved(run, tmp_path):
    path = tmp_path / "answer.wav"
    done = run("--input", "hello", "--save", path)
    assert Audio.from_wav(path).duration_s == pytest.approx(0.05 * len("You said hello."))
    assert f"saved: {path}\n".encode() in done.stderr
    assert b"not kept" not in done.stderr


def test_the_turns_events_are_lines_of_json(run):
    done = run("--input", "hello", "--json", "--no-progress")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert "".join(event["text"] for event in events if event["type"] == "text") == "You said hello."
    assert events[-1]["reason"] == "done"
    with_states = run("--input", "hello", "--json", "--timeline")
    states = [json.loads(line) for line in with_states.stdout.splitlines()]
    assert {"type": "stage", "stage": "fake_tts", "state": "done"}.items() <= [
        event for event in states if event.get("stage") == "fake_tts"
    ][-1].items()


def test_the_timeline_is_drawn_at_the_end_and_has_the_figures_once(run):
    lines = run("--input", "hello", "--timeline").stderr.decode().splitlines()
    assert any(line.startswith("fake_llm") and "*" in line for line in lines)
    assert [line for line in lines if "done after" in line] == [lines[-2]]


def test_without_progress_only_what_modules_say_is_on_standard_error(run):
    done = run("--flow", "counts", "--input", "hello", "--no-progress")
    assert (done.stdout, done.stderr) == (b"0 before\n", b"the file prints\n")


def test_what_a_module_prints_and_logs_is_not_the_reply(run):
    done = run("--flow", "prints", "--input", "hello")
    assert done.stdout == b"hello\n"
    assert b"printed half and whole\n" in done.stderr
    assert b"warned [mine]" in done.stderr


def test_a_conversation_goes_on_where_there_is_a_store(run, tmp_path):
    store = f"sqlite:///{tmp_path / 'history.db'}"
    asked = ("--flow", "counts", "--input", "x", "--store", store)
    replies = [run(*asked, "--user", user).stdout for user in ("ann", "ann", "bob")]
    assert replies == [b"0 before\n", b"2 before\n", b"0 before\n"]


def test_an_error_is_the_last_line_and_names_its_stage(run):
    done = run("--flow", "failing", "--input", "hello")
    assert done.returncode == 1
    assert done.stdout.startswith(b"You")
    lines = done.stderr.decode().splitlines()
    assert lines[-1] == "error in failing: RuntimeError: no more"
    assert any(re.match(r"failing +failed +1 +0 +- ", line) for line in lines)
    assert any(line.startswith("Traceback") for line in lines)  # it is a mistake in the module


def test_an_error_that_had_to_be_expected_is_told_once(run):
    done = run("--flow", "remote", "--input", "hello")
    assert done.returncode == 1
    assert done.stderr.decode().count("does not answer") == 1
    assert done.stderr.decode().splitlines()[-1].startswith("error in remote: NotThere: http://127.0.0.1:11434")


def test_a_turn_that_takes_too_long_ends_and_says_who_was_at_work(run):
    done = run("--flow", "waits", "--input", "hello", "--timeout", 0.2)
    assert done.returncode == 1
    assert done.stdout == b"hello \n"
    assert done.stderr.decode().splitlines()[-1] == "error: no end within 0.2 s: waits was working"
    assert b"waits closes\n" in done.stderr


def test_a_faulty_flow_is_reported_and_nothing_is_opened(run):
    done = run("--input", "hello", target=Path(f"{FLOWS}:wrong"))
    assert done.returncode == 1
    assert "❌" in done.stderr.decode()
    assert b"FakeTTS gives Audio, but FakeLLM takes str" in done.stderr


def test_a_module_that_cannot_be_opened_is_named(run):
    done = run("--flow", "cannot_open", "--input", "hello")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines()[-1] == "ezflow: CannotOpen could not open: ValueError: no weights"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flow", "nothing"], "has no flow 'nothing'; its flows: voice, live"),
        (["--entry", "nowhere"], "Entry nowhere does not exist"),
        (["--entry", "7"], "Entry 7 does not exist"),
        (["--options", '{"nobody": {}}'], "options.nobody: no stage answers to it"),
        (["--options", "{"], "not JSON"),
        (["--input", "nowhere.wav"], "nowhere.wav cannot be read"),
        (["--save", "/nowhere/a.wav"], "cannot be written"),
        (["--timeout", "0"], "more than 0 is needed"),
        (["--timeout", "nan"], "more than 0 is needed"),
        (["--store", "postgres://"], "store"),
        (["--entry", "hears", "--input", "no base64"], "input: "),
        (["--flow", "sums", "--input", "[1,"], "sums takes JSON, and this is none: [1,"),
        (["--input", "-"], "standard input is empty"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_says_what_is_needed(run, arguments, said):
    done = run(*(["--input", "hello"] if "--input" not in arguments else []), *arguments)
    assert said in done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


def test_sound_for_a_flow_that_takes_none_and_a_wav_that_is_none_are_refused(run, question, tmp_path):
    none = run("--flow", "counts", "--input", question)
    broken = tmp_path / "broken.WAV"
    broken.write_bytes(b"RIFF but no more")
    for done, said in (
        (none, b"no stage of fake_llm takes sound"),
        (run("--input", broken), b"not a WAV of PCM samples"),
        (run(stdin=broken.read_bytes()), b"standard input: not a WAV"),
    ):
        assert said in done.stderr
        assert done.returncode == 2


def test_a_reader_that_leaves_ends_it_quietly():
    line = " ".join(command(FLOWS, "--flow", "long", "--input", "x"))
    done = subprocess.run(["sh", "-c", f"{line} | head -c 10"], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"word word "
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@contextmanager
def running(flow: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """A run that is under way, and the lines of all that it says."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command(FLOWS, "--flow", flow, "--input", "x"), text=True, **streams) as process:
        try:
            assert process.stdout is not None
            yield process, iter(process.stdout)
        finally:
            process.kill()


@posix_signals
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_the_turn_and_releases_the_modules(how, code):
    with running("waits") as (process, lines):
        assert any("waits: first output" in line for line in lines)
        process.send_signal(how)
        said = "".join(lines)
        assert process.wait(10) == code
    assert said.index("interrupting") < said.index("the turn ended: interrupted") < said.index("waits closes")
    assert re.search(r"^waits +stopped +1 +1 ", said, re.MULTILINE)
    assert "Traceback" not in said


@posix_signals
def test_a_signal_while_modules_are_opened_releases_them():
    with running("opens_slowly") as (process, lines):
        assert any("waits opens" in line for line in lines)
        process.send_signal(signal.SIGINT)
        said = "".join(lines)
        assert process.wait(10) == 130
    assert "waits closes" in said
    assert "STAGE" not in said


@posix_signals
@pytest.mark.parametrize(("flow", "sign"), [("stubborn", "working"), ("closes_slowly", "waits: working")])
def test_a_second_signal_ends_it_at_once(flow, sign):
    with running(flow) as (process, lines):
        assert any(sign in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert any("again stops at once" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


@posix_signals
def test_a_second_signal_ends_it_though_a_module_holds_up_the_loop():
    with running("blocks") as (process, lines):
        assert any(line == "blocking\n" for line in lines)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:  # of two at once the system tells one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        assert process.returncode == -signal.SIGINT


def test_an_example_is_run(run):
    done = run("--input", "I am so happy! But it is gone.", "--json", target=EXAMPLES / "custom_event.py")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["data"]["face"] for event in events if event["type"] == "mood"] == ["glad", "sad"]
    assert done.returncode == 0


@pytest.mark.model
def test_the_voice_example_answers_in_words_and_sound(tmp_path):
    spoken = tmp_path / "question.wav"
    asked = command(EXAMPLES / "voice.py", "--entry", "hibari", "--input", "How many legs does a spider have?")
    done = subprocess.run([*asked, "--save", spoken], capture_output=True, check=True, timeout=120)
    assert done.stdout == b""
    heard = command(f"{EXAMPLES / 'voice.py'}:flow", "--input", spoken, "--json", "--no-progress")
    done = subprocess.run(heard, capture_output=True, check=True, timeout=120)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "spider" in next(event["text"] for event in events if event["type"] == "transcript").lower()
    assert {"text", "audio"} <= {event["type"] for event in events}
