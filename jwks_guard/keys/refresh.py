"""Keeps what is trusted confirmed: when to fetch, one fetch for all, what its answer changes."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Events
from jwks_guard.base.histogram import Durations
from jwks_guard.base.observer import Activity, Observer, observed
from jwks_guard.errors import KeysUnavailableError
from jwks_guard.keys.fetch import Answer, FetchError, Held, HTTPKeyFetcher
from jwks_guard.keys.flight import Flight, Flights
from jwks_guard.keys.freshness import Decision, Freshness
from jwks_guard.keys.judgement import Keys, Outcome, Previous, judged, latest_origin, origin
from jwks_guard.keys.lookup import MOST_WAITING, LookUps
from jwks_guard.keys.trust import Trust
from jwks_guard.net.caching import Dating

LONGEST_PAUSE_SECONDS = 5.0
"""The clocks are looked at this often, to notice that the machine was asleep."""
SHORTEST_PAUSE_SECONDS = 0.05
_NOT_FETCHED = "no key set was fetched yet"
OVERSLEPT_SECONDS = 5.0
"""A fetch that took so much longer than it may was frozen with its process."""


class Refresher:
    """Fetches for one `trust`, within the budgets of `freshness`; used on one event loop.

    A request waits for a fetch at most `max_wait` seconds. `confirmed(jwks_uri)` is called after
    each confirmed set, so that it is stored.
    """

    def __init__(
        self,
        trust: Trust,
        fetcher: HTTPKeyFetcher,
        freshness: Freshness,
        clock: Clock,
        events: Events,
        confirmed: Callable[[str], None],
        max_wait: float = 5.0,
        observer: Observer | None = None,
    ) -> None:
        self.error: str | None = _NOT_FETCHED
        self.dating: Dating | None = None
        self.fetches: defaultdict[Outcome, int] = defaultdict(int)
        """How many requests for the key set had each outcome."""
        self.durations = Durations()
        """Of those that ended."""
        self._previous = Previous()
        self._trust = trust
        self._fetcher = fetcher
        self._freshness = freshness
        self._clock = clock
        self._events = events
        self._confirmed = confirmed
        self._max_wait = max_wait
        self._observer = observer
        self._flights = Flights(max_wait, clock)
        self._waiting = 0
        self._asked = self._taken = 0  # numbers of requests: the last one, and the one in use
        self._look_ups = LookUps(trust, freshness, clock, self.unavailable)

    def rebind(self) -> None:
        """Let go of what belongs to another event loop or process; knowledge and budgets stay."""
        self._flights = Flights(self._max_wait, self._clock)
        self._waiting = 0

    async def cancel(self) -> None:
        """Stop the fetches on their way."""
        await self._flights.cancel()

    def forget(self) -> None:
        """Begin anew: a fetch is due, and its answer is held to what the issuer said last."""
        self._freshness.forget()
        self._previous, self.dating = Previous(), None

    def after_fork(self) -> None:
        """In a forked child: count from 0."""
        self.fetches.clear()
        self.durations = Durations()

    async def refresh(self, *, awaited: bool = True) -> None:
        """Fetch now, by a request that begins after this call; raises KeysUnavailableError."""
        if not await self._flights.next(functools.partial(self._fly, awaited=awaited)):
            wait = max(1.0, self._freshness.next_due(self._now()))
            raise KeysUnavailableError(f"The key set was not refreshed: {self.error}.", wait)

    async def refresh_if_due(self) -> None:
        """Do what is due at this moment, which is mostly nothing; waits at most `max_wait`."""
        if self._freshness.is_due(self._now()):
            await self._wait_for(self._refreshing())
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

    async def refresh_for_request(self) -> float:
        """What a request does first when nothing runs in the background; the seconds it waited."""
        decision = self._freshness.decide(self._trust.view.trusted_until, self._now())
        if decision is Decision.SERVE_AND_REFRESH:
            self._refreshing(awaited=False)
        elif decision is Decision.REFRESH_FIRST and self._waiting < MOST_WAITING:
            return await self._wait_for(self._refreshing())
        return 0.0

    async def resolve(self, kid: str | None, waited: float = 0.0) -> None:
        """Look up `kid` at the issuer unless the view already knows it, within the budgets.

        None, of a token without one, asks for any keys. `waited` is for how long the request has
        waited already, in seconds.

        Raises UnknownKeyError when the issuer, asked on behalf of `kid`, does not publish it,
        RemovedKeyError for one that it withdrew, KeysUnavailableError when it could not be asked
        or did not answer in time, LookUpThrottledError when it was not asked.
        """
        until = _loop_time() + self._max_wait - waited
        before, flight = self._flights.launched, None
        while not self._answers(kid):
            if flight is None or flight.landed:
                if flight is not None and flight.number > before:
                    raise self._look_ups.done(kid, self.error, confirmed=flight.confirmed)
                flight = self._flight_for(kid)
            if not await self._landing(until - _loop_time()):
                raise self._look_ups.slow(kid, self._max_wait)

    def unavailable(self) -> KeysUnavailableError:
        """The error for a request that no trusted key can answer at the moment."""
        why = f" The last fetch failed: {self.error}." if self.error else ""
        if self.dating is None and self._flights.current:
            why = " The issuer was asked and has not answered yet."
        wait = max(1.0, self._freshness.next_due(self._now()))
        return KeysUnavailableError(
            f"No key of the issuer can be trusted at the moment.{why}", wait
        )

    def _refreshing(self, *, awaited: bool = True) -> Flight:
        """The flight that renews what is known, on its way or new.

        While keys are trusted a slow issuer is given all its time, and not asked once more.
        """
        current = self._flights.current
        if current and not self._expired():
            given_up = current[-1].started.shifted(self._fetcher.timeout)
            if not given_up.reached(self._now()):
                return current[-1]
        return self._flights.join(functools.partial(self._fly, awaited=awaited))

    def _flight_for(self, kid: str | None) -> Flight:
        """The flight that may bring `kid`: one on its way, or a new one where the budget allows."""
        if self._trust.closed:
            raise self.unavailable()
        if self._waiting >= MOST_WAITING:
            why = f"{MOST_WAITING} requests wait for its keys already"
            raise self._look_ups.throttled(kid, why, 1.0)
        expired = self._expired()
        if self._flights.joinable() is None:
            if not expired:
                self._look_ups.spend(kid, self.error)
            elif not self._freshness.is_due(self._now()):
                if not (current := self._flights.current):
                    raise self._look_ups.refusal(kid, self.error, confirmed=False)
                return current[-1]
        return self._flights.join(functools.partial(self._fly, None if expired else kid))

    async def _wait_for(self, flight: Flight) -> float:
        """Wait for the end of `flight`, at most `max_wait`; the seconds that took."""
        begun = _loop_time()
        while not flight.landed:
            if not await self._landing(begun + self._max_wait - _loop_time()):
                break
        return _loop_time() - begun

    async def _landing(self, seconds: float) -> bool:
        self._waiting += 1
        try:
            return await self._flights.landing(seconds)
        finally:
            self._waiting -= 1

    def _answers(self, kid: str | None) -> bool:
        return self._trust.view.answers(kid, self._now())

    def _expired(self) -> bool:
        return self._trust.view.trusted_until.reached(self._now())

    async def _fly(self, kid: str | None = None, *, awaited: bool = True) -> bool:
        """One fetch, on behalf of an unknown `kid` or of all known ones; True if confirmed.

        One more follows when a cache on the way answered for the issuer: with an older set than
        the one held, or with one that was made before somebody asked for `kid`; when the set was
        changed earlier than the one held; and when the process was frozen meanwhile. `awaited` says
        whether a caller waits for it.
        """
        begun = _loop_time()
        outcome = await self._attempt(kid, awaited=awaited)
        if outcome is Outcome.OVERSLEPT:
            outcome = await self._attempt(kid, last=True, awaited=awaited)
        elif self._is_doubtful(outcome, kid):
            if kid is None or self._freshness.may_look_up(self._now()):
                left = self._fetcher.timeout - (_loop_time() - begun)
                outcome = await self._attempt(kid, max(1.0, left), last=True, awaited=awaited)
            elif outcome is Outcome.REVERTED:
                self._failed(outcome.value, lookup=True)
        return outcome in (Outcome.CONFIRMED, Outcome.AGED)

    def _is_doubtful(self, outcome: Outcome, kid: str | None) -> bool:
        if outcome is Outcome.AGED:
            return kid is not None and not self._answers(kid)
        return outcome in (Outcome.OLDER, Outcome.REVERTED)

    async def _attempt(
        self, kid: str | None, within: float | None = None, *, awaited: bool, last: bool = False
    ) -> Outcome:
        """One request, which is counted by its outcome and shown to the observer."""
        begun = _loop_time()
        fetcher, issuer = self._fetcher, self._trust.issuer
        url = fetcher.jwks_uri or fetcher.discovered or issuer
        activity = Activity("fetch", issuer, url, awaited=awaited)
        with observed(self._observer, activity):
            outcome = await self._request(kid, within, activity, last=last)
            good = outcome in (Outcome.CONFIRMED, Outcome.AGED)
            error = None if good else activity.error or outcome.name.lower()
            reason = None if good else activity.reason or outcome.value
            activity.ended(outcome.name.lower(), error, reason)
        self.fetches[outcome] += 1
        self.durations = self.durations.with_one(_loop_time() - begun)
        return outcome

    async def _request(
        self, kid: str | None, within: float | None, activity: Activity, *, last: bool
    ) -> Outcome:
        """One request; a later one that has confirmed a set meanwhile makes its answer void."""
        started, lookup = self._now(), kid is not None
        self._asked += 1
        number = self._asked
        try:
            answer = await self._fetcher.fetch(self._held_now(), started, within)
        except FetchError as error:
            if number < self._taken:
                return Outcome.CONFIRMED
            if not last and self._overslept(started):
                return Outcome.OVERSLEPT
            activity.ended("failed", error.kind, str(error))
            self._failed(str(error), error.retry_after, lookup=lookup)
            return Outcome.FAILED
        if self._trust.closed or (answer.keys is None and not self._trust.published.keys):
            return Outcome.FAILED  # the end came while we waited, or took what a 304 confirms
        if number < self._taken:
            return Outcome.CONFIRMED
        received = self._now()
        made, published = origin(answer, self._previous, started), self._trust.published
        outcome, keys = judged(
            answer, published, self._previous, made, expired=self._expired(), last=last
        )
        if outcome is Outcome.OLDER:
            self._failed(outcome.value, lookup=lookup)
        elif outcome is not Outcome.REVERTED:
            self._taken = number
            latest = latest_origin(answer, made, started, received)
            self._take(answer, keys, started, latest)
        return outcome

    def _overslept(self, started: Instant) -> bool:
        return started.shifted(self._fetcher.timeout + OVERSLEPT_SECONDS).reached(self._now())

    def _held_now(self) -> Held | None:
        """What to ask with: conditionally only for keys we have, and after a success.

        A server, a proxy or a client's event hook may fail on conditional requests alone.
        """
        held = self._previous.held
        if held is None or (self.error is None and self._trust.published.keys):
            return held
        return replace(held, etag=None)

    def _take(self, answer: Answer, keys: Keys, started: Instant, made: Instant) -> None:
        before = self._trust.published
        skipped = before.skipped if answer.keys is None else answer.skipped
        if not before.same_keys(keys):
            self._look_ups.clear()
        self.dating = answer.dating
        self._previous = self._previous.followed_by(answer, keys)
        self._freshness.succeeded(started)
        if self.error not in (None, _NOT_FETCHED):
            self._events.tell("refresh_recovered", detail="the keys are confirmed again")
        self.error = None
        self._trust.publish(keys, skipped, started.shifted(-answer.confirmed_before), made)
        self._confirmed(answer.held.jwks_uri)

    def _failed(
        self, reason: str, retry_after: float | None = None, *, lookup: bool = False
    ) -> None:
        self.error = reason
        until = self._trust.view.trusted_until
        self._freshness.failed(self._now(), retry_after, trusted_until=until, lookup=lookup)
        self._events.tell("refresh_failed", detail=reason)

    def _now(self) -> Instant:
        return Instant.now(self._clock)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
