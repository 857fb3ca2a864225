"""The Unity client in C#, compiled with mono's `mcs` and run on mono; what needs Unity is compiled against stubs.

The checks that need no server are written in C# (examples/clients/unity/Harness); here they are run, and the client
meets servers: one in this process, whose side of it can be looked at, and such as answer badly.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import scenario
import trio
from trio.testing import wait_all_tasks_blocked

from ezflow import Audio, Latest, Module, Transcript, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run
from ezflow.testing import Failing, FakeTTS

CLIENT = Path(__file__).parents[2] / "examples" / "clients" / "unity"
STUBS = Path(__file__).with_name("unity_stubs.cs")
HTTP = "System.Net.Http"
WITHIN_S = 60
CHECK = re.compile(r"\[Check\]\s+private static (?:void|async Task) (\w+)\((string url)?\)")
PACKAGES = "apt-get install --no-install-recommends mono-mcs mono-runtime libmono-system-net-http4.0-cil"


def has_mono() -> bool:
    library = Path("/usr/lib/mono/4.5", f"{HTTP}.dll")
    return bool(shutil.which("mcs") and shutil.which("mono") and (library.exists() or not library.parent.exists()))


pytestmark = pytest.mark.skipif(not has_mono(), reason=f"THE UNITY CLIENT IS NOT TESTED: no mono; {PACKAGES}")


def checks(*, with_server: bool) -> list[str]:
    found = [check for source in sorted(CLIENT.glob("Harness/*.cs")) for check in CHECK.findall(source.read_text())]
    return [name for name, url in found if bool(url) == with_server]


def compiled(out: Path, *sources: Path, references: tuple[str, ...] = (HTTP,), options: tuple[str, ...] = ()) -> Path:
    kind = "library" if out.suffix == ".dll" else "exe"
    command = ["mcs", "-langversion:7.2", "-warnaserror", f"-target:{kind}", f"-out:{out}", *options]
    command += [f"-r:{reference}" for reference in references]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def sources(folder: str) -> list[Path]:
    return sorted((CLIENT / folder).glob("*.cs"))


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The client as a library, and the programs that test it."""
    folder = tmp_path_factory.mktemp("unity")
    library = compiled(folder / "Ezflow.dll", *sources("Runtime"))
    harness = CLIENT / "Harness"
    # With the library alone: the scenario uses nothing but what the library shows.
    compiled(folder / "Scenario.exe", harness / "Scenario.cs", harness / "Reply.cs", references=(str(library),))
    for program in ("Checks", "Drive"):
        main = f"-main:Ezflow.Harness.{program}"
        compiled(folder / f"{program}.exe", *sources("Runtime"), *sources("Harness"), options=(main,))
    return folder


def test_what_only_unity_compiles_fits_the_stubs_of_unity(built, tmp_path):
    legacy_input = ("-d:ENABLE_LEGACY_INPUT_MANAGER", "-nowarn:649")  # the inspector sets fields that code does not
    for number, options in enumerate([legacy_input, ("-nowarn:649,414",)]):
        library = (str(built / "Ezflow.dll"),)
        compiled(tmp_path / f"{number}.dll", *sources("Unity"), STUBS, references=library, options=options)


def test_the_pages_component_fits_client_and_stubs(built, tmp_path):
    (block,) = re.findall(r"```csharp\n(.*?)```", (CLIENT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    component = tmp_path / "Question.cs"
    component.write_text(block, encoding="utf-8")
    library = (str(built / "Ezflow.dll"),)
    used = [*sources("Unity"), STUBS, component]
    compiled(tmp_path / "Question.dll", *used, references=library, options=("-nowarn:649,414",))


def test_the_package_and_its_assemblies_are_json_and_fit_one_another():
    package = json.loads((CLIENT / "package.json").read_text())
    assert re.fullmatch(r"[a-z0-9.-]+", package["name"])
    assemblies = {path.parent.name: json.loads(path.read_text()) for path in CLIENT.glob("*/*.asmdef")}
    assert assemblies.keys() == {"Runtime", "Unity", "Harness"}
    names = {assembly["name"] for assembly in assemblies.values()}
    assert all(set(assembly.get("references", [])) <= names for assembly in assemblies.values())
    assert assemblies["Harness"]["defineConstraints"], "it has a Main of its own: Unity must not compile it"


@pytest.mark.model
def test_the_unity_client_passes_the_scenario(built, voice_url, tmp_path):
    question = scenario.write_question(tmp_path / "question.wav")
    scenario.perform(["mono", str(built / "Scenario.exe")], voice_url, question)


@pytest.mark.parametrize("name", checks(with_server=False))
def test_check(name, built):
    done = subprocess.run(["mono", built / "Checks.exe", name], capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stderr


class Witness:
    """What the modules of a server saw."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.cancelled = trio.Event()
        self.left = trio.Event()
        self.produced = 0
        self.remembered: list[tuple[str, bool]] = []


witness = Witness()


@pytest.fixture(autouse=True)
def _witness():
    global witness
    witness = Witness()


@module
class Counts(Module[Audio, str]):
    """Understands of a sound how many bytes it has."""

    async def process(self, sound: Audio, turn: Turn) -> str:
        text = f"{len(sound.pcm)} bytes"
        await turn.reply(Transcript(text))
        return text


@module
class Model(Module[str, str]):
    """Says a word at a time what it was told; then, if that was to go on, nothing more for ever."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        witness.remembered = [(message.content, message.cut) for message in turn.history.messages]
        turn.remember(text)
        try:
            for place, word in enumerate(f"You said {text}.".split(" ")):
                yield f" {word}" if place else word
            if "ten" in text:
                await trio.sleep_forever()
        except trio.Cancelled:
            witness.cancelled.set()
            raise


@module
class Gated(Module[str, str]):
    """Gives one text at once, and one when the gate is open."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        try:
            yield "你好"
            await witness.gate.wait()
            yield text
        except trio.Cancelled:
            witness.cancelled.set()
            raise


@module
class Flood(Module[str, str]):
    """Gives four kilobytes of text so many times; then, if it is told to wait, nothing more until the gate is open."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        count, _, then = text.partition(" ")
        try:
            for number in range(int(count)):
                witness.produced = number + 1
                yield f"{number:4096}"
            if then:
                await witness.gate.wait()
        finally:
            witness.left.set()


live = Latest(Counts() >> Model().shown() >> FakeTTS())


@asynccontextmanager
async def serving(flows: Any, **settings: Any) -> AsyncIterator[tuple[str, trio.Event]]:
    """A server in this process: its URL, and the event that ends it."""
    stop = trio.Event()
    chosen = Settings(port=0, grace_s=0.2, **settings)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(run, flows, chosen, say=lambda _: None, stop=stop))
        with trio.fail_after(WITHIN_S):
            yield url, stop
        stop.set()


@asynccontextmanager
async def answering(answer: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that is none of ezflow's: it reads a request and answers as it is told."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await answer(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        with trio.fail_after(WITHIN_S):
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


class Driven:
    """The client, as Drive.exe does what it is told and says what comes of it."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def do(self, what: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"do": what, **fields}).encode() + b"\n")

    async def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            piece = await self._process.stdout.receive_some()
            assert piece, f"it ended, after {self._rest!r}"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """The next line that holds these fields."""
        while True:
            line = await self.line()
            if wanted.items() <= line.items():
                return line

    async def end(self) -> list[dict[str, Any]]:
        """All lines up to the end of the turn."""
        lines = [await self.line()]
        while "over" not in lines[-1]:
            lines.append(await self.line())
        return lines


@asynccontextmanager
async def driven(built: Path, url: str, *more: str) -> AsyncIterator[Driven]:
    command = ["mono", str(built / "Drive.exe"), url, "ann", *more]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Driven(process)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    await end.aclose()


async def failure(built: Path, url: str, what: str = "ask", *more: str, **fields: Any) -> Mapping[str, Any]:
    """How a turn is over that is asked for so."""
    async with driven(built, url, *more) as client:
        await client.do(what, **({"input": "hello"} if what == "ask" else {}) | fields)
        return (await client.end())[-1]


@pytest.mark.parametrize("name", checks(with_server=True))
async def test_conversation_check(name, built, dead_port):
    async with serving(live) as (url, _):
        if name.startswith("AServerThatIsNotThere"):
            url = f"http://127.0.0.1:{dead_port}"
        command = ["mono", str(built / "Checks.exe"), name, url]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    if name.startswith("InterruptSilences"):
        said, cut = witness.remembered[-1]
        assert (said.split()[:2], cut) == (["You", "said"], True)
        assert "four" not in said, "the history holds what was heard, and no more"


@pytest.fixture
def dead_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("how", ["ask", "live"])
async def test_an_event_arrives_while_later_ones_are_still_to_come(how, built):
    async with serving(Gated()) as (url, _), driven(built, url) as client:
        await client.do(how, input="after")
        if how == "live":
            await client.do("input", input="after")
            await client.do("end")
        first = await client.until(type="text")
        assert first["text"] == "你好"
        witness.gate.set()
        assert (await client.until(type="text"))["text"] == "after"
        assert (await client.end())[-1]["reason"] == "done"


@pytest.mark.parametrize("how", ["ask", "live"])
async def test_cancelling_ends_the_turn_on_the_server_at_once(how, built):
    async with serving(Gated()) as (url, _), driven(built, url) as client:
        await client.do(how, input="never")
        if how == "live":
            await client.do("input", input="never")
        await client.until(type="text")
        await client.do("cancel")
        with trio.fail_after(1.5):  # a response that is disposed of alone is read on for two seconds
            await witness.cancelled.wait()
        over = (await client.end())[-1]
        assert (over["reason"], over["failure"]) == (None, None)


async def held(client: Driven) -> int:
    """How many texts wait in the client."""
    await client.do("count")
    return int((await client.line())["texts"])


@pytest.mark.parametrize("how", ["ask", "live"])
async def test_a_slow_consumer_holds_up_the_turn_and_loses_nothing(how, built):
    total = 5_000  # more than the sockets of both sides hold
    async with serving(Flood()) as (url, _), driven(built, url) as client:
        await client.do(how, input=str(total), hold=True)
        if how == "live":
            await client.do("input", input=str(total))
            await client.do("end")
        while await held(client) < 256:
            pass
        await wait_all_tasks_blocked(0.05)
        assert witness.produced < total
        assert await held(client) == 256
        await client.do("take")
        *events, over = await client.end()
        assert [int(event["text"]) for event in events] == list(range(total))
        assert over["reason"] == "done"


@pytest.mark.parametrize("how", ["ask", "live"])
@pytest.mark.parametrize("asked", ["250000", "300 wait"], ids=["sending on", "silent"])
async def test_cancelling_a_turn_whose_queues_are_full_ends_it_on_the_server(asked, how, built):
    async with serving(Flood()) as (url, _), driven(built, url) as client:
        await client.do(how, input=asked, hold=True)
        if how == "live":
            await client.do("input", input=asked)
        while await held(client) < 256:
            pass
        await wait_all_tasks_blocked(0.05)
        await client.do("cancel")
        with trio.fail_after(1.5):
            await witness.left.wait()
        assert witness.produced < 250_000


async def test_interrupting_a_live_turn_ends_the_run_and_not_the_turn(built):
    async with serving(live) as (url, _), driven(built, url) as client:
        await client.do("live")
        await client.do("input", input="ten", entry="model")
        await client.until(type="audio")
        await client.do("interrupt")
        assert (await client.until(type="interrupted"))["run"] == 1
        assert witness.cancelled.is_set()
        await client.do("input", input="more", entry="model")
        await client.do("end")
        lines = await client.end()
        assert {line["run"] for line in lines if "run" in line} == {2}
        assert "".join(line["text"] for line in lines if line.get("type") == "text") == "You said more."


async def test_sound_is_sent_as_binary_frames_and_transcripts_come_back(built):
    async with serving(live) as (url, _), driven(built, url) as client:
        await client.do("live")
        await client.do("sound", bytes=640)
        await client.do("end")
        lines = await client.end()
        assert [line["text"] for line in lines if line.get("type") == "transcript"] == ["640 bytes"]
        assert sum(line["ms"] for line in lines if line.get("type") == "audio") == pytest.approx(50 * 19, abs=5)


async def test_the_routes_beside_the_turns_answer(built):
    async with serving({"chat": Gated(), "live": live}) as (url, _):
        async with driven(built, url) as client:
            await client.do("flow")
            assert (await client.line())["stages"][0]["name"] == "gated"
            await client.do("schema", of="turns")
            assert "entry" in (await client.line())["properties"]
            await client.do("ready")
            assert await client.line() == {"ready": True}
            await client.do("stop")
            assert await client.line() == {"stopped": None}
            await client.do("ask", input="x", timeline=True)
            seen: set[str] = set()
            while not seen >= {"stage", "text"}:  # out of two queues: either may be the first
                seen.add((await client.line())["type"])
            await client.do("stop")
            said: dict[str, Any] = {}
            while not said.keys() >= {"stopped", "over"}:  # over two connections: either may be the first
                said |= await client.line()
            assert (said["stopped"], said["over"], said["reason"], said["failure"]) == (1, 1, "interrupted", None)


async def test_a_stage_that_fails_is_told_as_an_event(built):
    async with serving(Failing()) as (url, _), driven(built, url) as client:
        await client.do("ask", input="x")
        assert "always fails" in (await client.until(type="error"))["message"]
        assert (await client.end())[-1]["reason"] == "error"


@pytest.mark.parametrize(("how", "status"), [("ask", 422), ("live", 0)])
async def test_what_the_server_refuses_is_a_refusal_with_its_path(how, status, built):
    async with serving(Gated()) as (url, _):
        refused = await failure(built, url, how, entry="nowhere")
    assert (refused["failure"], refused["status"]) == ("RefusedException", status)
    assert (refused["error"], refused["path"]) == ("EntryError", "entry")
    assert "gated" in refused["message"]


async def test_a_missing_token_is_a_refusal_or_a_closing_code_and_the_right_one_is_let_in(built):
    token = "0123456789abcdef"
    witness.gate.set()
    async with serving(Gated(), tokens=(token,)) as (url, _):
        assert (await failure(built, url))["status"] == 401
        closed = await failure(built, url, "live")
        assert (closed["failure"], closed["code"]) == ("ClosedException", 1008)
        assert "token is needed" in closed["closing"]
        assert (await failure(built, url, "ask", token))["reason"] == "done"
        async with driven(built, url, token) as client:
            await client.do("live")
            await client.do("input", input="x")
            await client.do("end")
            assert (await client.end())[-1]["reason"] == "done"


async def test_who_asks_too_often_is_told_when_to_ask_again(built):
    witness.gate.set()
    async with serving(Gated(), rate_burst=1, rate_per_s=0.01) as (url, _):
        assert (await failure(built, url))["reason"] == "done"
        refused = await failure(built, url)
    assert (refused["status"], refused["error"]) == (429, "TooManyRequests")
    assert 50 < refused["retry_s"] <= 100


@pytest.mark.parametrize("how", ["ask", "live"])
async def test_where_no_server_listens_the_turn_is_closed(how, built, dead_port):
    closed = await failure(built, f"http://127.0.0.1:{dead_port}", how)
    assert (closed["failure"], closed["code"]) == ("ClosedException", 1006)


@pytest.mark.parametrize("how", ["ask", "live"])
async def test_a_server_that_shuts_down_in_mid_turn_ends_it(how, built):
    async with serving(Gated()) as (url, stop), driven(built, url) as client:
        await client.do(how, input="x")
        if how == "live":
            await client.do("input", input="x")
        await client.until(type="text")
        stop.set()
        over = (await client.end())[-1]
        # Either the server had time to say how the turn ended, or it closed with 1001.
        assert over["reason"] in {"interrupted", "error", "timeout"} or over["code"] == 1001


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def lines(*events: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


ANSWER = lines(
    {"type": "turn.started", "turn": 7, "seq": 0, "t": 0.0},
    {"type": "text", "turn": 7, "seq": 1, "t": 0.1, "stage": "a", "text": "é你😀"},
    {"type": "audio", "turn": 7, "seq": 2, "t": 0.1, "stage": "b", "rate_hz": 8000, "channels": 1, "data": "AAAAAA=="},
    {"type": "mood", "turn": 7, "seq": 3, "t": 0.1, "stage": "b", "data": {"glad": True}},
    {"type": "turn.ended", "turn": 7, "seq": 4, "t": 0.2, "reason": "done"},
)


async def test_lines_are_whole_wherever_the_pieces_were_cut(built):
    async def byte_by_byte(stream: trio.SocketStream) -> None:
        await stream.send_all(HEAD)
        for byte in ANSWER:
            await stream.send_all(chunked(bytes([byte])))
        await stream.send_all(chunked(b""))

    async with answering(byte_by_byte) as url, driven(built, url) as client:
        await client.do("ask", input="x")
        text, sound, mood, over = await client.end()
    assert text["text"] == "é你😀"
    assert sound["ms"] == 0.25
    assert (mood["type"], mood["data"]) == ("mood", {"glad": True})
    assert (over["over"], over["reason"]) == (7, "done")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(HEAD + chunked(ANSWER[:60]), "ClosedException", id="broken off in a line"),
        pytest.param(HEAD + chunked(ANSWER[:52]) + chunked(b""), "ClosedException", id="ended before the turn"),
        pytest.param(b"", "ClosedException", id="nothing at all"),
        pytest.param(HEAD + chunked(b"<html>\n"), "ProtocolException", id="a page"),
        pytest.param(HEAD + chunked(b"[]\n"), "ProtocolException", id="not an object"),
        pytest.param(HEAD + chunked(b"{}\n"), "ProtocolException", id="no type"),
        pytest.param(HEAD + chunked(lines({"type": "text", "turn": 1})), "ProtocolException", id="no text"),
        pytest.param(HEAD + chunked(lines({"type": "text", "turn": "1"})), "ProtocolException", id="a wrong type"),
        pytest.param(
            HEAD + chunked(lines({"type": "audio", "rate_hz": 8000, "channels": 1, "data": "AAA="})) + chunked(b""),
            "ClosedException",
            id="sound that is fine, then the end",
        ),
        pytest.param(
            HEAD + chunked(lines({"type": "audio", "rate_hz": 0, "channels": 1, "data": "AAA="})),
            "ProtocolException",
            id="a rate of zero",
        ),
        pytest.param(
            HEAD + chunked(lines({"type": "audio", "rate_hz": 8000, "channels": 1, "data": "?"})),
            "ProtocolException",
            id="not base64",
        ),
    ],
)
async def test_an_answer_that_is_none_is_told_as_what_it_is(answer, kind, built):
    async def reply(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)

    async with answering(reply) as url:
        over = await failure(built, url)
    assert (over["failure"], over["reason"]) == (kind, None)


async def test_a_proxys_page_is_a_refusal_with_its_status(built):
    async def reply(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")

    async with answering(reply) as url:
        over = await failure(built, url)
    assert (over["failure"], over["status"], over["error"]) == ("RefusedException", 502, "BadGateway")
