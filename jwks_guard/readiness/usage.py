"""What this instance has done with each key: counted where tokens are verified, read elsewhere.

A counter lies where its key's results are found, so that counting one more is one addition to an
attribute. When a key was last used follows from looking at the counters now and then.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from jwks_guard.base.durations import span
from jwks_guard.base.histogram import Stopwatch
from jwks_guard.readiness.clients import (
    MAX_PLACES,
    Clients,
    ClientUsage,
    Places,
    joined,
    ranked,
)

RECENT_SECONDS = 600.0
RECENT = span(RECENT_SECONDS)
_SAMPLE_SECONDS = 10.0
_SAMPLES = int(RECENT_SECONDS / _SAMPLE_SECONDS) + 2
NEVER = 253_402_300_800.0
"""The year 10000, beyond any NumericDate."""
TIMED_EVERY = 16
VERIFICATION_BOUNDS = (2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2)
"""In seconds. The check of an RS256 signature takes about 3e-5."""
MAX_KIDS = 256
"""Kids beyond it, the longest unused ones, are forgotten; a tenant has a handful."""


class Reach(NamedTuple):
    """How far the tokens of a key reach: KeyUsage's latest expiry and longest lifetime, or 0."""

    expiry: float = 0.0
    lifetime: float = 0.0

    def joined(self, other: Reach) -> Reach:
        """The further of each."""
        return Reach(max(self.expiry, other.expiry), max(self.lifetime, other.lifetime))


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What became of one kid's tokens on this instance; instants in seconds since the epoch.

    Arguments:
        accepted: how many times a token was accepted.
        rejected: how many times one was refused that names this kid.
        recent: how many of them were accepted in the last RECENT_SECONDS.
        last_seen: when one was accepted last; late by as long as nobody looked, a few seconds.
        latest_expiry: the latest `exp` among the accepted ones; if one had none, the year 10000.
            In a forked child that of its parent's counts too.
        longest_lifetime: the longest time from `iat` to `exp`, in seconds, among those that expired
            later than any before; without `iat`, from when it was accepted.
        clients: the accepted tokens of the last hour by client and organization, the most first;
            the first slice of 5 minutes may be counted as a whole.
        other_clients: how many were accepted in that time of clients that are not in `clients`.

    """

    accepted: int = 0
    rejected: int = 0
    recent: int = 0
    last_seen: float | None = None
    latest_expiry: float | None = None
    longest_lifetime: float | None = None
    clients: tuple[ClientUsage, ...] = ()
    other_clients: int = 0

    @property
    def reach(self) -> Reach:
        """How far its tokens reach."""
        return Reach(self.latest_expiry or 0.0, self.longest_lifetime or 0.0)

    @property
    def nameless(self) -> KeyUsage:
        """The same without the clients' names, which take the most space."""
        tokens = self.other_clients + sum(each.accepted for each in self.clients)
        return replace(self, clients=(), other_clients=tokens)


class Counter:
    """The counts of one kid; `until` and `lifetime` are of the tokens accepted, with leeway.

    Any thread may count. Under the GIL no other one comes in between reading and writing an
    attribute where nothing is called between the two.
    """

    __slots__ = (
        *("_looked", "_samples", "clients", "last_seen"),
        *("lifetime", "named", "rejected", "until"),
    )

    def __init__(self, places: Places | None = None) -> None:
        self.until = 0.0
        self.lifetime = 0.0
        self.clients = Clients(places)
        self.named = self.clients.named
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count from 0. `until` stays, as a result that was kept is accepted again without it."""
        self.clients.begin_anew()
        self.rejected = 0
        self.last_seen: float | None = None
        self._looked = 0
        # A tuple, for one thread may add to it while another looks through it.
        self._samples: tuple[tuple[float, int], ...] = ((-math.inf, 0),)

    @property
    def accepted(self) -> int:
        """How many times a token was accepted."""
        return self.clients.accepted

    def lasted(self, lifetime: float) -> None:
        """Note how long a token is accepted from its issue on."""
        if lifetime > self.lifetime:
            self.lifetime = lifetime

    def sample(self, now: float) -> None:
        """Look whether there were more since the last time."""
        accepted, at = self.accepted, self._samples[-1][0]
        if accepted != self._looked:
            self._looked, self.last_seen = accepted, now
        if self.last_seen is not None and (now - at >= _SAMPLE_SECONDS or now < at):
            self._samples = (*self._samples[1 - _SAMPLES :], (now, accepted))
            self.clients.mark(now, self.until)

    @property
    def last_use(self) -> float:
        """When it last counted one that was accepted; infinity if nobody has looked since."""
        seen = self.last_seen
        return seen if seen is not None else math.inf if self.accepted else -math.inf

    def usage(self, now: float, leeway: float) -> KeyUsage:
        """The counts as they are at `now`, both in seconds."""
        self.sample(now)
        old = next((n for at, n in reversed(self._samples) if at <= now - RECENT_SECONDS), 0)
        accepted = self.accepted
        clients, others = self.clients.usage(now)
        return KeyUsage(
            accepted=accepted,
            rejected=self.rejected,
            recent=accepted - old,
            last_seen=self.last_seen,
            latest_expiry=min(self.until - leeway, NEVER) if self.until else None,
            longest_lifetime=min(self.lifetime - leeway, NEVER) if self.lifetime > leeway else None,
            clients=clients,
            other_clients=others,
        )


class Usage:
    """The counters of verifiers that take tokens for `leeway` seconds after they expired.

    Any thread may use it. A kid gets its counter when a key of it is trusted, never because a token
    names it; `others` counts what was refused and names none of these, and `refusals` all that was
    refused, by the code of its error. `misses` counts the accepted tokens that no cache answered;
    one of every `TIMED_EVERY` of them is timed in `took`.
    """

    def __init__(self, leeway: float) -> None:
        self.others = self.misses = 0
        self.took = Stopwatch(VERIFICATION_BOUNDS)
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self._forgotten = 0
        self._leeway = leeway
        self._places = Places(MAX_PLACES)
        self._counters: dict[str, Counter] = {}

    def counter(self, kid: str) -> Counter:
        """The counter of a kid that is trusted."""
        found = self._counters.get(kid)
        if found is None:
            found = self._counters.setdefault(kid, Counter(self._places))
            self._forget_the_oldest()
        return found

    def begin_anew(self) -> None:
        """Count from 0, as a process that has just begun; the latest expiries are kept."""
        self.others = self.misses = self._forgotten = 0
        self.took = Stopwatch(VERIFICATION_BOUNDS)
        self.refusals.clear()
        for counter in self._counters.values():
            counter.begin_anew()

    @property
    def accepted(self) -> int:
        """How many times a token was accepted, of kids that are forgotten too."""
        return self._forgotten + sum(each.accepted for each in tuple(self._counters.values()))

    def refused(self, kid: str | None, code: str) -> None:
        """Count a token that names `kid` and was refused by an error of that code."""
        self.refusals[code] += 1
        counter = self._counters.get(kid) if kid is not None else None
        if counter is None:
            self.others += 1
        else:
            counter.rejected += 1

    def sample(self, now: float) -> None:
        """Look which keys were used since the last time; `now` is in seconds since the epoch."""
        for counter in tuple(self._counters.values()):
            counter.sample(now)

    def report(self, now: float) -> Mapping[str, KeyUsage]:
        """The counts by kid."""
        counters = tuple(self._counters.items())
        return {kid: counter.usage(now, self._leeway) for kid, counter in counters}

    def _forget_the_oldest(self) -> None:
        while len(self._counters) > MAX_KIDS:
            kids = tuple(self._counters.items())
            oldest = min(kids[:-1], key=lambda item: item[1].last_use)
            if (gone := self._counters.pop(oldest[0], None)) is not None:
                self._forgotten += gone.accepted
                gone.clients.give_way()


def total(reports: Iterable[Mapping[str, KeyUsage]]) -> Mapping[str, KeyUsage]:
    """The counts of several verifiers or stores taken together."""
    return _joined(reports, operator.add)


def most(reports: Iterable[Mapping[str, KeyUsage]]) -> Mapping[str, KeyUsage]:
    """What several reports of the same counts come to: each may have been made later."""
    return _joined(reports, max)


def _joined(
    reports: Iterable[Mapping[str, KeyUsage]], join: Callable[[int, int], int]
) -> Mapping[str, KeyUsage]:
    joined: dict[str, KeyUsage] = {}
    for report in reports:
        for kid, one in report.items():
            joined[kid] = _both(joined.get(kid, KeyUsage()), one, join)
    return joined


def _both(one: KeyUsage, other: KeyUsage, join: Callable[[int, int], int]) -> KeyUsage:
    names = joined(one.clients, other.clients, join)
    clients, others = ranked(names, join(one.other_clients, other.other_clients))
    return KeyUsage(
        accepted=join(one.accepted, other.accepted),
        rejected=join(one.rejected, other.rejected),
        recent=join(one.recent, other.recent),
        last_seen=_later(one.last_seen, other.last_seen),
        latest_expiry=_later(one.latest_expiry, other.latest_expiry),
        longest_lifetime=_later(one.longest_lifetime, other.longest_lifetime),
        clients=clients,
        other_clients=others,
    )


def _later(one: float | None, other: float | None) -> float | None:
    return max((each for each in (one, other) if each is not None), default=None)
