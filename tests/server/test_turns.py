"""`POST /turns` and `/interrupt` over real sockets."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from ezflow import Audio, Latest, Module, Progress, Turn, module
from ezflow.events import Event
from ezflow.instrument import Instrument
from ezflow.server.encode import encode_line
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeTTS, Pause

SOUND = base64.b64encode(Audio(bytes(3200), 16_000).to_wav()).decode()


@module
class Announces(Module[str, str]):
    """Says what it does, and gives the text on."""

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply(Progress(f"working on {text}"))
        return text


@module
class Waits(Module[str, str]):
    """Gives its text at once, then works until it is cancelled."""

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply(text)
        await trio.sleep_forever()
        return text


voice = FakeASR() >> FakeLLM("You said {}.").shown() >> FakeTTS()


async def test_lines_that_are_ready_together_go_out_together(serving):
    async with serving(FakeLLM("one two three four five six seven eight")) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "hi"}') as response:
            pieces = []
            while piece := await response.chunk():
                pieces.append(piece)
    assert len(b"".join(pieces).splitlines()) == 10
    assert len(pieces) < 6
    assert all(piece.endswith(b"\n") for piece in pieces)


async def test_each_event_is_a_line_in_order_with_its_fields(serving):
    async with serving(Announces() >> FakeTTS()) as server:
        events = await server.turn(user="ann", input="hi")
    assert [event["type"] for event in events] == ["turn.started", "progress", "audio", "turn.ended"]
    assert [event["seq"] for event in events] == [0, 1, 2, 3]
    assert {event["turn"] for event in events} == {1}
    assert events[1] | {"t": 0} == {
        "type": "progress", "turn": 1, "seq": 1, "t": 0, "stage": "announces", "data": {"message": "working on hi"},
    }  # fmt: skip
    audio = events[2]
    assert (audio["rate_hz"], audio["channels"], audio["samples"]) == (24_000, 1, 2400)
    assert len(base64.b64decode(audio["data"])) == 4800
    assert events[3]["reason"] == "done"


async def test_text_arrives_while_later_stages_still_work(serving):
    @module
    async def held(text: str, turn: Turn) -> str:
        await release.wait()
        return text

    release = trio.Event()
    async with serving(FakeLLM("one two").shown() >> held) as server:
        async with server.request("POST", "/turns", json.dumps({"user": "ann", "input": "x"}).encode()) as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            types = []
            async for event in response.events():
                types.append(event["type"])
                if types.count("text") == 2:
                    release.set()  # both texts of the first stage came before the second gave anything
    assert types == ["turn.started", "text", "text", "text", "text", "turn.ended"]


async def test_a_turn_may_enter_at_any_stage_by_index_or_name(serving):
    async with serving(voice) as server:
        for entry in (1, "fake_llm"):
            events = await server.turn(user="ann", input="hello", entry=entry)
            texts = [event["text"] for event in events if event["type"] == "text"]
            assert "".join(texts) == "You said hello."
        spoken = await server.turn(user="ann", input="hello", entry="fake_tts")
    assert [event["type"] for event in spoken] == ["turn.started", "audio", "turn.ended"]


async def test_a_wav_and_bare_pcm_are_both_sound(serving):
    async with serving(FakeASR()) as server:
        for sound in (SOUND, base64.b64encode(bytes(3200)).decode()):
            events = await server.turn(user="ann", input=sound)
            assert events[-1]["reason"] == "done"


BAD_INPUTS = [
    (b'{"user"', 400, "BadRequest", None),
    (b"\xff\xfe", 400, "BadRequest", None),
    (b"[" * 100_000, 400, "BadRequest", None),
    ([], 422, "InputError", "body"),
    ({"user": "ann"}, 422, "InputError", "input"),
    ({"user": "", "input": "x"}, 422, "InputError", "user"),
    ({"user": 5, "input": "x"}, 422, "InputError", "user"),
    ({"user": "ann", "input": "x", "entri": 1}, 422, "InputError", "entri"),
    ({"user": "ann", "input": "x", "entry": 1.5}, 422, "InputError", "entry"),
    ({"user": "ann", "input": "x", "entry": 7}, 422, "EntryError", "entry"),
    ({"user": "ann", "input": "x", "entry": "llm"}, 422, "EntryError", "entry"),
    ({"user": "ann", "input": "not base64!"}, 422, "InputError", "input"),
    ({"user": "ann", "input": "AAAA"}, 422, "InputError", "input"),
    ({"user": "ann", "input": base64.b64encode(b"RIFF....WAVE").decode()}, 422, "InputError", "input"),
    ({"user": "ann", "input": 5, "entry": 1}, 422, "InputError", "input"),
    ({"user": "ann", "input": "x", "entry": 1, "options": {"LLM": {}}}, 422, "InputError", "options.LLM"),
]


@pytest.mark.parametrize(("body", "status", "error", "path"), BAD_INPUTS)
async def test_a_bad_request_is_told_where_and_why(serving, body, status, error, path):
    async with serving(voice) as server:
        got, answer = await server.json("POST", "/turns", body)
        assert (got, answer["error"], answer.get("path")) == (status, error, path)
        assert "Traceback" not in answer["message"]
        assert (await server.turn(user="ann", input="x", entry=1))[-1]["reason"] == "done"


async def test_an_unknown_route_and_method_are_refused_in_json(serving):
    async with serving({"a": voice, "b": voice}) as server:
        status, told = await server.json("GET", "/c/turns")
        assert (status, told["error"], told["message"]) == (
            404,
            "NotFound",
            "no route of this server; its flows: /a, /b.",
        )
        async with server.request("GET", "/turns") as response:
            assert (response.status, response.headers["allow"]) == (405, "OPTIONS, POST")
            assert json.loads(await response.read())["message"] == "this route takes OPTIONS, POST alone."


async def test_a_body_over_the_limit_is_refused_also_when_chunked(serving):
    async with serving(voice, max_body=1000) as server:
        assert (await server.json("POST", "/turns", {"user": "ann", "input": "x" * 2000, "entry": 1}))[0] == 413
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"POST /turns HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            await stream.send_all(b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n")
            assert b" 413 " in await stream.receive_some()


async def test_a_body_up_to_the_limit_is_taken(serving):
    async with serving(FakeASR()) as server:
        events = await server.turn(user="ann", input="AAAA" * 5 * 2**20)
    assert events[-1]["reason"] == "done"


async def test_an_error_names_its_stage_and_ends_the_turn(serving, caplog):
    async with serving(FakeLLM("hi {}").shown() >> Failing("out of paper")) as server:
        events = await server.turn(user="ann", input="x")
    *_, error, ended = events
    assert (error["type"], error["stage"], error["error"], error["message"]) == (
        "error", "failing", "RuntimeError", "out of paper",
    )  # fmt: skip
    assert ended["reason"] == "error"
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 1
    assert "out of paper" in str(logged[0].exc_info)


async def test_a_client_that_goes_away_ends_its_turn(serving):
    left = trio.Event()

    @module
    class Watched(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            try:
                await turn.reply(text)
                await trio.sleep_forever()
            finally:
                left.set()
            return text

    async with serving(Watched()) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "x"}') as response:
            await response.until("text")
        with trio.fail_after(5):
            await left.wait()


async def test_interrupt_ends_the_turn_and_says_which(serving):
    async with serving(Waits()) as server:
        assert await server.json("POST", "/interrupt", {"user": "ann"}) == (200, {"turn": None})
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "x"}') as response:
            await response.until("text")
            assert await server.json("POST", "/interrupt", {"user": "ann"}) == (200, {"turn": 1})
            rest = [event async for event in response.events()]
        assert [(event["type"], event["reason"]) for event in rest] == [("turn.ended", "interrupted")]


async def test_a_new_turn_of_a_user_ends_the_one_before_and_no_other_users(serving):
    async with serving(Waits()) as server:
        reasons: dict[str, str] = {}

        async def ask(user: str, text: str, started: trio.Event) -> None:
            body = json.dumps({"user": user, "input": text}).encode()
            async with server.request("POST", "/turns", body) as response:
                async for event in response.events():
                    if event["type"] == "text":
                        assert event["text"] == text
                        started.set()
                    reasons[text] = event.get("reason", "")

        async with trio.open_nursery() as nursery:
            for user, text in (("ann", "first"), ("bob", "his"), ("ann", "second")):
                started = trio.Event()
                nursery.start_soon(ask, user, text, started)
                await started.wait()
            assert reasons == {"first": "interrupted", "his": "", "second": ""}
            for user in ("ann", "bob"):
                await server.json("POST", "/interrupt", {"user": user})
    assert reasons == {"first": "interrupted", "his": "interrupted", "second": "interrupted"}


async def test_a_history_outlives_the_request(serving):
    async with serving(FakeLLM("{n} messages before {}")) as server:
        for before, text in ((0, "a"), (2, "b")):
            events = await server.turn(user="ann", input=text)
            said = "".join(event["text"] for event in events if event["type"] == "text")
            assert said == f"{before} messages before {text}"
        other = await server.turn(user="bob", input="c")
    assert "".join(event["text"] for event in other if event["type"] == "text") == "0 messages before c"


async def test_a_full_server_says_when_to_come_again(serving):
    async with serving(Waits(), max_sessions=1) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "x"}') as response:
            await response.until("text")
            body = b'{"user": "bob", "input": "x"}'
            async with server.request("POST", "/turns", body) as refused:
                assert (refused.status, refused.headers["retry-after"]) == (503, "1")


async def test_a_turn_that_takes_too_long_ends_as_timeout(serving):
    async with serving(Waits(), turn_s=0.05) as server:
        events = await server.turn(user="ann", input="x")
    assert events[-1]["reason"] == "timeout"


async def test_a_turn_whose_budget_is_up_says_who_was_late_and_ends_as_timeout(serving, caplog):
    async with serving(FakeLLM("hi").shown() >> Pause(60).budget(first_reply_s=0.05)) as server:
        *_, failed, ended = await server.turn(user="ann", input="x")
        assert (failed["type"], failed["stage"], failed["error"]) == ("error", "pause", "BudgetExceeded")
        assert failed["message"] == "no reply within 0.05 s: pause has given nothing."
        assert (ended["type"], ended["reason"]) == ("turn.ended", "timeout")
        assert (await server.turn(user="ann", input="y"))[-1]["reason"] == "timeout"


async def test_fifty_users_at_once_each_get_their_own_answers(serving):
    async with serving(FakeLLM("You said {}.").shown() >> FakeTTS()) as server:

        async def user(name: str) -> None:
            for number in range(3):
                events = await server.turn(user=name, input=f"{name}-{number}")
                said = "".join(event["text"] for event in events if event["type"] == "text")
                assert said == f"You said {name}-{number}."
                assert events[-1]["reason"] == "done"

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for index in range(50):
                    nursery.start_soon(user, f"user{index}")


async def test_several_flows_each_have_a_prefix_and_the_first_the_root_too(serving):
    async with serving({"voice": voice, "live": Latest(FakeLLM("live {}"))}) as server:
        for path, said in (("/turns", "You said x."), ("/voice/turns", "You said x."), ("/live/turns", "live x")):
            events = await server.turn(path, user="ann", input="x", entry=0 if "live" in path else 1)
            assert "".join(event["text"] for event in events if event["type"] == "text") == said
        assert len(server.said) == 4  # two reports and the URL


async def test_the_reply_of_an_item_without_a_json_form_is_an_error_of_its_stage(serving):
    @module
    def odd(text: str) -> object:
        return object()

    async with serving(odd) as server:
        events = await server.turn(user="ann", input="x")
    assert [event["type"] for event in events] == ["turn.started", "error", "turn.ended"]
    assert events[1]["stage"] == "odd"


def a_list_in_itself() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize(("item", "error"), [("\ud83d", "UnicodeEncodeError"), (a_list_in_itself(), "RecursionError")])
async def test_an_item_that_cannot_be_encoded_is_an_error_and_the_turn_goes_on(serving, item, error):
    @module
    def odd(text: str) -> Iterator[object]:
        yield item
        yield "the rest"

    async with serving(odd) as server:
        events = await server.turn(user="ann", input="x")
        body = b'{"user": "ann", "input": "x"}'
        async with server.request("POST", "/turns", body, Accept="text/event-stream") as response:
            records = (await response.read()).decode()
    assert [event["type"] for event in events] == ["turn.started", "error", "text", "turn.ended"]
    assert (events[1]["stage"], events[1]["error"]) == ("odd", error)
    assert "event: error\n" in records


async def test_a_fault_of_the_server_itself_is_told_and_logged(serving, monkeypatch, caplog):
    def fails_at_text(event: Event) -> bytes:
        if event.type == "text":
            raise LookupError("a fault of ours")
        return encode_line(event)

    monkeypatch.setattr("ezflow.server.turns.encode_line", fails_at_text)
    async with serving(FakeLLM("hi {}")) as server:
        events = await server.turn(user="ann", input="x")
    assert [event["type"] for event in events] == ["turn.started", "error", "turn.ended"]
    assert [event["seq"] for event in events] == [0, 1, 2]
    assert (events[1]["error"], events[1]["message"]) == ("LookupError", "a fault of ours")
    assert events[2]["reason"] == "error"
    assert "its reply failed" in caplog.text


async def test_a_shutdown_refuses_new_turns_and_ends_the_running_ones_with_their_last_event(serving):
    async with serving(Waits(), grace_s=1.0) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "x"}') as response:
            await response.until("text")
            server.stop.set()
            status, refused = await server.json("POST", "/turns", {"user": "bob", "input": "x"})
            assert (status, refused["error"]) == (503, "ShuttingDown")
            assert (await server.json("GET", "/health/ready"))[0] == 503
            assert (await server.json("GET", "/health/live"))[0] == 200
            rest = [event async for event in response.events()]
    assert [(event["type"], event["reason"]) for event in rest] == [("turn.ended", "interrupted")]


async def test_a_shutdown_waits_for_a_turn_that_ends_within_the_grace(serving):
    @module
    async def held(text: str) -> str:
        await release.wait()
        return text

    release = trio.Event()
    async with serving(held, grace_s=20.0) as server:
        async with server.request("POST", "/turns", b'{"user": "ann", "input": "x"}') as response:
            await response.until("turn.started")
            server.stop.set()
            assert (await server.json("GET", "/health/ready"))[0] == 503
            release.set()
            rest = [event async for event in response.events()]
        assert [event["type"] for event in rest] == ["text", "turn.ended"]


async def test_a_pause_does_not_truncate_a_stream(serving):
    async with serving(FakeLLM("a b c", each_s=0.02) >> Pause(0.01)) as server:
        events = await server.turn(user="ann", input="x")
    assert "".join(event["text"] for event in events if event["type"] == "text") == "a b c"


async def test_events_come_as_server_sent_events_where_they_are_asked_for(serving):
    async with serving(FakeLLM("hi {}")) as server:
        body = b'{"user": "ann", "input": "x"}'
        async with server.request("POST", "/turns", body, Accept="text/event-stream") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            records = (await response.read()).decode().split("\n\n")
    assert records.pop() == ""
    for seq, record in enumerate(records):
        identity, kind, data = (line.partition(": ")[2] for line in record.split("\n"))
        assert identity == f"1:{seq}"
        assert json.loads(data)["type"] == kind
    assert json.loads(data)["reason"] == "done"


async def test_a_servers_turns_can_be_observed(serving):
    class Counts(Instrument):
        def __init__(self) -> None:
            self.ended: list[str] = []

        def turn_ended(self, turn: Any, reason: str) -> None:
            self.ended.append(f"{turn.user} {reason}")

    counts = Counts()
    async with serving(FakeLLM("hi"), instruments=(counts,)) as server:
        await server.turn(user="ann", input="x")
    assert counts.ended == ["ann done"]
