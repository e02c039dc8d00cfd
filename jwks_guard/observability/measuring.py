"""The metrics of verifiers by OpenTelemetry; needs opentelemetry-api."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from jwks_guard import __version__
from jwks_guard.observability.joining import joined
from jwks_guard.observability.reading import STATUSES, Reading, Shown, shown
from jwks_guard.observability.shown_verifiers import AnyVerifier, ShownVerifiers

ISSUER, OUTCOME, KID = "jwks_guard.issuer", "jwks_guard.outcome", "jwks_guard.kid"
STATUS = "jwks_guard.status"

Callback = Callable[[CallbackOptions], Iterable[Observation]]
Pick = Callable[[Reading], Iterator[tuple[float, Mapping[str, str]]]]


def measure(*verifiers: AnyVerifier, meter_provider: MeterProvider | None = None) -> None:
    """Show verifiers to OpenTelemetry: the metrics of VerifierCollector, by names of its kind.

    Call it once when the process starts. Everything is computed when it is collected; each process
    shows itself, so its resource needs a `service.instance.id`. docs/tracing.md lists the metrics.

    Arguments:
        verifiers: TokenVerifier, SyncTokenVerifier or MultiIssuerVerifier objects. Those of one
            issuer are shown together: counters are added, and gauges show the worst of them.
        meter_provider: by default the global one.

    Raises ConfigurationError for no verifier, and for anything else.

    """
    look = _Look(ShownVerifiers("measure", verifiers))
    meter = metrics.get_meter("jwks_guard", __version__, meter_provider)
    for name, unit, says, pick in _COUNTERS:
        meter.create_observable_counter(f"jwks_guard.{name}", [look.at(pick)], unit, says)
    for name, unit, says, pick in _GAUGES:
        meter.create_observable_gauge(f"jwks_guard.{name}", [look.at(pick)], unit, says)
    meter.create_observable_counter(
        "jwks_guard.fleet.exchanges", [look.at_fleets], "{exchange}", "Exchanges with the fleet."
    )


class _Look:
    """What is shown of `stores` at each moment."""

    def __init__(self, stores: ShownVerifiers) -> None:
        self._stores = stores

    def at(self, pick: Pick) -> Callback:
        """What `pick` takes of each issuer."""

        def look(options: CallbackOptions) -> Iterator[Observation]:
            for each in self._now().issuers:
                for value, about in pick(each):
                    yield Observation(value, {ISSUER: each.issuer, **about})

        return look

    def at_fleets(self, options: CallbackOptions) -> Iterator[Observation]:
        """How many exchanges ended how."""
        for each in self._now().fleets:
            for outcome, count in each.counts.items():
                yield Observation(count, {OUTCOME: outcome})

    def _now(self) -> Shown:
        """One reading of each issuer, also where the process has several registers."""
        return joined([shown(self._stores())], Shown())


def _by_outcome(counts: Mapping[str, int]) -> Iterator[tuple[float, Mapping[str, str]]]:
    for outcome, count in counts.items():
        yield count, {OUTCOME: outcome}


def _if_known(value: float | None) -> Iterator[tuple[float, Mapping[str, str]]]:
    if value is not None:
        yield value, {}


def _statuses(each: Reading) -> Iterator[tuple[float, Mapping[str, str]]]:
    for name in STATUSES:
        yield int(each.status == name), {STATUS: name}


def _trusted(each: Reading) -> Iterator[tuple[float, Mapping[str, str]]]:
    for kid, trusted in each.trusted.items():
        yield int(trusted), {KID: kid}


def _accepted(each: Reading) -> Iterator[tuple[float, Mapping[str, str]]]:
    for kid, usage in each.usage.items():
        yield usage.accepted, {KID: kid}


def _rejected(each: Reading) -> Iterator[tuple[float, Mapping[str, str]]]:
    for kid, usage in each.usage.items():
        yield usage.rejected, {KID: kid}


_COUNTERS: tuple[tuple[str, str, str, Pick], ...] = (
    (
        "verifications",
        "{token}",
        "Verifications by outcome: accepted, or the code of the error.",
        lambda each: _by_outcome(each.outcomes),
    ),
    (
        "cache.misses",
        "{token}",
        "Accepted tokens that the cache did not answer.",
        lambda each: _if_known(each.misses),
    ),
    ("tokens.accepted", "{token}", "Accepted tokens by key.", _accepted),
    ("tokens.rejected", "{token}", "Refused tokens that name this key.", _rejected),
    (
        "fetches",
        "{request}",
        "Requests for the key set.",
        lambda each: _by_outcome(each.fetches),
    ),
)
_GAUGES: tuple[tuple[str, str, str, Pick], ...] = (
    ("status", "1", "1 for the state that the keys are in.", _statuses),
    (
        "confirmed.time",
        "s",
        "When the issuer last confirmed its keys, since the epoch.",
        lambda each: _if_known(each.confirmed_at),
    ),
    (
        "trusted_until.time",
        "s",
        "When trust in the keys ends, since the epoch.",
        lambda each: _if_known(each.trusted_until),
    ),
    (
        "detection_bound",
        "s",
        "How long a withdrawn key can go unnoticed.",
        lambda each: _if_known(each.detection_bound),
    ),
    (
        "distrusted_keys",
        "{key}",
        "How many keys are distrusted.",
        lambda each: _if_known(each.distrusted),
    ),
    ("key.trusted", "1", "1 for a key that is trusted, else 0.", _trusted),
    (
        "fleet.complete",
        "1",
        "1 while decisions can be shared with all instances.",
        lambda each: _if_known(None if each.fleet_complete is None else int(each.fleet_complete)),
    ),
)
