"""Keeps what is trusted confirmed: when to fetch, one fetch for all, how its answer is judged."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import replace

from cachetools import TTLCache

from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Events
from jwks_guard.errors import (
    InvalidTokenError,
    KeysUnavailableError,
    RemovedKeyError,
    UnknownKeyError,
)
from jwks_guard.keys.fetch import Answer, FetchError, Held, HTTPKeyFetcher
from jwks_guard.keys.flight import SingleFlight
from jwks_guard.keys.freshness import Decision, Freshness
from jwks_guard.keys.trust import Trust
from jwks_guard.keys.view import REMEMBERED_KIDS
from jwks_guard.net.caching import Dating

LOOKUP_PAUSE_SECONDS = 5.0
"""A kid that was just looked up in vain is not looked up again for this long."""
LONGEST_PAUSE_SECONDS = 5.0
"""The clocks are looked at this often, to notice that the machine was asleep."""
SHORTEST_PAUSE_SECONDS = 0.05


class _Outcome(enum.Enum):
    CONFIRMED = enum.auto()
    AGED = enum.auto()
    OLDER = enum.auto()
    FAILED = enum.auto()


class Refresher:
    """Fetches for one `trust`, within the budgets of `freshness`; used on one event loop.

    `confirmed(jwks_uri)` is called after each confirmed set, so that it is stored.
    """

    def __init__(
        self,
        trust: Trust,
        fetcher: HTTPKeyFetcher,
        freshness: Freshness,
        clock: Clock,
        events: Events,
        confirmed: Callable[[str], None],
    ) -> None:
        self.error: str | None = "no key set was fetched yet"
        self.dating: Dating | None = None
        self._held: Held | None = None
        self._trust = trust
        self._fetcher = fetcher
        self._freshness = freshness
        self._clock = clock
        self._events = events
        self._confirmed = confirmed
        self._flight = SingleFlight()
        self._not_found: TTLCache[str | None, None] = TTLCache(
            REMEMBERED_KIDS, LOOKUP_PAUSE_SECONDS, timer=clock.monotonic
        )

    def rebind(self) -> None:
        """Let go of what belongs to another event loop or process; knowledge and budgets stay."""
        self._flight = SingleFlight()

    async def cancel(self) -> None:
        """Stop a fetch on its way."""
        await self._flight.cancel()

    def forget(self) -> None:
        """Begin anew: a fetch is due, and there is nothing to compare its answer with."""
        self._freshness.forget()
        self._held = self.dating = None

    async def refresh(self) -> None:
        """Fetch now, by a request that begins after this call; raises KeysUnavailableError."""
        if not await self._flight.next(self._fly):
            wait = max(1.0, self._freshness.next_due(self._now()))
            raise KeysUnavailableError(f"The key set was not refreshed: {self.error}.", wait)

    async def refresh_if_due(self) -> None:
        """Do what is due at this moment, which is mostly nothing."""
        if self._freshness.is_due(self._now()):
            await self._flight.join(self._fly).landed()
        self._trust.tell_expiry(self._now())

    def limit_interval(self, seconds: float | None) -> None:
        """Refresh at least every so many seconds; None: as configured."""
        self._freshness.limit_interval(seconds, self._now())

    def seconds_until_tick(self) -> float:
        """Seconds after which `refresh_if_due` should be called again."""
        now = self._now()
        due = self._freshness.next_due(now)
        expiry = self._trust.view.trusted_until.remaining(now) or due
        return max(SHORTEST_PAUSE_SECONDS, min(due, expiry, LONGEST_PAUSE_SECONDS))

    def overdue(self, tolerance: float) -> bool:
        """Whether no refresh has succeeded for an interval and `tolerance` seconds."""
        return self._freshness.overdue(tolerance, self._now())

    def waits_for_request(self) -> bool:
        """Whether `refresh_for_request` has anything to do."""
        decision = self._freshness.decide(self._trust.view.trusted_until, self._now())
        return decision in (Decision.SERVE_AND_REFRESH, Decision.REFRESH_FIRST)

    async def refresh_for_request(self) -> None:
        """What a request does first when nothing runs in the background."""
        decision = self._freshness.decide(self._trust.view.trusted_until, self._now())
        if decision is Decision.SERVE_AND_REFRESH:
            self._flight.join(self._fly)
        elif decision is Decision.REFRESH_FIRST:
            await self._flight.join(self._fly).landed()

    async def resolve(self, kid: str | None) -> None:
        """Look up `kid` at the issuer unless the view already knows it, within the budgets.

        None, of a token without one, asks for any keys.

        Raises UnknownKeyError or RemovedKeyError when the issuer, asked recently, does not publish
        it, KeysUnavailableError when that can't be said.
        """
        before = self._flight.launched
        confirmed = False
        while not self._answers(kid):
            if self._trust.closed:
                raise self.unavailable()
            if self._flight.current is None and not self._may_fetch(kid):
                raise self._refusal(kid, confirmed=False)
            looked_up = None if self._expired() else kid
            flight = self._flight.join(functools.partial(self._fly, looked_up))
            confirmed = await flight.landed()
            if flight.number > before and not self._answers(kid):
                self._not_found[kid] = None
                raise self._refusal(kid, confirmed=confirmed)

    def unavailable(self) -> KeysUnavailableError:
        """The error for a request that no trusted key can answer at the moment."""
        why = f" The last fetch failed: {self.error}." if self.error else ""
        wait = max(1.0, self._freshness.next_due(self._now()))
        return KeysUnavailableError(
            f"No key of the issuer can be trusted at the moment.{why}", wait
        )

    def _refusal(
        self, kid: str | None, *, confirmed: bool
    ) -> InvalidTokenError | KeysUnavailableError:
        now = self._now()
        if self._expired() or not (confirmed or self._freshness.recently_confirmed(now)):
            return self.unavailable()
        if kid in self._trust.view.removed:
            return RemovedKeyError("The issuer has withdrawn the key that signed this token.")
        return UnknownKeyError("The issuer does not publish the key that this token names.")

    def _may_fetch(self, kid: str | None) -> bool:
        now = self._now()
        if self._expired():
            return self._freshness.is_due(now)
        return kid not in self._not_found and self._freshness.may_look_up(now)

    def _answers(self, kid: str | None) -> bool:
        return self._trust.view.answers(kid, self._now())

    def _expired(self) -> bool:
        return self._trust.view.trusted_until.reached(self._now())

    async def _fly(self, kid: str | None = None) -> bool:
        """One fetch, on behalf of an unknown `kid` or of all known ones; True if confirmed.

        One more follows when a cache on the way answered for the issuer: with an older set than
        the one held, or with one that was made before somebody asked for `kid`.
        """
        outcome = await self._attempt(kid)
        doubtful = outcome is _Outcome.OLDER or (outcome is _Outcome.AGED and not self._knows(kid))
        if doubtful and (kid is None or self._freshness.may_look_up(self._now())):
            outcome = await self._attempt(kid)
        return outcome in (_Outcome.CONFIRMED, _Outcome.AGED)

    async def _attempt(self, kid: str | None) -> _Outcome:
        started, lookup = self._now(), kid is not None
        try:
            answer = await self._fetcher.fetch(self._held_now(), started)
        except FetchError as error:
            self._failed(str(error), error.retry_after, lookup=lookup)
            return _Outcome.FAILED
        if self._trust.closed or (answer.keys is None and not self._trust.published.keys):
            return _Outcome.FAILED  # the end came while we waited, or took what a 304 confirms
        if self._is_older(answer, started):
            self._failed("the answer is older than the key set held", None, lookup=lookup)
            return _Outcome.OLDER
        self._take(answer, started)
        return _Outcome.AGED if answer.dating.age else _Outcome.CONFIRMED

    def _knows(self, kid: str | None) -> bool:
        return kid is None or self._answers(kid)

    def _held_now(self) -> Held | None:
        """What to ask with: conditionally only for keys we have, and after a success.

        A server, a proxy or a client's event hook may fail on conditional requests alone.
        """
        if self._held is None or (self.error is None and self._trust.published.keys):
            return self._held
        return replace(self._held, etag=None)

    def _is_older(self, answer: Answer, started: Instant) -> bool:
        """Whether a cache showed a state that the issuer has left behind.

        An older answer with the very keys held contradicts nothing. Once trust has run out there
        is nothing left that could be rolled back. By its Age an answer can be told to be older
        than a set that came from the snapshot, or without any date; other dates compare only
        within one address.
        """
        held = self._trust.published
        if answer.keys is None or self._expired() or held.same_keys(answer.keys):
            return False
        if not held.confirmed.reached(started.shifted(-answer.dating.age)):
            return True
        if self.dating is None or self._moved(answer):
            return False
        return answer.dating.older_than(self.dating)

    def _moved(self, answer: Answer) -> bool:
        return self._held is not None and self._held.jwks_uri != answer.held.jwks_uri

    def _take(self, answer: Answer, started: Instant) -> None:
        held = self._trust.published
        keys = held.keys if answer.keys is None else answer.keys
        skipped = held.skipped if answer.keys is None else answer.skipped
        if not held.same_keys(keys):
            self._not_found.clear()
        self.dating = answer.dating.after(None if self._moved(answer) else self.dating)
        self._held = answer.held
        self._freshness.succeeded(started)
        if self.error is not None and held.keys:
            self._events.tell("refresh_recovered")
        self.error = None
        self._trust.publish(keys, skipped, started.shifted(-answer.dating.age))
        self._confirmed(answer.held.jwks_uri)

    def _failed(self, reason: str, retry_after: float | None, *, lookup: bool) -> None:
        self.error = reason
        until = self._trust.view.trusted_until
        self._freshness.failed(self._now(), retry_after, trusted_until=until, lookup=lookup)
        self._events.tell("refresh_failed", detail=reason)

    def _now(self) -> Instant:
        return Instant.now(self._clock)
