"""A token bucket that reports itself as the Management API does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwks_guard.testing.settings import Clock


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the bucket said to one request; `reset` is in seconds since 1970."""

    granted: bool
    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell it to the client."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }


class RateLimit:
    """Grants `burst` requests at once and then `per_second` of them."""

    def __init__(self, burst: int, per_second: float, clock: Clock) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._lock = Lock()
        self._tokens = float(burst)
        self._filled_at = clock.time()

    def take(self) -> Allowance:
        """Spend one request, if there is one left."""
        with self._lock:
            now = self._clock.time()
            refill = max(0.0, now - self._filled_at) * self._per_second
            self._tokens = min(self._burst, self._tokens + refill)
            self._filled_at = now
            granted = self._tokens >= 1
            self._tokens -= granted
            until_next = max(0.0, 1 - self._tokens) / self._per_second
            return Allowance(granted, self._burst, int(self._tokens), math.ceil(now + until_next))
