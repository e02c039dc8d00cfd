"""What an OpenTelemetryObserver has made, as the SDK's in-memory exporters hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span

from jwks_guard.observability import OpenTelemetryObserver

ISSUER, KID, OUTCOME = "jwks_guard.issuer", "jwks_guard.kid", "jwks_guard.outcome"


class Telemetry:
    """Providers of a test's own, an observer that uses them, and what came of it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)

    @contextmanager
    def request(self, name: str = "GET /") -> Iterator[Span]:
        """A span as an instrumentation of the framework makes it."""
        with self.tracers.get_tracer("test").start_as_current_span(name) as span:
            yield span

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Those that have ended, of that name."""
        ended = self._exporter.get_finished_spans()
        return [span for span in ended if name in (None, span.name)]

    def points(self, name: str, **about: str) -> list[Any]:
        """The data points of a metric at this moment that have those attributes."""
        wanted = {f"jwks_guard.{key}": value for key, value in about.items()}
        return [
            point
            for metric in self._metrics()
            if metric.name == name
            for point in metric.data.data_points
            if wanted.items() <= dict(point.attributes or {}).items()
        ]

    def units(self) -> dict[str, str]:
        """The unit of each metric that has data points at this moment."""
        return {metric.name: metric.unit or "" for metric in self._metrics()}

    def _metrics(self) -> list[Metric]:
        data = self._reader.get_metrics_data()
        return [
            metric
            for resource in (data.resource_metrics if data is not None else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def value(self, name: str, **about: str) -> float:
        """The value of the only one."""
        (point,) = self.points(name, **about)
        value: float = point.value
        return value


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def links_of(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def id_of(span: Span | ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id
