"""When to fetch, when to serve, when to refuse: rules on instants that are handed in.

Nothing here reads a clock, sleeps or does I/O. Every method takes `now`; the random numbers for
jitter come from a callable, so that a test decides them.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from jwks_guard.base.clock import EPOCH, FOREVER, Instant

BURST = 5
"""Unknown kids may cause this many fetches at once (counted as attempts, failed ones too)."""
REFILL_SECONDS = 12.0
"""After the burst, one more fetch for unknown kids per this many seconds."""
FIRST_RETRY_SECONDS = 1.0
"""The longest pause after the first failed fetch; it doubles up to `refresh_interval`."""
MAX_RETRY_AFTER_SECONDS = 300.0
"""A server's Retry-After is honoured up to this: beyond it, it would decide our outage."""


class Decision(enum.Enum):
    """What a request for a key that is held, or for any key when none is, has to do first."""

    SERVE = "serve"
    SERVE_AND_REFRESH = "serve and refresh"
    REFRESH_FIRST = "refresh first"
    REFUSE = "refuse"


@dataclass(slots=True)
class TokenBucket:
    """A budget of attempts: `burst` at once, then one per `refill` seconds."""

    burst: int = BURST
    refill: float = REFILL_SECONDS
    _level: float = field(init=False)
    _at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._level = float(self.burst)

    def take(self, now: Instant) -> bool:
        """Spend one attempt; False when none is left."""
        if self.wait(now) > 0.0:
            return False
        self._level -= 1.0
        return True

    def wait(self, now: Instant) -> float:
        """Seconds until there is an attempt to spend; 0.0 when there is one."""
        if self._at is not None:
            grown = max(0.0, now.monotonic - self._at) / self.refill
            self._level = min(float(self.burst), self._level + grown)
        self._at = now.monotonic
        return max(0.0, 1.0 - self._level) * self.refill


@dataclass(slots=True)
class Freshness:
    """The state behind every decision to fetch; times in seconds.

    Refreshes are due `refresh_interval` after the last one began, up to a fifth earlier so that
    instances spread out. After failures they are due after a doubling pause instead.
    """

    refresh_interval: float
    lazy: bool = False
    random: Callable[[], float] = random.random
    lookups: TokenBucket = field(default_factory=TokenBucket)
    last_success: Instant | None = field(init=False, default=None)
    failures: int = field(init=False, default=0)
    _due: Instant = field(init=False, default=EPOCH)
    _limit: float | None = field(init=False, default=None)
    _blocked_until: Instant = field(init=False, default=EPOCH)

    def decide(self, trusted_until: Instant, now: Instant) -> Decision:
        """What must happen before a key that is trusted until `trusted_until` may be used.

        A key inside its bound never waits; only a lazy store, which nothing else refreshes, waits
        once two intervals have passed.
        """
        if trusted_until.reached(now):
            return Decision.REFRESH_FIRST if self.is_due(now) else Decision.REFUSE
        if not self.lazy or not self.is_due(now):
            return Decision.SERVE
        overdue = self.last_success is None or self.last_success.shifted(
            2 * self.refresh_interval
        ).reached(now)
        return Decision.REFRESH_FIRST if overdue else Decision.SERVE_AND_REFRESH

    def is_due(self, now: Instant) -> bool:
        """Whether a refresh should begin now."""
        return self._due.reached(now)

    def next_due(self, now: Instant) -> float:
        """Seconds until the next refresh should begin."""
        return self._due.remaining(now)

    def may_look_up(self, now: Instant) -> bool:
        """Spend one attempt on an unknown kid; False inside a Retry-After or over the budget."""
        return not self.blocked(now) and self.lookups.take(now)

    def blocked(self, now: Instant) -> float:
        """Seconds for which the issuer's last answer asked for no more requests."""
        return self._blocked_until.remaining(now)

    def overdue(self, tolerance: float, now: Instant) -> bool:
        """Whether the last success lies further back than an interval and `tolerance` seconds."""
        success = self.last_success
        bound = self.refresh_interval + tolerance
        return success is not None and success.shifted(bound).reached(now)

    def succeeded(self, started: Instant) -> None:
        """Note a fetch, begun at `started`, that confirmed the key set."""
        self.last_success = started
        self.failures = 0
        self._blocked_until = EPOCH
        interval = min(self.refresh_interval, self._limit or math.inf)
        self._due = started.shifted(interval * (1.0 - 0.2 * self.random()))

    def limit_interval(self, seconds: float | None, now: Instant) -> None:
        """Refresh at least every so many seconds from now on; None: as configured."""
        if seconds == self._limit:
            return
        self._limit = seconds
        if seconds is not None and self.failures == 0 and self._due.remaining(now) > seconds:
            self._due = now.shifted(seconds * (1.0 - 0.2 * self.random()))

    def forget(self) -> None:
        """Hold nothing as confirmed any more, so that a refresh is due at once."""
        self.last_success = None
        self._due = EPOCH

    def failed(
        self,
        now: Instant,
        retry_after: float | None = None,
        *,
        trusted_until: Instant = FOREVER,
        lookup: bool = False,
    ) -> None:
        """Note a fetch that confirmed nothing, with the server's Retry-After if it sent one.

        That is honoured, but never for longer than an interval or half of what is left of trust,
        and the end of trust is never slept through. A failed `lookup` of an unknown kid never puts
        the refresh of the known keys off.
        """
        left = trusted_until.remaining(now)
        longest = min(MAX_RETRY_AFTER_SECONDS, max(self.refresh_interval, left / 2))
        asked = min(retry_after or 0.0, longest)
        # The failure of a fetch that began before does not cut it short.
        self._blocked_until = now.shifted(max(asked, min(self.blocked(now), longest)))
        if lookup:
            return
        doubled = FIRST_RETRY_SECONDS * 2.0 ** min(self.failures, 16)
        self.failures += 1
        pause = min(self.refresh_interval, doubled) * (1.0 - 0.5 * self.random())
        wait = max(pause, asked)
        self._due = now.shifted(min(wait, left) if left else wait)
