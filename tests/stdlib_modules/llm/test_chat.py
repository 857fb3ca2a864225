"""`LocalLLM(url=...)` against a loopback stand-in that checks every request; no model is needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from ezflow import InputError, ModuleOpenError
from ezflow.history import Message
from ezflow.testing import check_module, collect
from stdlib_modules.llm.chat import LLMError, messages, prompt_bytes, recent
from stdlib_modules.llm.local import LocalLLM

pytest.importorskip("httpx2", reason="httpx2 is not installed: pip install -e '.[http]'")

Answer = Callable[["StandIn", BaseHTTPRequestHandler], None]
FIELDS = {"model", "messages", "stream", "max_tokens", "temperature"}


def line(content: str | None) -> bytes:
    delta = {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": content}}]}
    return f"data: {json.dumps(delta)}\n\n".encode()


def stream(*lines: bytes) -> Answer:
    """Answers with these lines of an event stream."""

    def answer(server: StandIn, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        for data in lines:
            request.wfile.write(data)

    return answer


def refusal(status: int, body: bytes) -> Answer:
    def answer(server: StandIn, request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def too_long_above(limit: int, otherwise: Answer) -> Answer:
    """Refuses prompts of more messages than `limit`, as llama.cpp does those of too many tokens."""

    def answer(server: StandIn, request: BaseHTTPRequestHandler) -> None:
        if len(server.bodies[-1]["messages"]) <= limit:
            otherwise(server, request)
            return
        error = {
            "code": 400,
            "type": "exceed_context_size_error",
            "message": "request exceeds the context size",
        }
        refusal(400, json.dumps({"error": error}).encode())(server, request)

    return answer


def endless(server: StandIn, request: BaseHTTPRequestHandler) -> None:
    """Streams until the client goes."""
    stream()(server, request)
    while not server.closing.is_set():
        request.wfile.write(line("on and on "))


class StandIn:
    """An OpenAI-compatible server that fails on an unknown or missing field."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.left = threading.Event()
        self.closing = threading.Event()
        stand_in = self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if not sent:
                    return  # the client went before it had asked
                body = json.loads(sent)
                fits = self.path == "/v1/chat/completions" and set(body) == FIELDS and body["stream"] is True
                stand_in.bodies.append(body)
                stand_in.keys.append(self.headers["Authorization"])
                try:
                    (stand_in.answer if fits else refusal(418, b"an unexpected request"))(stand_in, self)
                except ConnectionError:
                    stand_in.left.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StandIn]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started: list[tuple[StandIn, threading.Thread]] = []

    def serve(answer: Answer) -> StandIn:
        stand_in = StandIn(answer)
        thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.01,))
        thread.start()
        started.append((stand_in, thread))
        return stand_in

    yield serve
    for stand_in, thread in started:
        stand_in.closing.set()
        stand_in.server.shutdown()
        thread.join()
        stand_in.server.server_close()


HELLO = stream(line(None), line("Hel"), b": a ping\n\n", line("lo."), b"data: [DONE]\n\n")


async def test_pieces_come_as_the_server_writes_them(serve: Callable[..., StandIn]) -> None:
    server = serve(HELLO)
    assert await collect(LocalLLM(url=server.url, system_prompt="Be brief."), ["hi"]) == ["Hel", "lo."]
    assert server.bodies == [
        {
            "model": "default",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "stream": True,
            "max_tokens": 256,
            "temperature": 0.0,
        }
    ]
    assert server.keys == [None]


async def test_options_of_a_request_replace_those_of_the_module(serve: Callable[..., StandIn]) -> None:
    server = serve(HELLO)
    options = {"temperature": 0.5, "max_tokens": 7, "system_prompt": ""}
    await collect(LocalLLM(url=server.url, model="some-model"), ["hi"], LLM=options)
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some-model", 0.5, 7)
    assert body["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("options", [{"temperature": -0.5}, {"max_tokens": 0}, {"max_tokens": -1}])
async def test_options_that_no_model_can_follow_are_refused_before_it_is_asked(
    serve: Callable[..., StandIn], options: dict[str, Any]
) -> None:
    server, (name,) = serve(HELLO), options
    with pytest.raises(InputError, match=rf"^options\.LLM: '{name}' must be >= "):
        await collect(LocalLLM(url=server.url), ["hi"], LLM=options)
    assert server.bodies == []


async def test_the_key_comes_from_the_environment_and_is_not_shown(
    serve: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    server = serve(HELLO)
    llm = LocalLLM(url=server.url, api_key_env="MY_KEY")
    await collect(llm, ["hi"])
    assert server.keys == ["Bearer s3cret"]
    assert "s3cret" not in repr(llm)


async def test_the_history_of_the_session_is_in_the_prompt(serve: Callable[..., StandIn]) -> None:
    server = serve(HELLO)
    flow = LocalLLM(url=server.url, system_prompt="")
    async with flow.open() as service, service.session("ann") as session:
        for text in ("one", "two"):
            assert [event.item async for event in session.turn(text) if event.type == "text"] == [
                "Hel",
                "lo.",
            ]
    assert server.bodies[1]["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "two"},
    ]


async def test_cancelling_a_turn_closes_its_connection(serve: Callable[..., StandIn]) -> None:
    server = serve(endless)
    async with LocalLLM(url=server.url).open() as service, service.session("ann") as session:
        async with session.turn("hi") as events:
            async for event in events:
                if event.type == "text":
                    break
        assert await trio.to_thread.run_sync(server.left.wait, 10)


async def test_a_prompt_that_is_too_long_for_the_server_forgets_older_history(
    serve: Callable[..., StandIn],
) -> None:
    server = serve(too_long_above(4, HELLO))
    flow = LocalLLM(url=server.url, system_prompt="")
    async with flow.open() as service, service.session("ann") as session:
        for number in range(3):
            assert [event.type async for event in session.turn(f"question {number}")].count("text") == 2
    assert [len(body["messages"]) for body in server.bodies] == [1, 3, 5, 3]
    assert server.bodies[-1]["messages"][0] == {"role": "user", "content": "question 1"}


async def test_a_text_that_is_too_long_by_itself_says_what_to_do(serve: Callable[..., StandIn]) -> None:
    server = serve(too_long_above(0, HELLO))
    with pytest.RaisesGroup(pytest.RaisesExc(LLMError, match="larger n_ctx")):
        await collect(LocalLLM(url=server.url), ["hi"])
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal(401, b'{"error": {"message": "Invalid API Key", "type": "x"}}'), "failed: Invalid API Key"),
        (refusal(500, b'{"error": "no model"}'), "failed: no model"),
        (refusal(502, b"<html>bad gateway"), "answered 502: <html>bad gateway"),
        (stream(line("Hel"), b'data: {"error": {"message": "out of memory"}}\n\n'), "failed: out of memory"),
        (stream(line("Hel"), b'error: {"message": "out of memory"}\n\n'), "failed: out of memory"),
        (stream(b"data: {nonsense\n\n"), "not JSON"),
    ],
    ids=["refused", "refused with a text", "no JSON", "inside the stream", "old form", "broken line"],
)
async def test_what_the_server_complains_of_is_the_error(
    serve: Callable[..., StandIn], answer: Answer, told: str
) -> None:
    server = serve(answer)
    with pytest.RaisesGroup(pytest.RaisesExc(LLMError, match=told)):
        await collect(LocalLLM(url=server.url), ["hi"])


async def test_a_server_that_is_not_there_is_named(serve: Callable[..., StandIn]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/v1"
    with pytest.RaisesGroup(pytest.RaisesExc(LLMError, match=rf"{url}/ \(ConnectError: .*another url")):
        await collect(LocalLLM(url=url), ["hi"])


async def test_missing_weights_name_the_command_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZFLOW_CACHE", str(tmp_path))
    with pytest.raises(ModuleOpenError, match="ezflow models pull"):
        await collect(LocalLLM(), ["hi"])


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("no model")
    with pytest.raises(ModuleOpenError, match=r"notes\.gguf is no GGUF file"):
        await collect(LocalLLM(model=str(tmp_path / "notes.gguf")), ["hi"])
    with pytest.raises(ModuleOpenError, match=r"absent\.gguf \(No such file"):
        await collect(LocalLLM(model=str(tmp_path / "absent.gguf")), ["hi"])


def test_local_llm_keeps_the_rules_of_a_module(serve: Callable[..., StandIn]) -> None:
    check_module(LocalLLM(url=serve(HELLO).url), ["one", "two"], real=True)


def said(*texts: str) -> list[Message]:
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


def test_history_that_fits_is_kept_whole() -> None:
    history = said("a", "b", "c", "d")
    assert recent(history, 4 * prompt_bytes("a")) == history
    assert recent((), -5) == ()


def test_history_fits_and_keeps_its_beginning_for_many_turns() -> None:
    room = 20 * prompt_bytes("x" * 10)
    history: list[Message] = []
    beginnings: list[int] = []
    for number in range(100):
        history.append(Message("user", f"{number:10d}"))
        kept = recent(history, room)
        assert sum(prompt_bytes(message.content) for message in kept) <= room
        assert kept[-1] is history[-1]
        beginnings.append(len(history) - len(kept))
    assert len(set(beginnings)) == 9
    assert beginnings == sorted(beginnings)


def test_without_room_no_history_is_kept() -> None:
    assert list(recent(said("a", "b"), -100)) == []


def test_words_without_an_answer_join_the_next_ones() -> None:
    history = [*said("one", "uno"), Message("user", "two")]
    assert messages("", history, "three") == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "uno"},
        {"role": "user", "content": "two\nthree"},
    ]


def test_a_prompt_does_not_begin_with_an_answer() -> None:
    assert messages("S", said("one", "uno")[1:], "two") == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "two"},
    ]
