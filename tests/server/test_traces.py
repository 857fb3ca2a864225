"""Traces of a server's turns, as a collector of another's protocol gets them."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed: pip install -e '.[traces]'")

from collector import Collector, Span, collecting
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import listening, turn
from trio_websocket import open_websocket_url

from ezflow import Audio, Latest, Module, Turn, Utterance, module
from ezflow.errors import MissingDependency, SettingsError
from ezflow.logs import WithContext
from ezflow.server import tracing
from ezflow.server.config import Settings
from ezflow.testing import Failing, FakeLLM, Pause
from ezflow.testing.backends import Fault
from ezflow.testing.backends.funasr import FunASRStandIn, speech
from ezflow.testing.backends.ollama import OllamaStandIn
from ezflow.testing.backends.openai import OpenAIStandIn
from ezflow.traces import Traces
from stdlib_modules.asr.funasr import FunASR
from stdlib_modules.asr.openai import OpenAITranscription
from stdlib_modules.llm.ollama import Ollama
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.openai import OpenAISpeech

PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = "00-{}-{}-01".format(*PARENT)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found
    assert not [thread.name for thread in threading.enumerate() if "Otel" in thread.name]


def child_of(span: Span, parent: Span) -> bool:
    return (span.trace_id, span.parent_id) == (parent.trace_id, parent.span_id)


async def ask(server: Any, path: str = "/turns", traceparent: str = "", **body: Any) -> list[dict[str, Any]]:
    """The events of a turn."""
    headers = {"traceparent": traceparent} if traceparent else {}
    async with server.request("POST", path, json.dumps(body).encode(), **headers) as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.read()).splitlines()]


async def test_a_whole_spoken_turn_is_one_trace_from_the_client_s_span_to_the_backends(serving, collector):
    wav = Audio(b"\0\1" * 8000, 16_000).to_wav()
    async with AsyncExitStack() as stack:
        voice = await stack.enter_async_context(OpenAIStandIn().serving())
        llm = await stack.enter_async_context(OllamaStandIn(lambda asked: "One two three. And four.").serving())
        flow = (
            OpenAITranscription("small", url=voice.url)
            >> Ollama("qwen2.5", url=llm.url).shown()
            >> Sentences()
            >> OpenAISpeech("small", voice="alloy", url=voice.url)
        )
        async with serving({"talk": flow}, traces=collector.url, grace_s=1.0) as server:
            events = await ask(server, "/talk/turns", TRACEPARENT, user="ann", input=base64.b64encode(wav).decode())
        assert events[-1]["reason"] == "done"
        asked = [*voice.requests, *llm.requests]
    spans = collector.spans
    turn = collector.named("turn talk")
    assert (turn.trace_id, turn.parent_id) == PARENT
    assert turn.attributes == {"ezflow.flow": "talk", "ezflow.turn": 1, "ezflow.reason": "done"}
    assert {span.trace_id for span in spans} == {PARENT[0]}
    stages = ["open_ai_transcription", "ollama", "sentences", "open_ai_speech"]
    calls = {"POST /v1/audio/transcriptions": 1, "POST /api/chat": 1, "POST /v1/audio/speech": 2}
    assert sorted(span.name for span in spans) == sorted(
        ["turn talk", *stages, *[name for name, count in calls.items() for _ in range(count)]]
    )
    for name in stages:
        stage = collector.named(name)
        assert child_of(stage, turn)
        assert (stage.kind, stage.status) == ("internal", "unset")
        assert stage.begin <= stage.events["first output"] <= stage.end
        assert turn.begin <= stage.begin <= stage.end <= turn.end
    counts = {name: collector.named(name).attributes for name in stages}
    assert {name: (got["ezflow.items_in"], got["ezflow.items_out"]) for name, got in counts.items()} == {
        "open_ai_transcription": (1, 1),
        "ollama": (1, 5),
        "sentences": (5, 2),
        "open_ai_speech": (2, len([event for event in events if event["type"] == "audio"])),
    }
    made_by = {"POST /v1/audio/transcriptions": "open_ai_transcription", "POST /api/chat": "ollama"}
    requests = [span for span in spans if span.kind == "client"]
    for span in requests:
        assert child_of(span, collector.named(made_by.get(span.name, "open_ai_speech")))
        assert span.begin <= span.events["first byte"] <= span.end
        url = llm.url if "chat" in span.name else voice.url
        assert span.attributes == {
            "http.request.method": "POST",
            "url.full": url.removesuffix("/v1") + span.name.removeprefix("POST "),
            "server.address": "127.0.0.1",
            "server.port": int(url.removesuffix("/v1").rpartition(":")[2]),
            "http.response.status_code": 200,
        }
    # Each backend was told of the span of the request that it got.
    told = sorted(request.headers["traceparent"].rpartition("-")[0] for request in asked)
    assert told == sorted(f"00-{span.trace_id}-{span.span_id}" for span in requests)
    assert collector.resource["service.name"] == "ezflow"
    assert "ann" not in str(spans)
    assert "One two three" not in str(collector.requests)


async def test_a_failing_backend_is_an_error_of_its_request_its_stage_and_its_turn(serving, collector):
    async with OllamaStandIn(fault=Fault.REFUSES).serving() as llm:
        flow = Ollama("qwen2.5", url=llm.url, retries=0) >> Sentences()
        async with serving(flow, traces=collector.url) as server:
            events = await ask(server, user="ann", input="hello")
    assert events[-1]["reason"] == "error"
    turn, stage, call = collector.named("turn"), collector.named("ollama"), collector.named("POST /api/chat")
    assert (turn.status, turn.said, turn.attributes["ezflow.reason"]) == ("error", "error", "error")
    assert call.attributes["http.response.status_code"] == 500
    for span in (stage, call):
        assert (span.status, span.attributes["error.type"]) == ("error", "BackendRefused")
        assert "answered 500: the model is broken" in span.said
    assert (collector.named("sentences").status, collector.named("sentences").attributes["ezflow.cancelled"]) == (
        "unset",
        True,
    )


async def test_a_backend_that_is_not_there_is_an_error_without_a_status(serving, collector):
    async with serving(Ollama("qwen2.5", url="http://127.0.0.1:9", retries=0), traces=collector.url) as server:
        await ask(server, user="ann", input="hello")
    call = collector.named("POST /api/chat")
    assert (call.status, call.attributes["error.type"]) == ("error", "BackendUnreachable")
    assert "http.response.status_code" not in call.attributes
    assert "first byte" not in call.events


async def test_an_interrupted_turn_says_so_and_its_stages_were_cancelled(serving, collector):
    async with OllamaStandIn(lambda asked: "a b c d", each_s=30).serving() as llm:
        async with serving(Ollama("qwen2.5", url=llm.url), traces=collector.url) as server:
            body = json.dumps({"user": "ann", "input": "hello"}).encode()
            async with server.request("POST", "/turns", body) as response:
                await response.until("turn.started")
                await llm.until(lambda: bool(llm.requests))
                assert await server.json("POST", "/interrupt", {"user": "ann"}) == (200, {"turn": 1})
    turn, stage, call = collector.named("turn"), collector.named("ollama"), collector.named("POST /api/chat")
    assert (turn.status, turn.attributes["ezflow.reason"]) == ("unset", "interrupted")
    assert (stage.status, stage.attributes["ezflow.cancelled"]) == ("unset", True)
    assert call.status == "unset"


async def test_a_live_turn_belongs_to_the_handshake_of_its_socket_and_tells_of_its_runs(serving, collector):
    async with serving(Latest(FakeLLM("a b c") >> Pause(0.01)), traces=collector.url) as server:
        url = f"ws{server.url.removeprefix('http')}/ws?user=ann"
        async with open_websocket_url(url, extra_headers=[("traceparent", TRACEPARENT)]) as ws:
            for frame in ({"type": "start"}, {"type": "input", "data": "x"}, {"type": "end"}):
                await ws.send_message(json.dumps(frame))
            while json.loads(await ws.get_message())["type"] != "turn.ended":
                pass
    turn = collector.named("turn")
    assert (turn.trace_id, turn.parent_id) == PARENT
    for name in ("fake_llm", "pause"):
        assert child_of(collector.named(name), turn)
        assert collector.named(name).attributes["ezflow.run"] == 1


async def test_ezpipe_s_requests_carry_a_parent_too(serving, collector):
    async with serving(FakeLLM("a").shown(), traces=collector.url) as server:
        await ask(server, "/input", TRACEPARENT, user="ann", Input="x")
    assert (collector.named("turn").trace_id, collector.named("turn").parent_id) == PARENT


@pytest.mark.parametrize("sent", ["", "garbage", "00-00000000000000000000000000000000-0000000000000000-01"])
async def test_without_a_parent_that_can_be_read_each_turn_begins_a_trace_of_its_own(serving, collector, sent):
    async with serving(FakeLLM("a"), traces=collector.url) as server:
        await ask(server, "/turns", TRACEPARENT, user="ann", input="x")
        await ask(server, "/turns", sent, user="ann", input="x")
    first, second = [span for span in collector.spans if span.name == "turn"]
    assert (first.trace_id, second.parent_id) == (PARENT[0], "")
    assert second.trace_id != PARENT[0]


async def test_turns_at_once_are_not_mixed_up(serving, collector):
    flow = FakeLLM("a b c", each_s=0.01) >> Pause(0.01)
    async with serving(flow, traces=collector.url, trace_users=True) as server:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(lambda number=number: ask(server, user=f"user{number}", input="x"))
    turns = {span.trace_id: span for span in collector.spans if span.name == "turn"}
    assert len(turns) == 20
    for span in collector.spans:
        turn = turns[span.trace_id]
        assert span == turn or child_of(span, turn)
        assert span.attributes["ezflow.user"] == turn.attributes["ezflow.user"]
    assert len(collector.spans) == 60


async def test_a_collector_that_hangs_holds_up_neither_turns_nor_the_end(serving, collector, monkeypatch):
    monkeypatch.setattr("ezflow.server.tracing.EXPORT_S", 0.3)
    monkeypatch.setattr("ezflow.server.tracing.FLUSH_S", 0.3)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.hold.clear()
    async with serving(FakeLLM("a"), traces=collector.url) as server:
        for _ in range(20):
            with trio.fail_after(2):
                assert (await ask(server, user="ann", input="x"))[-1]["reason"] == "done"
        leaving = trio.current_time()
    assert trio.current_time() - leaving < 3


async def test_a_collector_that_is_not_there_is_logged_and_nothing_else(serving, monkeypatch, caplog):
    monkeypatch.setattr("ezflow.server.tracing.EXPORT_S", 0.3)
    monkeypatch.setattr("ezflow.server.tracing.FLUSH_S", 0.3)
    async with serving(FakeLLM("a"), traces="http://127.0.0.1:9") as server:
        assert (await ask(server, user="ann", input="x"))[-1]["reason"] == "done"
    assert "Failed to export spans batch" in caplog.text
    assert not [thread.name for thread in threading.enumerate() if "Otel" in thread.name]


# ---- in a program


@pytest.fixture
def spans() -> Iterator[tuple[Traces, InMemorySpanExporter]]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traces(provider.get_tracer("test")), exporter
    provider.shutdown()


@module(blocking=True)
def in_thread(text: str) -> str:
    with trace.get_tracer_provider().get_tracer("t").start_as_current_span("inert"):
        return f"{trace.get_current_span().get_span_context().span_id:016x} {text}"


@module
class Looks(Module[str, str]):
    """Gives the span that is current inside of it."""

    async def process(self, text: str, turn: Turn) -> str:
        await trio.lowlevel.checkpoint()
        logging.getLogger("library").warning("here")
        return f"{trace.get_current_span().get_span_context().span_id:016x} {text}"


async def test_inside_of_a_stage_its_span_is_the_current_one_in_threads_too(spans):
    traces, exporter = spans
    before = trace.get_current_span()
    found = await (Looks() >> in_thread).collect(["x"], instruments=(traces,))
    ids = {span.name: f"{span.context.span_id:016x}" for span in exporter.get_finished_spans()}
    assert found == [f"{ids['in_thread']} {ids['looks']} x"]
    assert trace.get_current_span() is before


async def test_a_turn_that_a_program_begins_within_a_span_belongs_to_it(spans):
    traces, exporter = spans
    async with FakeLLM("a").open(instruments=(traces,)) as service, service.session("ann") as session:
        with traces._tracer.start_as_current_span("mine") as mine:
            async for _ in session.turn("x"):
                pass
    turn = next(span for span in exporter.get_finished_spans() if span.name == "turn")
    assert turn.parent is not None
    assert turn.parent.span_id == mine.get_span_context().span_id


async def test_a_bug_is_told_without_what_it_was_about(spans):
    traces, exporter = spans
    said = "my pin is 1234 " * 100
    with pytest.RaisesGroup(RuntimeError):
        await Failing(f"cannot read {said!r}, token=abcdef").collect(["x"], instruments=(traces,))
    failed = next(span for span in exporter.get_finished_spans() if span.name == "failing")
    assert failed.status.description is not None
    assert failed.status.description.startswith("RuntimeError: cannot read 'my pin is 1234")
    assert len(failed.status.description) < 120
    assert "abcdef" not in failed.status.description


async def test_log_records_tell_the_trace(spans):
    traces, exporter = spans
    handler = logging.Handler()
    records: list[logging.LogRecord] = []
    handler.addFilter(WithContext())
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("library").addHandler(handler)
    try:
        await Looks().collect(["x"], instruments=(traces,))
    finally:
        logging.getLogger("library").removeHandler(handler)
    looks = next(span for span in exporter.get_finished_spans() if span.name == "looks")
    (record,) = records
    assert vars(record)["trace_id"] == f"{looks.context.trace_id:032x}"
    assert vars(record)["span_id"] == f"{looks.context.span_id:016x}"


async def test_the_handshake_with_a_backend_s_websocket_is_a_request_too(spans):
    traces, exporter = spans
    async with FunASRStandIn().serving() as server:
        await FunASR(url=server.url).collect([Utterance.of(speech("你好"))], instruments=(traces,))
        (request,) = server.requests
    call = next(span for span in exporter.get_finished_spans() if span.name == "GET /")
    assert call.attributes is not None
    assert call.attributes["http.response.status_code"] == 101
    told = f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-"
    assert request.headers["traceparent"].startswith(told)


# ---- whether at all


@pytest.mark.parametrize(
    ("traces", "environment", "wanted"),
    [
        (None, {}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ("off", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ("http://c:4318", {}, True),
    ],
)
def test_traces_are_sent_where_settings_or_the_environment_say_so(traces, environment, wanted):
    assert tracing.wanted(Settings(traces=traces), environment) is wanted


@pytest.mark.parametrize("given", ["c:4318", "ftp://c", "", "http://", 7, "http://c?key=x"])
def test_what_is_no_collector_s_url_is_refused(given):
    with pytest.raises(SettingsError, match="traces"):
        Settings(traces=given)


async def test_what_is_asked_for_and_not_installed_is_an_error_and_what_is_merely_set_a_warning(
    serving, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.RaisesGroup(MissingDependency, allow_unwrapped=True, flatten_subgroups=True):
        async with serving(FakeLLM("a"), traces="http://127.0.0.1:9"):
            raise AssertionError("it serves")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with serving(FakeLLM("a")) as server:
        assert (await ask(server, user="ann", input="x"))[-1]["reason"] == "done"
    assert "no traces are sent: Settings(traces=...) needs opentelemetry.sdk.trace" in caplog.text


def test_without_traces_a_server_loads_no_opentelemetry():
    program = (
        "import sys; from ezflow.server.run import run; import stdlib_modules.llm.ollama, stdlib_modules.http.client;"
        "print({name.split('.')[0] for name in sys.modules} & {'opentelemetry', 'structlog', 'requests'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_command_line_and_the_environment_say_where_to(tmp_path, collector):
    target = tmp_path / "flow.py"
    target.write_text("from ezflow.testing import FakeLLM\nflow = FakeLLM('a')\n")
    command = [sys.executable, "-m", "ezflow", "serve", str(target), "--port", "0"]
    with listening([*command, "--traces", collector.url], OTEL_SERVICE_NAME="mine") as url:
        turn(url, user="ann", input="x")
    assert ([span.name for span in collector.spans], collector.resource["service.name"]) == (
        ["turn", "fake_llm"],
        "mine",
    )
    collector.requests.clear()
    with listening(command, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as url:
        turn(url, user="ann", input="x")
    assert [span.name for span in collector.spans] == ["turn", "fake_llm"]
