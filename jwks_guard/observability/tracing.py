"""The observer that makes spans and histograms by OpenTelemetry; needs opentelemetry-api."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, Tracer, TracerProvider

from jwks_guard import __version__
from jwks_guard.base.events import printable
from jwks_guard.base.histogram import BOUNDS
from jwks_guard.base.observer import Activity, Kind

ISSUER, KID, OUTCOME = "jwks_guard.issuer", "jwks_guard.kid", "jwks_guard.outcome"
FLEET = "jwks_guard.fleet"
REFUSED = "jwks_guard.token_refused"
_SUBJECTS: Mapping[Kind, str] = {"fetch": ISSUER, "exchange": FLEET, "management": ""}
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(slots=True)
class OpenTelemetryObserver:
    """Makes a span of each fetch of a key set, exchange with a fleet and Management API call.

    The current span of a request gets the issuer, the kid and the outcome of its token as
    attributes. Give it to TokenVerifier or SigningKeysClient as `observer`; one object serves all
    of a process. docs/tracing.md lists what it makes. Nothing is sent along with a request.

    Arguments:
        tracer_provider: makes the spans; by default the global one.
        meter_provider: makes the histograms of durations; by default the global one.

    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    _tracer: Tracer = field(init=False, repr=False, compare=False)
    _durations: Mapping[Kind, Histogram] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._tracer = trace.get_tracer("jwks_guard", __version__, self.tracer_provider)
        meter = metrics.get_meter("jwks_guard", __version__, self.meter_provider)
        kinds: tuple[Kind, ...] = ("fetch", "exchange", "management")
        self._durations = {
            kind: meter.create_histogram(
                f"jwks_guard.{kind}.duration",
                "s",
                f"How long each {kind} took.",
                explicit_bucket_boundaries_advisory=BOUNDS,
            )
            for kind in kinds
        }

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """Make a span of `activity`: a child of its caller's, or a root with a link to that one."""
        known = _described(activity)
        span = self._begun(activity, known)
        begun = perf_counter()
        try:
            # An exception may quote what must not be shown: the activity says what went wrong.
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            _end(span, activity)
            about = {OUTCOME: activity.outcome}
            if subject := _SUBJECTS[activity.kind]:
                about[subject] = activity.subject
            if activity.error is not None:
                about["error.type"] = activity.error
            self._durations[activity.kind].record(perf_counter() - begun, about)

    def accepted(self, issuer: str, kid: str) -> None:
        """Say so on the request's span."""
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(_about(issuer, kid, "accepted"))

    def refused(self, issuer: str, kid: str | None, code: str) -> None:
        """Say so on the request's span, and add an event to it."""
        span = trace.get_current_span()
        if span.is_recording():
            about = _about(issuer, kid, code)
            span.set_attributes(about)
            span.add_event(REFUSED, about)

    def answered(self, code: str) -> None:
        """Say so on the request's span."""
        trace.get_current_span().set_attribute(OUTCOME, code)

    def _begun(self, activity: Activity, known: Mapping[str, str | int]) -> Span:
        kind = SpanKind.INTERNAL if activity.kind == "exchange" else SpanKind.CLIENT
        name = f"jwks_guard.{activity.kind}"
        if activity.kind == "management":
            name = f"{known['http.request.method']} {known['url.template']}"
        if activity.awaited:
            return self._tracer.start_span(name, kind=kind, attributes=known)
        cause = trace.get_current_span().get_span_context()
        links = [Link(cause)] if cause.is_valid else []
        return self._tracer.start_span(name, Context(), kind, known, links)


def _about(issuer: str, kid: str | None, outcome: str) -> dict[str, str]:
    about = {ISSUER: issuer, OUTCOME: outcome}
    if kid is not None:
        about[KID] = printable(kid) or ""  # a lone surrogate would break the export of all spans
    return about


def _described(activity: Activity) -> dict[str, str | int]:
    """The attributes of its span that are known when it begins."""
    known = dict(activity.details)
    if subject := _SUBJECTS[activity.kind]:
        known[subject] = activity.subject
    with suppress(ValueError):  # an issuer may be any string
        url = urlsplit(activity.url)
        if url.hostname is not None and url.scheme in _DEFAULT_PORTS:
            known["server.address"] = url.hostname
            known["server.port"] = url.port or _DEFAULT_PORTS[url.scheme]
    return known


def _end(span: Span, activity: Activity) -> None:
    if activity.kind == "management" and activity.outcome.isdecimal():
        span.set_attribute("http.response.status_code", int(activity.outcome))
    else:
        span.set_attribute(OUTCOME, activity.outcome)
    if activity.error is not None:
        span.set_attribute("error.type", activity.error)
        span.set_status(StatusCode.ERROR, activity.reason)
    span.end()
