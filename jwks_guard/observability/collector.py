"""The Prometheus collector of verifiers; needs prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from jwks_guard import __version__
from jwks_guard.base.histogram import Durations
from jwks_guard.observability.reading import STATUSES, Exchanges, Reading, Shown, shown
from jwks_guard.observability.shown_verifiers import AnyVerifier, ShownVerifiers
from jwks_guard.observability.workers import workers_of
from jwks_guard.readiness.usage import TIMED_EVERY


class VerifierCollector(Collector):
    """Shows verifiers in a registry: `REGISTRY.register(VerifierCollector(verifier))`.

    Everything is computed when the registry is scraped, from any thread. docs/metrics.md lists the
    metrics. A registry takes one such collector, so give it all verifiers of the process.

    Arguments:
        verifiers: TokenVerifier, SyncTokenVerifier or MultiIssuerVerifier objects. Those of one
            issuer are shown together: counters are added, and gauges show the worst of them.

    Where PROMETHEUS_MULTIPROC_DIR is set, the verifiers of all workers are shown together: make
    the collector when the worker starts, not when it is scraped.

    Raises ConfigurationError for none, and for anything else.

    """

    def __init__(self, *verifiers: AnyVerifier) -> None:
        self._stores = ShownVerifiers("VerifierCollector", verifiers)
        self._workers = workers_of(*verifiers)

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment; raises OSError where the workers' files can't be used."""
        if self._workers is not None:
            return families(self._workers.read())
        return families(shown(self._stores()))

    def describe(self) -> Iterator[Metric]:
        """The names of the metrics, for the registry; nothing is computed."""
        return families(Shown())


def families(now: Shown) -> Iterator[Metric]:
    """The metrics of what is shown.

    What a token names is no label: a million forged kids make no time series.
    """
    yield InfoMetricFamily(
        "jwks_guard_build", "The version of jwks_guard.", value={"version": __version__}
    )
    yield from _sums(now.issuers)
    yield from _exchanges(now.fleets)
    yield from _health(now.issuers)
    yield from _keys(now.issuers)


def _sums(shown: Sequence[Reading]) -> Iterator[Metric]:
    verifications = _counter(
        "verifications", "Verifications: accepted, or the code of the error.", "outcome"
    )
    others = _counter("tokens_rejected_others", "Refused tokens that name no known key.")
    misses = _counter("cache_misses", "Accepted tokens that the cache did not answer.")
    fetches = _counter("fetches", "Requests for the key set.", "outcome")
    verified = HistogramMetricFamily(
        "jwks_guard_verification_duration_seconds",
        f"How long one of every {TIMED_EVERY} verifications took that the cache did not answer.",
        labels=["issuer", "process"],
    )
    took = HistogramMetricFamily(
        "jwks_guard_fetch_duration_seconds",
        "How long requests for the key set took.",
        labels=["issuer", "process"],
    )
    for each in shown:
        for outcome, count in each.outcomes.items():
            verifications.add_metric([each.issuer, each.process, outcome], count)
        labels = [each.issuer, each.process]
        others.add_metric(labels, each.others)
        misses.add_metric(labels, each.misses)
        _add(verified, labels, each.verification_durations)
        _add(took, labels, each.fetch_durations)
        for outcome, count in each.fetches.items():
            fetches.add_metric([each.issuer, each.process, outcome], count)
    yield from (verifications, others, misses, verified, fetches, took)


def _exchanges(fleets: Sequence[Exchanges]) -> Iterator[Metric]:
    """Those of fleets, each of which may serve several issuers, so there is no issuer."""
    exchanges = CounterMetricFamily(
        "jwks_guard_fleet_exchanges",
        "Exchanges of decisions with the fleet.",
        labels=["process", "outcome"],
    )
    took = HistogramMetricFamily(
        "jwks_guard_fleet_exchange_duration_seconds",
        "How long exchanges with the fleet took.",
        labels=["process"],
    )
    for each in fleets:
        for outcome, count in each.counts.items():
            exchanges.add_metric([each.process, outcome], count)
        _add(took, [each.process], each.durations)
    yield from (exchanges, took)


def _add(family: HistogramMetricFamily, labels: Sequence[str], durations: Durations) -> None:
    """Add how many took at most as long as each bound."""
    bounds = [*map(str, durations.bounds), "+Inf"]
    buckets = [*zip(bounds, map(float, accumulate(durations.counts)), strict=True)]
    family.add_metric(labels, buckets, durations.seconds)


def _health(shown: Sequence[Reading]) -> Iterator[Metric]:
    status = _gauge("status", "1 for the state that the keys are in.", "status")
    confirmed = _gauge("confirmed_timestamp_seconds", "When the issuer last confirmed its keys.")
    until = _gauge("trusted_until_timestamp_seconds", "When trust in the keys ends.")
    bound = _gauge("detection_bound_seconds", "How long a withdrawn key can go unnoticed.")
    distrusted = _gauge("distrusted_keys", "How many keys are distrusted.")
    complete = _gauge("fleet_complete", "1 while decisions can be shared with all instances.")
    for each in shown:
        labels = [each.issuer, each.process]
        for name in STATUSES:
            status.add_metric([*labels, name], each.status == name)
        if each.confirmed_at is not None:
            confirmed.add_metric(labels, each.confirmed_at)
        if each.trusted_until is not None:
            until.add_metric(labels, each.trusted_until)
        bound.add_metric(labels, each.detection_bound)
        distrusted.add_metric(labels, each.distrusted)
        if each.fleet_complete is not None:
            complete.add_metric(labels, each.fleet_complete)
    yield from (status, confirmed, until, bound, distrusted, complete)


def _keys(shown: Sequence[Reading]) -> Iterator[Metric]:
    trusted = _gauge("key_trusted", "1 for a key that is trusted, else 0.", "kid")
    accepted = _counter("tokens_accepted", "Tokens of this key that were accepted.", "kid")
    rejected = _counter("tokens_rejected", "Tokens that name this key and were refused.", "kid")
    seen = _gauge("key_last_accepted_timestamp_seconds", "When one was accepted last.", "kid")
    expiry = _gauge("key_latest_expiry_timestamp_seconds", "The latest exp accepted.", "kid")
    lifetime = _gauge("key_longest_token_lifetime_seconds", "From iat to exp.", "kid")
    for each in shown:
        for kid, usage in each.usage.items():
            labels = [each.issuer, each.process, kid]
            trusted.add_metric(labels, each.trusted[kid])
            accepted.add_metric(labels, usage.accepted)
            rejected.add_metric(labels, usage.rejected)
            if usage.last_seen is not None:
                seen.add_metric(labels, usage.last_seen)
            if usage.latest_expiry is not None:
                expiry.add_metric(labels, usage.latest_expiry)
            if usage.longest_lifetime is not None:
                lifetime.add_metric(labels, usage.longest_lifetime)
    yield from (trusted, accepted, rejected, seen, expiry, lifetime)


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jwks_guard_{name}", says, labels=["issuer", "process", *labels])


def _counter(name: str, says: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"jwks_guard_{name}", says, labels=["issuer", "process", *labels])
