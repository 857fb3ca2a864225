"""Whether a server is up and its backends are: asked by orchestrators, and by EZPipe's heartbeat."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

from ezflow import Module, Turn, module
from ezflow.server.health import FRESH_S, Probes
from ezflow.service import Limits, open_flows
from ezflow.testing import FakeLLM

TOKEN = "a-token-of-more-than-16"


@attrs.define(eq=False)
class Backend:
    """What a module stands on: may be away, or hang."""

    problem: Exception | None = None
    hangs: bool = False
    asked: int = 0


@module
class Stands(Module[str, str]):
    backend: Backend
    mark: str = ""

    async def probe(self) -> None:
        self.backend.asked += 1
        if self.backend.hangs:
            await trio.sleep_forever()
        if self.backend.problem is not None:
            raise self.backend.problem

    async def process(self, text: str, turn: Turn) -> str:
        return text + self.mark


async def test_a_server_without_probes_is_ready_when_it_answers(serving):
    async with serving({"a": FakeLLM() >> FakeLLM("x"), "b": FakeLLM()}) as server:
        assert await server.json("GET", "/health/live") == (200, {"status": "live"})
        ready = {"status": "ready", "stages": ["fake_llm", "fake_llm_2"]}
        for path in ("/health/ready", "/a/health/ready"):
            assert await server.json("GET", path) == (200, ready)
        assert (await server.json("GET", "/b/health/ready"))[1]["stages"] == ["fake_llm"]


async def test_what_does_not_answer_is_named_and_its_flow_alone_is_unready(serving, caplog):
    backend = Backend(ConnectionRefusedError("nobody at 127.0.0.1:11434"))
    async with serving({"good": FakeLLM(), "bad": FakeLLM() >> Stands(backend)}) as server:
        for path in ("/health/ready", "/bad/health/ready"):
            async with server.request("GET", path) as response:
                told = json.loads(await response.read())
                assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert told["status"] == "unready"
            assert told["failing"] == {"stands": "ConnectionRefusedError: nobody at 127.0.0.1:11434"}
        assert (await server.json("GET", "/good/health/ready"))[0] == 200
        assert (await server.json("GET", "/health/live"))[0] == 200
    assert caplog.text.count("nobody at 127.0.0.1:11434") == 1  # when it changes, not whenever it is asked


async def test_why_is_told_to_those_alone_who_have_a_token(serving, caplog):
    async with serving(Stands(Backend(ValueError("of the inside"))), tokens=[TOKEN]) as server:
        for headers, told in (({}, False), ({"Authorization": f"Bearer {TOKEN}"}, True)):
            async with server.request("GET", "/health/ready", **headers) as response:
                assert response.status == 503
                assert ("of the inside" in (await response.read()).decode()) == told


async def test_a_probe_that_hangs_fails_after_its_time(serving, caplog):
    async with serving(Stands(Backend(hangs=True)), probe_s=0.05) as server:
        status, told = await server.json("GET", "/health/ready")
        assert (status, told["failing"]) == (503, {"stands": "no answer within 0.05 s"})
        assert await server.json("GET", "/heartbeat?user=ann") == (200, None)


async def test_the_heartbeat_pings_the_backends(serving):
    backend = Backend()
    async with serving(Stands(backend)) as server:
        assert await server.json("GET", "/heartbeat?user=ann") == (200, None)
    assert backend.asked == 1


async def test_backends_are_asked_once_a_second_however_often_the_server_is(autojump_clock):
    backend = Backend()
    flows = {"a": Stands(backend), "b": Stands(backend) >> Stands(backend, "!")}
    async with open_flows(flows, Limits()) as services, trio.open_nursery() as nursery:
        probes = Probes(services.values(), 1.0, nursery)
        async with trio.open_nursery() as askers:
            for _ in range(10):
                askers.start_soon(probes.ask, services.values())
        assert backend.asked == 2  # two different modules
        backend.problem = ValueError("away")
        assert await probes.ask([services["a"]]) == {}
        await trio.sleep(FRESH_S)
        assert await probes.ask([services["a"]]) == {"stands": "ValueError: away"}
        assert await probes.ask([services["b"]]) == {"stands": "ValueError: away", "stands_2": "ValueError: away"}


async def test_askers_who_leave_do_not_make_the_backends_be_asked_more_often(autojump_clock):
    backend = Backend(hangs=True)
    async with open_flows({"a": Stands(backend)}, Limits()) as services, trio.open_nursery() as nursery:
        probes = Probes(services.values(), 5.0, nursery)
        for _ in range(20):
            with trio.move_on_after(0.1):
                await probes.ask(services.values())
        assert backend.asked == 1
        assert await probes.ask(services.values()) == {"stands": "no answer within 5 s"}
        backend.hangs = False
        await trio.sleep(FRESH_S)
        assert await probes.ask(services.values()) == {}


async def test_a_probe_that_cannot_be_cancelled_keeps_nobody_waiting_and_is_not_asked_twice(autojump_clock):
    release = trio.Event()
    backend = Backend()

    @module
    class Stubborn(Module[str, str]):
        async def probe(self) -> None:
            backend.asked += 1
            with trio.CancelScope(shield=True):
                await release.wait()

        async def process(self, text: str, turn: Turn) -> str:
            return text

    async with open_flows({"a": Stubborn()}, Limits()) as services, trio.open_nursery() as nursery:
        probes = Probes(services.values(), 2.0, nursery)
        for _ in range(3):
            began = trio.current_time()
            assert await probes.ask(services.values()) == {"stubborn": "no answer within 2 s"}
            assert trio.current_time() - began <= 2.0
            await trio.sleep(5.0)
        assert backend.asked == 1
        release.set()


@pytest.mark.parametrize("problem", [RuntimeError(), KeyError("x")])
async def test_whatever_a_probe_raises_is_an_answer(serving, caplog, problem):
    async with serving(Stands(Backend(problem))) as server:
        status, told = await server.json("GET", "/health/ready")
    assert (status, told["failing"]["stands"].split(":")[0]) == (503, type(problem).__name__)
