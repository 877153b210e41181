"""Optional OpenTelemetry spans: one per request, with one per stage inside it.

The spans are created after the answer from times that are measured anyway, so disabled tracing
costs nothing. OpenTelemetry's own environment variables set where they are sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from twinlens.errors import MissingDependencyError

_NANO = 1_000_000_000


class Tracer:
    """Records requests as spans."""

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError:
            raise MissingDependencyError(
                "tracing needs OpenTelemetry; run: pip install 'twinlens[tracing]'"
            ) from None
        self._trace = trace
        self._propagate = propagate
        self._tracer = trace.get_tracer("twinlens", tracer_provider=provider)

    def record(
        self,
        name: str,
        seconds: float,
        stages: Mapping[str, float],
        attributes: Mapping[str, str | int],
        headers: Mapping[str, str],
    ) -> None:
        """Record a request that has just ended, and its stages one after another."""
        ended = time.time_ns()
        began = ended - int(seconds * _NANO)
        parent = self._propagate.extract(headers)
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            start_time=began,
            attributes=dict(attributes),
        )
        within = self._trace.set_span_in_context(span)
        for stage, length in stages.items():
            child = self._tracer.start_span(stage, context=within, start_time=began)
            began += int(length * _NANO)
            child.end(end_time=min(began, ended))
        span.end(end_time=ended)


def start_exporting() -> Any:
    """Return a provider that sends spans over OTLP to the endpoint set in the environment."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingDependencyError(
            "tracing needs OpenTelemetry's exporter; run: pip install 'twinlens[tracing]'"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "twinlens"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
