"""ezflow/observe/metrics.py: what a scraper reads; checked by prometheus-client's own parser and by promtool."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from ezflow import Latest, Module, Turn, module
from ezflow.observe.lag import Lag
from ezflow.observe.metrics import Metrics
from ezflow.observe.observer import Observer
from ezflow.observe.status import FIGURES, Statuses
from ezflow.service import Limits, Service, open_flows
from ezflow.testing import Failing, FakeLLM, FakeTTS, Pause

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMTOOL = shutil.which("promtool")


@attrs.frozen
class Watched:
    """Flows that are open and observed, and what is told of them."""

    services: Mapping[str, Service]
    metrics: Metrics
    refused: Counter[int]

    def text(self, accept: str = "") -> str:
        return self.metrics.exposition(accept)[0].decode()

    def value(self, name: str, **labels: str) -> float:
        """Of the one time series with these labels."""
        (found,) = [
            sample.value
            for family in parse(self.text())
            for sample in family.samples
            if (sample.name, sample.labels) == (name, labels)
        ]
        return found


@asynccontextmanager
async def watched(flows: Mapping[str, Any], **limits: Any) -> AsyncIterator[Watched]:
    stages = {name: [stage.name for stage in flow.stages] for name, flow in flows.items()}
    observer, refused = Observer(stages, now=trio.current_time), Counter[int]()
    async with open_flows(flows, Limits(instruments=(observer,), **limits)) as services:
        places = next(iter(services.values())).sessions
        statuses = Statuses(services.values())
        yield Watched(services, Metrics("1.2.3", observer, Lag(0.0), places, refused, statuses), refused)


@module
class Pooled(Module[str, str]):
    """Holds something."""

    held: float = 3.0

    def status(self) -> Mapping[str, float]:
        return {"connections_in_use": self.held}

    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class Confused(Module[str, str]):
    def status(self) -> Mapping[str, float]:
        raise OSError("what do I hold?")

    async def process(self, text: str, turn: Turn) -> str:
        return text


async def test_every_name_ends_in_its_unit_and_all_parse_in_both_formats(autojump_clock):
    async with watched({"voice": FakeLLM() >> FakeTTS(), "live": Latest(FakeLLM() >> FakeTTS())}) as seen:
        async with seen.services["voice"].session("ann") as session:
            async for _ in session.turn("x"):
                pass
        ours = [family for family in parse(seen.text()) if family.name.startswith("ezflow_")]
        assert len(ours) > 20
        for family in ours:
            assert family.documentation.endswith("."), family.name
            if family.type == "counter":
                assert all(sample.name.endswith("_total") for sample in family.samples), family.name
            if family.type == "histogram":
                assert family.name.endswith("_seconds"), family.name
        text, media_type = seen.metrics.exposition(OPENMETRICS)
        assert media_type.startswith("application/openmetrics-text")
        assert text.decode().endswith("# EOF\n")
        assert {family.name for family in parse_openmetrics(text.decode())} >= {family.name for family in ours} - {""}


async def test_a_turn_shows_in_the_figures_of_its_flow_and_stages(autojump_clock):
    async with watched({"voice": FakeLLM("a b", first_s=0.3).shown() >> FakeTTS(0.2)}) as seen:
        async with seen.services["voice"].session("ann") as session, session.turn("x") as turn:
            await trio.testing.wait_all_tasks_blocked()
            assert seen.value("ezflow_turns_running", flow="voice") == 1
            assert seen.value("ezflow_sessions") == seen.value("ezflow_session_holders") == 1
            assert seen.value("ezflow_ear_events", flow="voice") == 1  # turn.started
            async for _ in turn:
                pass
        assert seen.value("ezflow_turns_running", flow="voice") == 0
        assert seen.value("ezflow_turns_total", flow="voice", result="done") == 1
        assert seen.value("ezflow_turns_total", flow="voice", result="error") == 0
        assert seen.value("ezflow_turn_duration_seconds_bucket", flow="voice", le="1.0") == 1
        assert seen.value("ezflow_turn_duration_seconds_bucket", flow="voice", le="0.5") == 0
        assert seen.value("ezflow_stage_items_out_total", flow="voice", stage="fake_llm") == 2
        assert seen.value("ezflow_stage_replies_total", flow="voice", stage="fake_tts") == 2
        first = {"flow": "voice", "stage": "fake_llm"}
        assert seen.value("ezflow_stage_first_output_seconds_sum", **first) == pytest.approx(0.3)
        waited = {"flow": "voice", "stage": "fake_tts", "what": "input"}
        assert seen.value("ezflow_stage_wait_seconds_total", **waited) == pytest.approx(0.3)
        assert seen.value("ezflow_build_info", version="1.2.3") == 1


async def test_full_queues_show_together_and_the_fullest(autojump_clock):
    async with watched({"voice": Pause(0.0) >> Pause(99.0).named("slow")}, capacity=4) as seen:
        async with seen.services["voice"].session("ann") as ann, seen.services["voice"].session("bob") as bob:
            async with ann.live() as one, bob.live() as other:
                for live, count in ((one, 4), (other, 2)):
                    for number in range(count):
                        await live.send(str(number))
                await trio.testing.wait_all_tasks_blocked()
                labels = {"flow": "voice", "stage": "slow"}
                assert seen.value("ezflow_join_items", **labels) == 3 + 1
                assert seen.value("ezflow_join_items_fullest_ratio", **labels) == 0.75


async def test_errors_interrupts_and_refusals_are_counted(autojump_clock, caplog):
    async with watched({"bad": Failing(), "live": Latest(Pause(9.0))}) as seen:
        async with seen.services["bad"].session("ann") as session:
            async for _ in session.turn("x"):
                pass
        async with seen.services["live"].session("ann") as session, session.live() as live:
            await live.send("x")
            await trio.testing.wait_all_tasks_blocked()
            await live.interrupt()
        seen.refused.update([401, 429, 429])
        assert seen.value("ezflow_stage_errors_total", flow="bad", stage="failing", error="RuntimeError") == 1
        assert seen.value("ezflow_interrupt_silence_seconds_count", flow="live") == 2  # and the end of the turn
        assert seen.value("ezflow_refused_requests_total", status="429") == 2


async def test_what_modules_hold_is_told_once_under_their_first_stage(autojump_clock, caplog):
    flows = {"a": Pooled() >> Pooled(), "b": Pooled() >> Pooled(5.0) >> Confused()}
    async with watched(flows) as seen:
        for _ in range(2):
            text = seen.text()
        assert text.count("\nezflow_module_status{") == 2
        assert seen.value("ezflow_module_status", flow="a", stage="pooled", what="connections_in_use") == 3
        assert seen.value("ezflow_module_status", flow="b", stage="pooled_2", what="connections_in_use") == 5
    assert caplog.text.count("stage confused cannot tell its status") == 1


async def test_a_module_that_invents_names_is_cut_short(autojump_clock):
    @module
    class Talkative(Module[str, str]):
        def status(self) -> Mapping[str, float]:
            return {f"figure_{number}": number for number in range(1000)}

        async def process(self, text: str, turn: Turn) -> str:
            return text

    async with watched({"": Talkative()}) as seen:
        assert seen.text().count("\nezflow_module_status{") == FIGURES
        assert seen.value("ezflow_module_status", flow="default", stage="talkative", what="figure_1") == 1


async def test_the_number_of_series_does_not_grow_with_users_and_turns(autojump_clock):
    async with watched({"voice": FakeLLM() >> FakeTTS()}) as seen:
        counts = []
        for round_of in range(3):
            for number in range(20):
                async with seen.services["voice"].session(f"user-{round_of}-{number}") as session:
                    async for _ in session.turn("x"):
                        pass
            counts.append(len([line for line in seen.text().splitlines() if line.startswith("ezflow_")]))
        assert len(set(counts)) == 1
        assert "user-" not in seen.text()


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        OPENMETRICS,
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=9.9.9; escaping=x; escaping",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "text/plain; version=" + "9" * 200,
        ";;,;=",
    ],
)
async def test_whatever_is_accepted_an_answer_comes(accept, autojump_clock):
    async with watched({"voice": FakeLLM()}) as seen:
        text, media_type = seen.metrics.exposition(accept)
        assert b"ezflow_turns_total" in text
        assert "\n" not in media_type


async def test_two_servers_in_one_process_do_not_collide(autojump_clock):
    async with watched({"voice": FakeLLM()}) as one, watched({"voice": FakeLLM()}) as other:
        async with one.services["voice"].session("ann") as session:
            async for _ in session.turn("x"):
                pass
        assert one.value("ezflow_turns_total", flow="voice", result="done") == 1
        assert other.value("ezflow_turns_total", flow="voice", result="done") == 0


@pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on the PATH: the metrics are not linted (apt install prometheus)"
)
async def test_promtool_finds_no_fault(autojump_clock, caplog):
    async with watched({"voice": Pooled() >> FakeLLM() >> FakeTTS(), "bad": Failing()}) as seen:
        for name in ("voice", "bad"):
            async with seen.services[name].session("ann") as session:
                async for _ in session.turn("x"):
                    pass
        seen.refused.update([401])
        text = seen.text()
    done = subprocess.run(  # noqa: ASYNC221  (nothing else runs, and trio's clock stands still meanwhile)
        [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
