"""Unknown kids: whether the issuer may be asked for one, and what its token is refused with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cachetools import TLRUCache

from jwks_guard.base.clock import Clock, Instant
from jwks_guard.errors import (
    KeysUnavailableError,
    LookUpThrottledError,
    RemovedKeyError,
    UnknownKeyError,
)
from jwks_guard.keys.freshness import Freshness
from jwks_guard.keys.trust import Trust
from jwks_guard.keys.view import REMEMBERED_KIDS

PAUSE_SECONDS = 5.0
"""A kid that was just looked up in vain is not looked up again for this long."""
MOST_WAITING = 1000
"""As many requests wait for a fetch; each holds memory and a connection meanwhile."""

Refusal: TypeAlias = RemovedKeyError | UnknownKeyError | KeysUnavailableError


class LookUps:
    """What came of looking kids up, within the budget of `freshness`.

    `unavailable` makes the error for when nothing is trusted. Every error is true: 401 says that
    the token is bad, 503 that the issuer could not be asked, 429 that it was not.
    """

    def __init__(
        self,
        trust: Trust,
        freshness: Freshness,
        clock: Clock,
        unavailable: Callable[[], KeysUnavailableError],
    ) -> None:
        self._trust = trust
        self._freshness = freshness
        self._clock = clock
        self._unavailable = unavailable
        # Whether the issuer said that it has no such key, or could not be asked.
        self._found: TLRUCache[str | None, bool] = TLRUCache(
            REMEMBERED_KIDS, self._kept_until, timer=clock.monotonic
        )

    def clear(self) -> None:
        """Look up anew what was not in the set before."""
        self._found.clear()

    def spend(self, kid: str | None, error: str | None) -> None:
        """Spend one attempt on `kid`; raises what its token is refused with instead.

        `error` is why the last fetch failed, if it did.
        """
        now = Instant.now(self._clock)
        if (confirmed := self._found.get(kid)) is not None:
            raise self.refusal(kid, error, confirmed=confirmed)
        if self._freshness.blocked(now):
            raise self.refusal(kid, error, confirmed=False)
        if not self._freshness.may_look_up(now):
            wait = self._freshness.lookups.wait(now)
            raise self.throttled(kid, "too many unknown keys were looked up lately", wait)

    def done(self, kid: str | None, error: str | None, *, confirmed: bool) -> Refusal:
        """Note that a fetch on behalf of `kid` did not bring it; the error for its token."""
        self._found[kid] = confirmed
        return self.refusal(kid, error, confirmed=confirmed)

    def refusal(self, kid: str | None, error: str | None, *, confirmed: bool) -> Refusal:
        """The error where the issuer `confirmed` a set without `kid`, or could not be asked."""
        if (withdrawn := self._withdrawn(kid)) is not None:
            return withdrawn
        if self._trust.view.trusted_until.reached(Instant.now(self._clock)):
            return self._unavailable()
        if confirmed:
            return UnknownKeyError("The issuer does not publish the key that this token names.")
        wait = self._freshness.blocked(Instant.now(self._clock)) or PAUSE_SECONDS
        return KeysUnavailableError(
            "The key that this token names is not held, and looking it up at the issuer failed: "
            f"{error or 'it gave no answer that counts'}. Keys that are held stay trusted.",
            max(1.0, wait),
        )

    def slow(self, kid: str | None, max_wait: float) -> Refusal:
        """The error where the issuer has not answered within `max_wait` seconds."""
        return self._withdrawn(kid) or KeysUnavailableError(
            f"The issuer has not answered within max_wait ({max_wait:g} s). The request to it "
            "goes on; ask again."
        )

    def throttled(self, kid: str | None, why: str, wait: float) -> Refusal:
        """The error where the issuer was not asked for `kid`, for another `wait` seconds."""
        return self._withdrawn(kid) or LookUpThrottledError(
            f"The key that this token names is not held, and the issuer was not asked: {why}.",
            max(1.0, wait),
        )

    def _withdrawn(self, kid: str | None) -> RemovedKeyError | None:
        if self._trust.closed or kid not in self._trust.view.removed:
            return None
        error = RemovedKeyError("The issuer has withdrawn the key that signed this token.")
        error.kid = kid
        return error

    def _kept_until(self, kid: str | None, _: bool, now: float) -> float:
        """What was withdrawn, and is in tokens still, leaves the budget to new keys."""
        removed = kid in self._trust.view.removed
        return now + (self._freshness.refresh_interval if removed else PAUSE_SECONDS)
