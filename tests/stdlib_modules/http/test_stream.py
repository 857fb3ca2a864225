"""HTTPStream: what presets over HTTP share."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio

from ezflow import Service, Turn, fallback, module, ordered
from ezflow.testing.backends import Fault, GPTSoVITSStandIn, OllamaStandIn, Reply, Request, StandIn
from stdlib_modules.http.stream import Ask, HTTPStream, Reads
from stdlib_modules.llm.ollama import Ollama
from stdlib_modules.tts.gpt_sovits import GPTSoVITS


@module
class Words(HTTPStream[str, str]):
    url: str = attrs.field(default="http://127.0.0.1:1", kw_only=True)

    reads = Reads.SSE
    end_mark = '"the end"'
    probes = "/up"

    def ask(self, text: str, turn: Turn) -> Ask | None:
        return Ask("/words", {"text": text}) if text else None

    def item(self, piece: Any, turn: Turn) -> str | None:
        if "error" in piece:
            raise self.failure(piece["error"])
        return piece["word"]


class WordsStandIn(StandIn):
    """Sends what it is told to."""

    name = "Words"
    sends: tuple[Any, ...] = ()

    async def answer(self, request: Request, reply: Reply) -> None:
        if request.path == "/up":
            await reply.json({})
            return
        await reply.begin(content_type="text/event-stream")
        for piece in self.sends:
            text = piece if isinstance(piece, str) else json.dumps(piece)
            await reply.send(f"data: {text}\n\n".encode())
        await reply.end()


async def said(*sends: Any, **settings: Any) -> tuple[list[str], list[str]]:
    """What a turn gives, and the errors that it ends with."""
    server = WordsStandIn()
    server.sends = sends
    async with server.serving(), Words(url=server.url, **settings).open() as service:
        async with service.session("ann") as session:
            events = [event async for event in session.turn("x")]
            assert [event.type async for event in session.turn("")] == ["turn.started", "turn.ended"]
    given = [event.item for event in events if event.type == "text"]
    return given, [event.error.message for event in events if event.error is not None]


async def test_an_answer_ends_with_its_mark_and_is_broken_without_it():
    assert await said({"word": "a"}, {"word": "b"}, '"the end"') == (["a", "b"], [])
    given, (error,) = await said({"word": "a"})
    assert given == ["a"]
    assert 'ended without "the end"' in error


@pytest.mark.parametrize("piece", [{"wrd": "a"}, ["a"], 5, None, '"a\\ud83d"', "not json"], ids=str)
async def test_a_piece_of_another_shape_is_the_servers_fault_by_name(piece):
    given, (error,) = await said(piece)
    assert given == []
    assert error.startswith("Words at http://127.0.0.1")


async def test_a_key_that_a_server_repeats_in_its_answer_is_hidden(monkeypatch):
    monkeypatch.setenv("WORDS_KEY", "sk-very-secret")
    failed = {"error": "the key sk-very-secret has no quota " + "x" * 10_000}
    _, (error,) = await said(failed, api_key_env="WORDS_KEY")
    assert "the key *** has no quota" in error
    assert len(error) < 300


async def test_half_a_surrogate_pair_does_not_spoil_the_conversation():
    async with OllamaStandIn(answer=lambda _: "good").serving() as server:
        flow = Ollama("qwen2.5", url=server.url)
        async with flow.open() as service, service.session("ann") as session:
            for _ in range(2):
                events = [event async for event in session.turn("hi")]
                assert events[-1].reason == "done"


async def test_a_probe_does_not_wait_for_a_place():
    async with OllamaStandIn(each_s=3600.0).serving() as server:
        async with Ollama("qwen2.5", url=server.url, max_connections=1).open() as service:
            async with service.session("ann") as session, session.turn("hi") as turn:
                assert [(await anext(turn)).type for _ in range(2)] == ["turn.started", "text"]
                with trio.fail_after(5):
                    await service.stages[0].module.probe()


def voice(server: StandIn, **settings: Any) -> GPTSoVITS:
    return GPTSoVITS(ref_audio_path="a.wav", prompt_text="a", prompt_lang="en", url=server.url, **settings)


async def test_a_budget_ends_the_wait_for_a_place_too_and_says_so(caplog):
    async with OllamaStandIn(fault=Fault.SILENT).serving() as silent, OllamaStandIn().serving() as spare:
        busy = Ollama("qwen2.5", url=silent.url, max_connections=1)
        flow = fallback(busy.budget(first_reply_s=0.3), Ollama("qwen2.5", url=spare.url))
        said: dict[str, list[str]] = {}

        async def ask(service: Service, user: str) -> None:
            async with service.session(user) as session:
                said[user] = [event.item async for event in session.turn("x") if event.type == "text"]

        async with flow.open() as service:
            for _ in range(2):  # the one place is free again afterwards
                before = len(silent.requests)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, service, "ann")
                    await silent.until(lambda before=before: len(silent.requests) > before)
                    nursery.start_soon(ask, service, "bob")
                assert said == {"ann": ["You", " said", " x."], "bob": ["You", " said", " x."]}
                await silent.until(lambda: len(silent.requests) == 2 or not silent.connections)
                said.clear()
    where = f"ollama waits for Ollama at {silent.url}"
    assert f"{where}." in caplog.text
    assert f"{where}, where all places (1) were taken." in caplog.text


async def test_a_listener_who_takes_nothing_keeps_no_voice_from_the_others():
    async with GPTSoVITSStandIn().serving() as server:
        async with voice(server).open(ear=1, capacity=0) as service:
            async with service.session("ann") as ann, service.session("bob") as bob, ann.turn("slow " * 50) as slow:
                await anext(slow)  # and then takes no more
                with trio.fail_after(10):
                    events = [event async for event in bob.turn("quick")]
                assert events[-1].reason == "done"


async def test_voices_in_order_go_on_after_a_first_refusal():
    class Busy(GPTSoVITSStandIn):
        refused = False

        async def answer(self, request: Request, reply: Reply) -> None:
            if not self.refused:
                self.refused = True
                await reply.json({"message": "busy"}, 503)
            else:
                await super().answer(request, reply)

    async with Busy().serving() as server:
        with trio.fail_after(20):
            sounds = await ordered(voice(server), 3).collect(["one", "two", "three", "four"])
    assert [sound.text for sound in sounds if sound.text] == ["one", "two", "three", "four"]
