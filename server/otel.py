"""Spans by OpenTelemetry's SDK, sent as OTLP over HTTP. Needs the extra `otel`; imported by `server.tracing` alone.

Endpoint, headers, sampling and the rest are the SDK's own variables (OTEL_…). What cannot be sent is logged and lost,
and holds nothing up: spans are sent by a thread of the SDK's, from a bounded queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.tracing import Attribute, Kind, Span

KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
CLOSE_S = 3.0
_PROPAGATOR = TraceContextTextMapPropagator()


def _ns(at: float | None) -> int:
    return int((time.time() if at is None else at) * 1e9)


class Exported:
    """See `server.tracing.Tracing`."""

    def __init__(self, process: str, environment: Mapping[str, str]) -> None:
        """environment: where the SDK looks, too."""
        own: dict[str, Any] = {"service.version": version("perennial")}
        resources = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in resources:
            own["service.name"] = f"perennial-{process}"
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("perennial", version("perennial"))

    @property
    def on(self) -> bool:
        """It is."""
        return True

    def begin(
        self, name: str, kind: Kind, within: str | None = None, at: float | None = None, **attributes: Attribute
    ) -> Span:
        """See Tracing."""
        context = Context()
        if within is not None:
            context = _PROPAGATOR.extract({"traceparent": within}, context)
        started = self._tracer.start_span(
            name, context, KINDS[kind], {f"perennial.{k}": v for k, v in attributes.items()}, start_time=_ns(at)
        )
        return _Exported(started)

    def close(self) -> None:
        """See Tracing. In a thread of its own: the SDK's own limits are far longer."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class _Exported:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    @property
    def within(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._span, Context()))
        return carrier.get("traceparent")

    def note(self, event: str, at: float | None = None) -> None:
        self._span.add_event(event, timestamp=_ns(at))

    def end(
        self, at: float | None = None, *, name: str | None = None, error: str | None = None, **attributes: Attribute
    ) -> None:
        if not self._span.is_recording():
            return
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes({f"perennial.{k}": v for k, v in attributes.items()})
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end(_ns(at))
