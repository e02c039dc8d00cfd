"""What Prometheus is shown of the keys; needs prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from jwks_guard.keys.health import HealthReport
    from jwks_guard.keys.store import KeyStore

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
_STATUSES = ("ok", "degraded", "unavailable")


def rendered(stores: Sequence[KeyStore]) -> bytes:
    """The metrics of these stores at this moment, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Keys(stores))
    text: bytes = exposition.generate_latest(registry)
    return text


class _Keys:
    """Labels are issuers that are configured, and kids that are trusted or distrusted and in use.

    What a token names is no label: a million forged kids make no time series.
    """

    def __init__(self, stores: Sequence[KeyStore]) -> None:
        self._stores = stores

    def collect(self) -> Iterator[Metric]:
        reports = [(store, store.health()) for store in self._stores]
        yield from _health(reports)
        yield from _tokens(reports)


def _health(reports: Sequence[tuple[KeyStore, HealthReport]]) -> Iterator[Metric]:
    status = _gauge("status", "Whether the keys are in this state.", "status")
    confirmed = _gauge("confirmed_timestamp_seconds", "When the issuer last confirmed its keys.")
    until = _gauge("trusted_until_timestamp_seconds", "When trust in them ends.")
    bound = _gauge("detection_bound_seconds", "How long a withdrawn key can go unnoticed.")
    trusted = _gauge("key_trusted", "1 for each key that is trusted.", "kid")
    distrusted = _gauge("distrusted_keys", "How many keys are distrusted.")
    shared = _gauge("fleet_complete", "Whether decisions can be shared with the other instances.")
    for store, report in reports:
        for name in _STATUSES:
            status.add_metric([report.issuer, name], float(report.status == name))
        if report.confirmed_at is not None:
            confirmed.add_metric([report.issuer], report.confirmed_at)
        if report.trusted_until is not None:
            until.add_metric([report.issuer], report.trusted_until)
        bound.add_metric([report.issuer], report.detection_bound)
        for kid in report.kids:
            trusted.add_metric([report.issuer, kid], 1.0)
        distrusted.add_metric([report.issuer], float(len(report.distrusted)))
        if store.fleet is not None:
            shared.add_metric([report.issuer], float(store.fleet.error is None))
    yield from (status, confirmed, until, bound, trusted, distrusted, shared)


def _tokens(reports: Sequence[tuple[KeyStore, HealthReport]]) -> Iterator[Metric]:
    accepted = _counter("tokens_accepted", "Tokens of this key that were accepted.", "kid")
    rejected = _counter("tokens_rejected", "Tokens that name this key and were refused.", "kid")
    others = _counter("tokens_rejected_others", "Tokens that were refused and name no such key.")
    seen = _gauge("key_last_accepted_timestamp_seconds", "When one was accepted last.", "kid")
    expiry = _gauge("key_latest_expiry_timestamp_seconds", "The latest `exp` accepted.", "kid")
    lifetime = _gauge("key_longest_token_lifetime_seconds", "From `iat` to `exp`.", "kid")
    for store, report in reports:
        for kid, usage in store.usage().items():
            labels = [report.issuer, kid]
            if kid not in report.kids and kid not in report.distrusted:
                continue
            accepted.add_metric(labels, usage.accepted)
            rejected.add_metric(labels, usage.rejected)
            if usage.last_seen is not None:
                seen.add_metric(labels, usage.last_seen)
            if usage.latest_expiry is not None:
                expiry.add_metric(labels, usage.latest_expiry)
            if usage.longest_lifetime is not None:
                lifetime.add_metric(labels, usage.longest_lifetime)
        others.add_metric([report.issuer], _others(store))
    yield from (accepted, rejected, others, seen, expiry, lifetime)


def _others(store: KeyStore) -> int:
    return sum(usage.others for usage in store.usages)


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jwks_guard_{name}", says, labels=["issuer", *labels])


def _counter(name: str, says: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"jwks_guard_{name}", says, labels=["issuer", *labels])
