"""What several processes show, taken together: counters are added, and gauges show the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from jwks_guard.observability.reading import (
    MOST_KIDS,
    STATUSES,
    Exchanges,
    Reading,
    Shown,
    added,
    earliest,
    together,
)
from jwks_guard.readiness.usage import KeyUsage, total

ALL = "all"
"""The name of the process in what several show."""


def joined(live: Sequence[Shown], ended: Shown) -> Shown:
    """What processes that run show, with the counts of those that have `ended`."""
    before = {each.issuer: each for each in ended.issuers}
    issuers = sorted((each for shown in live for each in shown.issuers), key=attrgetter("issuer"))
    return Shown(
        tuple(
            _joined(tuple(group), before.get(issuer))
            for issuer, group in groupby(issuers, attrgetter("issuer"))
        ),
        _fleets([*live, ended]),
    )


def kept(ended: Sequence[Shown]) -> Shown:
    """The counts of processes that have ended, of which nothing else is shown any more."""
    issuers = sorted((each for shown in ended for each in shown.issuers), key=attrgetter("issuer"))
    return Shown(
        tuple(
            replace(_added(one := tuple(group)), trusted={}, usage=_latest(one))
            for _, group in groupby(issuers, attrgetter("issuer"))
        ),
        _fleets(ended),
    )


def _joined(live: Sequence[Reading], ended: Reading | None) -> Reading:
    counts = _added([*live, *([] if ended is None else [ended])])
    kids = dict.fromkeys(kid for each in live for kid in each.trusted)
    complete = [each.fleet_complete for each in live if each.fleet_complete is not None]
    return replace(
        counts,
        status=max((each.status for each in live), key=STATUSES.index),
        confirmed_at=earliest([each.confirmed_at for each in live]),
        trusted_until=earliest([each.trusted_until for each in live]),
        detection_bound=max(each.detection_bound for each in live),
        trusted={kid: all(each.trusted.get(kid, False) for each in live) for kid in kids},
        distrusted=max(each.distrusted for each in live),
        fleet_complete=all(complete) if complete else None,
        usage={kid: counts.usage.get(kid, KeyUsage()) for kid in kids},
    )


def _added(several: Sequence[Reading]) -> Reading:
    """The counts of several readings of one issuer, beside the gauges of the first."""
    return replace(
        several[0],
        process=ALL,
        outcomes=added(each.outcomes for each in several),
        usage=total(each.usage for each in several),
        others=sum(each.others for each in several),
        misses=sum(each.misses for each in several),
        verification_durations=together(each.verification_durations for each in several),
        fetches=added(each.fetches for each in several),
        fetch_durations=together(each.fetch_durations for each in several),
    )


def _latest(several: Sequence[Reading]) -> dict[str, KeyUsage]:
    """What became of the tokens of the kids that were used last."""
    usage = total(each.usage for each in several)
    kids = sorted(usage, key=lambda kid: usage[kid].last_seen or 0.0, reverse=True)
    return {kid: usage[kid] for kid in kids[:MOST_KIDS]}


def _fleets(several: Sequence[Shown]) -> tuple[Exchanges, ...]:
    fleets = [fleet for shown in several for fleet in shown.fleets]
    if not fleets:
        return ()
    counts = added(each.counts for each in fleets)
    return (Exchanges(process=ALL, counts=counts, durations=together(f.durations for f in fleets)),)
