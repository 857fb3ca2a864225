"""Sending a server's traces to a collector, over OTLP/HTTP."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from ..errors import MissingDependency
from ..instrument import Instrument
from .config import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["ENDS_S", "traced", "wanted"]

log = logging.getLogger("ezflow.server")

# How long one attempt to send may take; and how long, at the end, there may be attempts.
EXPORT_S = 3.0
FLUSH_S = 3.0
# How long the end of it may take in all.
ENDS_S = FLUSH_S + EXPORT_S + 1.0


@asynccontextmanager
async def traced(settings: Settings) -> AsyncGenerator[Settings, None]:
    """The settings, with an instrument that sends traces, if they or the environment want them.

    Spans are sent by a thread of its own, in batches, from a bounded queue. It ends with the block, within ENDS_S:
    what could not be sent until then is lost, and logged.
    Raises: MissingDependency if the settings want traces and OpenTelemetry is not installed.
    """
    made = _made(settings) if wanted(settings) else None
    if made is None:
        yield settings
        return
    provider, exporter, traces = made
    try:
        yield attrs.evolve(settings, instruments=(*settings.instruments, traces))
    finally:
        with trio.CancelScope(shield=True):
            await _end(provider, exporter)


def _made(settings: Settings) -> tuple[TracerProvider, SpanExporter, Instrument] | None:
    """What makes and sends spans; None where it is not installed, and only the environment asks for it."""
    try:
        from ..traces import Traces

        provider, exporter = _exporting(settings.traces)
    except ModuleNotFoundError as error:
        missing = MissingDependency("Settings(traces=...)", error.name or "opentelemetry-sdk", "traces")
        if settings.traces is not None:
            raise missing from error
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but no traces are sent: %s", missing)
        return None
    traces = Traces(provider.get_tracer("ezflow"), users=settings.trace_users)
    return provider, exporter, traces


def wanted(settings: Settings, environment: Mapping[str, str] = os.environ) -> bool:
    if settings.traces is not None:
        return settings.traces != "off"
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    off = off or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return not off and any(environment.get(name) for name in names)


def _exporting(url: str | None) -> tuple[TracerProvider, SpanExporter]:
    """What makes spans, and what sends them. Nothing of it is global: a program may have another beside it."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from .. import __version__

    class Exporter(OTLPSpanExporter):
        """May be told twice that it ends: by its processor, and before that by who waits no longer."""

        _over = False

        def shutdown(self) -> None:
            if not self._over:
                self._over = True
                super().shutdown()  # type: ignore[no-untyped-call]

    endpoint = None if url is None else url if url.endswith("/v1/traces") else f"{url.rstrip('/')}/v1/traces"
    exporter = Exporter(endpoint=endpoint, timeout=EXPORT_S)
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    attributes = {"service.version": __version__} | ({} if named else {"service.name": "ezflow"})
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


async def _end(provider: TracerProvider, exporter: SpanExporter) -> None:
    """Send what there is, and end the thread that sends."""
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await trio.sleep(FLUSH_S)
            exporter.shutdown()  # no attempt begins any more

        nursery.start_soon(give_up)
        with trio.move_on_after(ENDS_S) as patience:
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)
        if patience.cancelled_caught:
            log.warning("the collector of traces neither takes nor refuses them: its thread is left")
        nursery.cancel_scope.cancel()
