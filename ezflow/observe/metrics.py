"""Prometheus metrics: what an observer has counted, and what is so at this moment, put into words when it is scraped.

Labels are the names of flows and stages, and what the code knows: results, classes of errors, statuses. None comes
from a client, so the number of time series does not grow with users or turns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily as Counted
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily as Sized
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..place import Places
from .histogram import Histogram
from .lag import Lag
from .observer import RESULTS, WAITS, Observer, StageFigures
from .status import Status

__all__ = ["Metrics"]

# What the flow of a server that has but one, without a name, is called: an empty label is none.
UNNAMED = "default"
FLOW, STAGE = ("flow",), ("flow", "stage")


@attrs.frozen(eq=False)
class Metrics(Collector):
    """All that one server tells, in a registry of its own.

    `refused`: how often a request was, by status. `status`: asks the modules what they hold.
    """

    version: str
    observer: Observer
    lag: Lag
    places: Places
    refused: Mapping[int, int]
    status: Callable[[], Iterable[Status]]
    registry: CollectorRegistry = attrs.field(init=False, factory=CollectorRegistry)

    def __attrs_post_init__(self) -> None:
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type: OpenMetrics where the scraper accepts that, else Prometheus' own."""
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, media_type = choose_encoder("")
        return encode(self.registry), media_type

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that a registry need not collect to know the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        info = Gauge("ezflow_build_info", "The version of ezflow; always 1.", labels=["version"])
        info.add_metric([self.version], 1)
        yield info
        yield from self._flows()
        yield from self._stages()
        yield from self._queues()
        yield from self._server()
        yield from self._loop()

    def _flows(self) -> Iterator[Metric]:
        running = Gauge("ezflow_turns_running", "Turns that run.", labels=FLOW)
        turns = Counted("ezflow_turns", "Turns that ended, by what clients were told.", labels=(*FLOW, "result"))
        durations, silences = [], []
        for name, flow in self.observer.flows.items():
            label = name or UNNAMED
            running.add_metric([label], flow.running)
            for result in RESULTS:
                turns.add_metric([label, result], flow.results[result])
            durations.append(((label,), flow.duration))
            silences.append(((label,), flow.silence))
        yield running
        yield turns
        yield _sized("ezflow_turn_duration_seconds", "From a turn's start until its stages have left.", FLOW, durations)
        yield _sized(
            "ezflow_interrupt_silence_seconds",
            "From the request to interrupt (a client's, its leaving, a newer item or turn) until all stages have left.",
            FLOW,
            silences,
        )

    def _stages(self) -> Iterator[Metric]:
        stages = {(flow or UNNAMED, stage): of for (flow, stage), of in self.observer.stages().items()}
        counts: Sequence[tuple[str, str, Callable[[StageFigures], int]]] = (
            ("items_in", "Items that a stage has taken.", lambda of: of.items_in),
            ("items_out", "Items that a stage has given.", lambda of: of.items_out),
            ("replies", "What a stage has said to clients.", lambda of: of.replies),
        )
        for name, about, count in counts:
            family = Counted(f"ezflow_stage_{name}", about, labels=STAGE)
            for labels, of in stages.items():
                family.add_metric(labels, count(of))
            yield family
        waits = Counted(
            "ezflow_stage_wait_seconds",
            "Time that a stage has waited: for input, for room behind it, for the client to take a reply.",
            labels=(*STAGE, "what"),
        )
        errors = Counted("ezflow_stage_errors", "Errors that ended a stage, by class.", labels=(*STAGE, "error"))
        for labels, of in stages.items():
            for what in WAITS:
                waits.add_metric((*labels, what), of.waited_s[what])
            for error, count_of in of.errors.items():
                errors.add_metric((*labels, error), count_of)
        yield waits
        yield errors
        yield _sized(
            "ezflow_stage_first_output_seconds",
            "From the first item that a stage takes after it gave one, until it gives the next.",
            STAGE,
            [(labels, of.first_output) for labels, of in stages.items()],
        )

    def _queues(self) -> Iterator[Metric]:
        joins: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        ears: dict[tuple[str, ...], list[tuple[int, int]]] = {(name or UNNAMED,): [] for name in self.observer.flows}
        for flow, stage, held, capacity in self.observer.joins():
            joins[flow or UNNAMED, stage].append((held, capacity))
        for flow, ear in self.observer.ears():
            ears[(flow or UNNAMED,)].append((ear.held, ear.capacity))
        yield from _fill("ezflow_join_items", "Items in the joins before a stage, of all running turns", STAGE, joins)
        yield from _fill(
            "ezflow_ear_events", "Events that clients have not taken yet, of all running turns", FLOW, ears
        )

    def _server(self) -> Iterator[Metric]:
        places = list(self.places.values())
        threads = self.places.threads.statistics()
        yield Gauge("ezflow_sessions", "Users that have a session.", len(places))
        yield Gauge("ezflow_session_holders", "Requests and sockets that hold one.", sum(one.leases for one in places))
        yield Gauge("ezflow_threads_busy", "Worker threads of blocking modules at work.", threads.borrowed_tokens)
        yield Gauge("ezflow_threads_waiting", "Blocking calls that wait for a thread.", threads.tasks_waiting)
        refused = Counted("ezflow_refused_requests", "Requests and sockets refused, by status.", labels=["status"])
        for status, count in self.refused.items():
            refused.add_metric([str(status)], count)
        yield refused
        held = Gauge("ezflow_module_status", "What a module holds, such as connections.", labels=(*STAGE, "what"))
        for module in self.status():
            for what, value in module.values.items():
                held.add_metric([module.flow or UNNAMED, module.stage, what], value)
        yield held

    def _loop(self) -> Iterator[Metric]:
        late = [((), self.lag.late)]
        yield _sized("ezflow_loop_lag_seconds", "How late the event loop comes to what is due.", (), late)
        most = self.lag.take_max_s()
        yield Gauge("ezflow_loop_lag_max_seconds", "The most that it was late since the scrape before.", most)
        yield Counted("ezflow_loop_blocks", "How often it stood still for longer than block_s.", self.lag.blocks)


def _sized(name: str, about: str, names: Sequence[str], found: Iterable[tuple[Sequence[str], Histogram]]) -> Metric:
    family = Sized(name, about, labels=names)
    for labels, histogram in found:
        buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in histogram.buckets()]
        family.add_metric(labels, buckets, histogram.total)
    return family


def _fill(
    name: str, about: str, names: Sequence[str], found: Mapping[tuple[str, ...], list[tuple[int, int]]]
) -> Iterator[Metric]:
    """How much queues hold together, and how full the fullest is."""
    held = Gauge(name, f"{about}.", labels=names)
    fullest = Gauge(f"{name}_fullest_ratio", f"{about}: the fullest, as a part of what it may hold.", labels=names)
    for labels, queues in found.items():
        held.add_metric(labels, sum(items for items, _ in queues))
        fullest.add_metric(labels, max((items / max(1, most) for items, most in queues), default=0.0))
    yield held
    yield fullest
