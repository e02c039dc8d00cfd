"""What key stores and fleets show at one moment, as the numbers that metrics are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, islice
from typing import TYPE_CHECKING, Literal

from jwks_guard.base.histogram import BOUNDS, Durations, Stopwatch
from jwks_guard.keys.judgement import Outcome
from jwks_guard.readiness.usage import VERIFICATION_BOUNDS, KeyUsage, total

if TYPE_CHECKING:
    from jwks_guard.keys.health import HealthReport
    from jwks_guard.keys.store import KeyStore

MOST_KIDS = 100
"""So many keys of an issuer have time series; the sums by issuer count the tokens of all."""
Status = Literal["ok", "degraded", "unavailable"]
STATUSES: tuple[Status, ...] = ("ok", "degraded", "unavailable")
"""From the best one to the worst one."""
REFUSALS = (
    "algorithm_not_allowed",
    "binding_required",
    "configuration",
    "invalid_claim",
    "invalid_signature",
    "invalid_token",
    "keys_unavailable",
    "look_up_throttled",
    "malformed_token",
    "missing_claim",
    "removed_key",
    "revoked_key",
    "token_expired",
    "token_not_yet_valid",
    "token_type",
    "unknown_key",
    "unsupported_token",
    "unusable_key",
)
"""The codes of this library's errors that `verify` raises."""
ACCEPTED, OTHER = "accepted", "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One issuer in one process; instants in seconds since the epoch.

    Arguments:
        issuer: whose keys.
        process: names this run of this process.
        status: the worst of the stores, as in HealthReport.
        confirmed_at: the earliest of the stores; None where one has no key set.
        trusted_until: the earliest of the stores; None where one has no key set.
        detection_bound: the longest of the stores, in seconds.
        trusted: whether each kid with time series is trusted by all stores.
        distrusted: how many keys are distrusted.
        fleet_complete: whether decisions can be shared; None without a fleet.
        outcomes: how many verifications ended how: ACCEPTED, one of REFUSALS, or OTHER.
        usage: what became of the tokens of each kid in `trusted`, without the clients' names.
        others: how many refused tokens name none of the kids that are counted.
        misses: how many of the accepted tokens were not answered from the cache.
        verification_durations: how long one of every TIMED_EVERY of these took.
        fetches: how many requests for the key set had each outcome.
        fetch_durations: how long they took.

    """

    issuer: str
    process: str
    status: Status
    confirmed_at: float | None
    trusted_until: float | None
    detection_bound: float
    trusted: Mapping[str, bool]
    distrusted: int
    fleet_complete: bool | None
    outcomes: Mapping[str, int]
    usage: Mapping[str, KeyUsage]
    others: int
    misses: int
    verification_durations: Durations
    fetches: Mapping[str, int]
    fetch_durations: Durations

    def __post_init__(self) -> None:
        _require_bounds(self.verification_durations, VERIFICATION_BOUNDS)
        _require_bounds(self.fetch_durations, BOUNDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    """How the exchanges with fleets ended in one process, and how long they took."""

    process: str
    counts: Mapping[str, int]
    durations: Durations

    def __post_init__(self) -> None:
        _require_bounds(self.durations, BOUNDS)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of all issuers, and of the fleets, which may serve several issuers each."""

    issuers: tuple[Reading, ...] = ()
    fleets: tuple[Exchanges, ...] = ()


def shown(stores: Sequence[KeyStore]) -> Shown:
    """What these stores show now."""
    return Shown(tuple(readings(stores)), tuple(_exchanges(stores)))


def process_of(store: KeyStore) -> str:
    """The name of the process that `store` is in, and of its register if it has several."""
    return store.register.instance[:8]


def readings(stores: Iterable[KeyStore]) -> list[Reading]:
    """What these stores show now, for each issuer and process."""

    def whose(store: KeyStore) -> tuple[str, str]:
        return store.issuer, process_of(store)

    return [_reading(tuple(group)) for _, group in groupby(sorted(stores, key=whose), whose)]


def _reading(stores: Sequence[KeyStore]) -> Reading:
    reports = [store.health() for store in stores]
    usage = total(store.usage() for store in stores)
    distrusted = {kid: None for report in reports for kid in report.distrusted}
    trusted = _trusted(stores, reports, [kid for kid in distrusted if kid in usage])
    fleets = [store.fleet for store in stores if store.fleet is not None]
    return Reading(
        issuer=stores[0].issuer,
        process=process_of(stores[0]),
        status=max((report.status for report in reports), key=STATUSES.index),
        confirmed_at=earliest([report.confirmed_at for report in reports]),
        trusted_until=earliest([report.trusted_until for report in reports]),
        detection_bound=max(report.detection_bound for report in reports),
        trusted=trusted,
        distrusted=len(distrusted),
        fleet_complete=all(fleet.error is None for fleet in fleets) if fleets else None,
        outcomes=_outcomes(stores),
        usage={kid: usage.get(kid, KeyUsage()).nameless for kid in trusted},
        others=sum(each.others for store in stores for each in store.usages),
        misses=sum(each.misses for store in stores for each in store.usages),
        verification_durations=together(
            [
                Stopwatch(VERIFICATION_BOUNDS).durations,
                *(each.took.durations for store in stores for each in store.usages),
            ]
        ),
        fetches=_fetches(stores),
        fetch_durations=together(store.fetch_durations for store in stores),
    )


def _exchanges(stores: Sequence[KeyStore]) -> Iterable[Exchanges]:
    fleets = dict.fromkeys((process_of(store), store.fleet) for store in stores)
    for process in dict.fromkeys(process for process, fleet in fleets if fleet is not None):
        own = [fleet for name, fleet in fleets if name == process and fleet is not None]
        yield Exchanges(
            process=process,
            counts=added(fleet.exchange_counts for fleet in own),
            durations=together(fleet.exchange_durations for fleet in own),
        )


def added(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    """Counts of several, added by name."""
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return dict(total)


def _require_bounds(durations: Durations, bounds: tuple[float, ...]) -> None:
    """Raise ValueError for the buckets of another version, which can't be added to ours."""
    if durations.bounds != bounds:
        raise ValueError("the durations are counted in other buckets")


def together(durations: Iterable[Durations]) -> Durations:
    """The durations of one or several."""
    return reduce(Durations.joined, durations)


def _trusted(
    stores: Sequence[KeyStore], reports: Sequence[HealthReport], refused: Iterable[str]
) -> Mapping[str, bool]:
    """The kids with time series: published ones, and `refused` ones, whose tokens may go on coming.

    An issuer that was added at run time may be hostile, and publish other kids every minute.
    """
    if any(store.isolated for store in stores):
        return {}
    published = [key.kid for store in stores for key in store.trust.published.keys]
    shown = islice(dict.fromkeys([*published, *refused]), MOST_KIDS)
    return {kid: all(kid in report.kids for report in reports) for kid in shown}


def _outcomes(stores: Sequence[KeyStore]) -> Mapping[str, int]:
    """All outcomes, those that never came too: a rate begins at the first one after 0.

    Errors of the application's claim checks may have codes of their own: those are OTHER.
    """
    outcomes = dict.fromkeys((ACCEPTED, *REFUSALS, OTHER), 0)
    for usage in (usage for store in stores for usage in store.usages):
        outcomes[ACCEPTED] += usage.accepted
        for code, count in usage.refusals.copy().items():
            outcomes[code if code in REFUSALS else OTHER] += count
    return outcomes


def _fetches(stores: Sequence[KeyStore]) -> Mapping[str, int]:
    counts = [store.fetches for store in stores]
    return {
        outcome.name.lower(): sum(each.get(outcome, 0) for each in counts) for outcome in Outcome
    }


def earliest(instants: Sequence[float | None]) -> float | None:
    """The earliest of `instants`; None if one is not known."""
    known = [instant for instant in instants if instant is not None]
    return min(known) if len(known) == len(instants) else None
