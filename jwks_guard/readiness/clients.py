"""Whose tokens of one key are accepted: by client and organization, in the last hour.

The names are claims of verified tokens. An attacker with the signing key chooses them, so they are
short and printable, and there are only so many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jwks_guard.base.durations import span
from jwks_guard.jose.claims import client_id_of

HOUR_SECONDS = 3600.0
HOUR = span(HOUR_SECONDS)
_SLICE_SECONDS = 300.0
_MARKS = int(HOUR_SECONDS / _SLICE_SECONDS) + 2
MAX_COUNTED = 200
"""Clients and organizations of one key that are counted apart, the others together."""
MAX_PLACES = 1000
"""Those of all keys of an issuer, which may be hostile and publish any number of keys."""
MAX_CLIENTS = 50
"""Those that are shown, the most active ones."""
MAX_CHARS = 100
"""Of a client's or an organization's id; Auth0's have 32 and 20."""
Name = tuple[str | None, str | None]
"""A client and an organization; None where the token names none."""


@dataclass(frozen=True, slots=True)
class ClientUsage:
    """How many tokens of a client were accepted, for one organization (`org_id`) if it names one.

    `client` is VerifiedToken.client_id. Both are cut to MAX_CHARS characters.
    """

    client: str | None
    organization: str | None
    accepted: int


class ClientCounter:
    """Counts what is accepted for one client and organization. Any thread may count."""

    __slots__ = ("accepted", "ends")

    def __init__(self) -> None:
        self.accepted = 0
        self.ends = math.inf
        """When its last token expires at the latest; known once somebody has looked."""


class Places:
    """How many clients and organizations more are counted apart."""

    __slots__ = ("free",)

    def __init__(self, free: int) -> None:
        self.free = free


class Clients:
    """The counters of one key's tokens, by client and organization.

    They take `places` that it shares with other keys. One that was not used for an hour, and of
    which every token has expired, makes place for others. Until then a result that is kept may
    count with it.
    """

    __slots__ = ("_gone", "_marks", "_others", "_own", "_places", "named")

    def __init__(self, places: Places | None = None) -> None:
        self.named: dict[str | None, dict[str | None, ClientCounter]] = {}
        self._others = ClientCounter()
        self._own = Places(MAX_COUNTED)
        self._places = Places(MAX_PLACES) if places is None else places
        self._begin()

    def _begin(self) -> None:
        self._gone = 0
        # A tuple, for one thread may add to it while another looks through it.
        self._marks: tuple[tuple[float, Mapping[ClientCounter, int]], ...] = ((-math.inf, {}),)

    def begin_anew(self) -> None:
        """Count from 0, with the same counters, as results that were kept count with them."""
        for counter in (self._others, *self._counters().values()):
            counter.accepted = 0
        self._begin()

    @property
    def accepted(self) -> int:
        """What was counted in all."""
        named = sum(counter.accepted for counter in self._counters().values())
        return self._gone + self._others.accepted + named

    def counter(self, claims: dict[str, Any]) -> ClientCounter:
        """What counts tokens with such claims."""
        client, organization = _short(client_id_of(claims)), _short(claims.get("org_id"))
        found = self.named.get(client, {}).get(organization)
        if found is not None:
            return found
        if self._own.free <= 0 or self._places.free <= 0:
            return self._others
        self._take(1)
        new = ClientCounter()
        while True:
            organizations = self.named.setdefault(client, {})
            counter = organizations.setdefault(organization, new)
            if self.named.get(client) is organizations:  # else it was just dropped, by a thread
                break
        if counter is not new:  # another thread was faster
            self._take(-1)
        return counter

    def give_way(self) -> None:
        """Leave the places to other keys: nobody counts here any more."""
        self._take(self._own.free - MAX_COUNTED)

    def _take(self, number: int) -> None:
        self._own.free -= number
        self._places.free -= number

    def mark(self, now: float, ends: float) -> None:
        """Begin a new slice of time, if it is time; all tokens so far expire by `ends`."""
        at = self._marks[-1][0]
        if at <= now < at + _SLICE_SECONDS:
            return
        counters = self._counters()
        before = self._an_hour_before(now)
        for counter in counters.values():
            # Not since the last mark alone: a thread may have counted while that was made.
            if counter.accepted != before.get(counter):
                counter.ends = ends
        self._drop(counters, before, now)
        counts = {each: each.accepted for each in (*self._counters().values(), self._others)}
        self._marks = (*self._marks[1 - _MARKS :], (now, counts))

    def _drop(
        self,
        counters: Mapping[Name, ClientCounter],
        before: Mapping[ClientCounter, int],
        now: float,
    ) -> None:
        for (client, organization), counter in counters.items():
            if counter.ends > now or counter.accepted != before.get(counter):
                continue
            with suppress(KeyError):  # another thread has just done it
                del self.named[client][organization]
                self._take(-1)
                self._gone += counter.accepted
                if not self.named[client]:  # no other thread comes between this and the next line
                    del self.named[client]

    def usage(self, now: float) -> tuple[tuple[ClientUsage, ...], int]:
        """The accepted tokens of the last hour, and how many there were of others."""
        before = self._an_hour_before(now)
        counts = {
            name: each.accepted - before.get(each, 0) for name, each in self._counters().items()
        }
        return ranked(counts, self._others.accepted - before.get(self._others, 0))

    def _an_hour_before(self, now: float) -> Mapping[ClientCounter, int]:
        return next((n for at, n in reversed(self._marks) if at <= now - HOUR_SECONDS), {})

    def _counters(self) -> dict[Name, ClientCounter]:
        """The counters, while other threads may add some."""
        return {
            (client, organization): counter
            for client, organizations in tuple(self.named.items())
            for organization, counter in tuple(organizations.items())
        }


def ranked(counts: Mapping[Name, int], others: int) -> tuple[tuple[ClientUsage, ...], int]:
    """The names with the most tokens, and how many tokens there were of all others."""
    some = [ClientUsage(*name, count) for name, count in counts.items() if count > 0]
    some.sort(key=lambda each: (-each.accepted, each.client or "", each.organization or ""))
    return tuple(some[:MAX_CLIENTS]), others + sum(each.accepted for each in some[MAX_CLIENTS:])


def joined(
    one: tuple[ClientUsage, ...], other: tuple[ClientUsage, ...], join: Callable[[int, int], int]
) -> dict[Name, int]:
    """What both count of each name, taken together by `join`."""
    counts: dict[Name, int] = {(each.client, each.organization): each.accepted for each in one}
    for each in other:
        name = (each.client, each.organization)
        counts[name] = join(counts.get(name, 0), each.accepted)
    return counts


def _short(name: object) -> str | None:
    """A name as it is kept; None for what is none."""
    if not isinstance(name, str):
        return None
    cut = name[:MAX_CHARS]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in cut)
