"""The Prometheus collector of verifiers; needs prometheus_client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from jwks_guard import __version__
from jwks_guard.errors import ConfigurationError
from jwks_guard.observability.reading import STATUSES, Reading, process_of, readings
from jwks_guard.verify.multi_issuer import MultiIssuerVerifier
from jwks_guard.verify.stores import Stores
from jwks_guard.verify.sync import SyncTokenVerifier
from jwks_guard.verify.verifier import TokenVerifier

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore


class VerifierCollector(Collector):
    """Shows verifiers in a registry: `REGISTRY.register(VerifierCollector(verifier))`.

    Everything is computed when the registry is scraped, from any thread. docs/metrics.md lists the
    metrics. A registry takes one such collector, so give it all verifiers of the process.

    Arguments:
        verifiers: TokenVerifier, SyncTokenVerifier or MultiIssuerVerifier objects. Those of one
            issuer are shown together: counters are added, and gauges show the worst of them.

    Raises ConfigurationError for none, and for anything else.

    """

    def __init__(self, *verifiers: TokenVerifier | SyncTokenVerifier | MultiIssuerVerifier) -> None:
        kinds = (TokenVerifier, SyncTokenVerifier, MultiIssuerVerifier)
        if not verifiers or not all(isinstance(each, kinds) for each in verifiers):
            raise ConfigurationError(
                "VerifierCollector takes one or more of TokenVerifier, SyncTokenVerifier and "
                "MultiIssuerVerifier."
            )
        self._shown = tuple(Stores(each) for each in verifiers)

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment."""
        return families(tuple(dict.fromkeys(store for each in self._shown for store in each())))

    def describe(self) -> Iterator[Metric]:
        """The names of the metrics, for the registry; nothing is computed."""
        return families(())


def families(stores: Sequence[KeyStore]) -> Iterator[Metric]:
    """The metrics of these stores at this moment.

    What a token names is no label: a million forged kids make no time series.
    """
    shown = readings(stores)
    yield InfoMetricFamily(
        "jwks_guard_build", "The version of jwks_guard.", value={"version": __version__}
    )
    yield from _sums(shown)
    yield _exchanges(stores)
    yield from _health(shown)
    yield from _keys(shown)


def _sums(shown: Sequence[Reading]) -> Iterator[Metric]:
    verifications = _counter(
        "verifications", "Verifications: accepted, or the code of the error.", "outcome"
    )
    others = _counter("tokens_rejected_others", "Refused tokens that name no known key.")
    fetches = _counter("fetches", "Requests for the key set.", "outcome")
    for each in shown:
        for outcome, count in each.outcomes.items():
            verifications.add_metric([each.issuer, each.process, outcome], count)
        others.add_metric([each.issuer, each.process], each.others)
        for outcome, count in each.fetches.items():
            fetches.add_metric([each.issuer, each.process, outcome], count)
    yield from (verifications, others, fetches)


def _exchanges(stores: Sequence[KeyStore]) -> Metric:
    """Those of fleets, each of which may serve several issuers, so there is no issuer."""
    exchanges = CounterMetricFamily(
        "jwks_guard_fleet_exchanges",
        "Exchanges of decisions with the fleet.",
        labels=["process", "outcome"],
    )
    counts = Counter[tuple[str, str]]()
    for process, fleet in dict.fromkeys((process_of(store), store.fleet) for store in stores):
        if fleet is not None:
            counts.update({(process, outcome): n for outcome, n in fleet.exchange_counts.items()})
    for labels, count in counts.items():
        exchanges.add_metric(labels, count)
    return exchanges


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
