"""Issuers that become known at run time: a callable says which verifier is that of an issuer."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from cachetools import TTLCache

from jwks_guard.base.clock import EPOCH, Clock, Instant
from jwks_guard.base.events import LOG_PAUSE_SECONDS, logger
from jwks_guard.distrust.register import Register
from jwks_guard.errors import (
    InvalidClaimError,
    JWKSGuardError,
    KeysUnavailableError,
    LookUpThrottledError,
)
from jwks_guard.keys.freshness import TokenBucket
from jwks_guard.keys.home import Home
from jwks_guard.verify.resolve_call import LATE, Resolve, ResolveError, called
from jwks_guard.verify.verifier import TokenVerifier

MAX_ISSUER_CHARS = 512
"""A longer `iss` is no issuer's: URLs of 100 characters are long ones."""
REFILL_SECONDS = 1.0
"""After a burst of as many calls as issuers are allowed, one more per this many seconds."""
RETRY_SECONDS = 5.0
"""A known issuer is not asked for again sooner after a call that failed."""
REFUSED_SECONDS = 60.0
"""An issuer that is not served is not asked for again for this long: it may be about to be."""
REMEMBERED_REFUSALS = 1000
MAX_WAITING = 1000
"""More tokens than these do not wait for an answer: each holds a request."""

_Failure: TypeAlias = Callable[[], JWKSGuardError]
_FAILED = "Whether the issuer of this token is served can't be said: resolve failed."


@dataclass(slots=True, eq=False)
class _Known:
    """An issuer's verifier: to be asked for again from `due` on, not used any more at `until`."""

    verifier: TokenVerifier
    due: Instant
    until: Instant


class Resolution:
    """The verifiers that `resolve` gave, used on one event loop.

    A call ends after `max_wait` seconds. There is one at a time for an issuer. Calls for issuers
    that are not known draw from a budget, and are not made while `max_issuers` are in use; calls
    for known ones need no budget, as there are at most so many. A verifier is used for
    `resolve_ttl` seconds after `resolve` was asked for it, and as long again while the next call
    is on its way or fails.

    `generation` grows whenever `known` changes.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        resolve_ttl: float,
        max_wait: float,
        max_issuers: int,
        clock: Clock,
        register: Callable[[], Register],
    ) -> None:
        self.generation = 0
        self.closed = False
        self._resolve = resolve
        self._ttl = resolve_ttl
        self._max_wait = max_wait
        self._max_issuers = max_issuers
        self._clock = clock
        self._register = register
        self._home = Home("MultiIssuerVerifier")
        self._known: Mapping[str, _Known] = {}  # replaced as a whole, as other threads read it
        self._refused: TTLCache[str, None] = TTLCache(
            REMEMBERED_REFUSALS, min(resolve_ttl, REFUSED_SECONDS), timer=clock.monotonic
        )
        self._budget = TokenBucket(max_issuers, REFILL_SECONDS)
        self._calls: dict[str, asyncio.Task[_Failure | None]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._full_until = EPOCH
        self._waiting = 0
        self._warned_at: dict[str, float] = {}

    @property
    def verifiers(self) -> Mapping[str, TokenVerifier]:
        """The verifiers that are known, by issuer."""
        return MappingProxyType({issuer: each.verifier for issuer, each in self._known.items()})

    def holds(self, issuer: str, verifier: TokenVerifier) -> bool:
        """Whether `verifier` is the one in use for `issuer` at this moment."""
        known = self._known.get(issuer)
        return known is not None and known.verifier is verifier

    async def find(self, issuer: str) -> TokenVerifier:
        """The verifier of `issuer`, which an unverified token names.

        Raises InvalidClaimError, LookUpThrottledError and KeysUnavailableError.
        """
        known, now = self._known.get(issuer), Instant.now(self._clock)
        if known is None or known.until.reached(now):
            return await self._asked(issuer, now)
        if known.due.reached(now) and (self._home.vacant or self._home.here):
            self._call(issuer)
        return known.verifier

    def look(self, issuer: str) -> tuple[TokenVerifier, float]:
        """The verifier of `issuer`, known from before, and in how many seconds to look again.

        Raises InvalidClaimError, and KeysUnavailableError where `resolve` did not answer in time.
        """
        known, now = self._known.get(issuer), Instant.now(self._clock)
        if known is None:
            raise not_served()
        if known.until.reached(now):
            raise KeysUnavailableError(_FAILED)
        if not known.due.reached(now):
            return known.verifier, known.due.remaining(now)
        if self._home.here:
            self._call(issuer)
        return known.verifier, known.until.remaining(now)

    async def forget(self, issuer: str) -> None:
        """Use the verifier of `issuer` no more, at once, and close it.

        What an earlier call for it says is not taken any more.
        """
        if (call := self._calls.pop(issuer, None)) is not None:
            self._abandon(call)
        self._refused.pop(issuer, None)
        await asyncio.gather(*(_end(each) for each in self._removed([issuer])))

    async def aclose(self) -> None:
        """Make no call any more, and close all verifiers."""
        self.closed = True
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._abandon(call)
        self._refused.clear()
        await asyncio.gather(*(_end(each) for each in self._removed(tuple(self._known))))
        if self._home.here and calls:
            await asyncio.wait(calls.values(), timeout=self._max_wait)
        if self._home.here and self._endings:  # those of what the calls gave among them
            await asyncio.wait(set(self._endings), timeout=self._max_wait)
        self._home.leave()

    # --- one call ---

    async def _asked(self, issuer: str, now: Instant) -> TokenVerifier:
        """What a call says that is on its way, or is made now if that is allowed."""
        call = self._calls.get(issuer)
        if call is None or not self._home.here:
            self._require_room(issuer, now)
            call = self._call(issuer)
        if self._waiting >= MAX_WAITING:
            raise LookUpThrottledError(
                "Too many tokens wait for an answer of resolve.", REFILL_SECONDS
            )
        self._waiting += 1
        try:  # `resolve` may hold on to its call longer than it was given
            await asyncio.wait({call}, timeout=self._max_wait)
        finally:
            self._waiting -= 1
        if not call.done():
            raise self._failed(LATE)()
        if call.cancelled():  # the issuer was forgotten meanwhile
            return await self.find(issuer)
        if (failure := call.result()) is not None:
            raise failure()
        known = self._known.get(issuer)
        return await self.find(issuer) if known is None else known.verifier

    def _require_room(self, issuer: str, now: Instant) -> None:
        """Raise the refusal of a token of `issuer` for which no call may be made."""
        if self.closed:
            raise KeysUnavailableError("This verifier is closed; start it to use it again.")
        if issuer in self._refused:
            raise not_served()
        if (known := self._known.get(issuer)) is not None:
            if not known.due.reached(now):
                raise KeysUnavailableError(_FAILED, known.due.remaining(now))
            return
        if self._is_full(now):
            raise self._full()()
        if not self._budget.take(now):
            raise LookUpThrottledError(
                "Too many tokens name issuers that are not known: resolve is not called.",
                REFILL_SECONDS,
            )

    def _call(self, issuer: str) -> asyncio.Task[_Failure | None]:
        if self._home.settle():
            self._calls, self._endings, self._waiting = {}, set(), 0
        call = self._calls.get(issuer)
        if call is None:
            # In an empty context: it outlives the request that happens to begin it.
            asking = self._answer(issuer)
            call = contextvars.Context().run(asyncio.create_task, asking)
            self._calls[issuer] = call
        return call

    async def _answer(self, issuer: str) -> _Failure | None:
        """Ask `resolve`, and do what it says; gives what to raise instead where that fails."""
        call, asked = asyncio.current_task(), Instant.now(self._clock)
        verifier, failure = None, None
        try:
            verifier = await called(
                self._resolve, issuer, max_wait=self._max_wait, register=self._register()
            )
        except ResolveError as error:
            failure = self._failed(str(error))
        if self._calls.get(issuer) is not call:  # the issuer was forgotten meanwhile
            self._leave_unused(issuer, verifier)
            raise asyncio.CancelledError
        try:
            if failure is None:
                return self._take(issuer, verifier, asked)
            if (known := self._known.get(issuer)) is not None:
                known.due = Instant.now(self._clock).shifted(RETRY_SECONDS)
            return failure
        finally:
            if self._calls.get(issuer) is call:
                del self._calls[issuer]

    def _take(self, issuer: str, verifier: TokenVerifier | None, asked: Instant) -> _Failure | None:
        if verifier is None:
            self._refused[issuer] = None
            self._end_soon(self._removed([issuer]))
            return not_served
        now, known = Instant.now(self._clock), self._known.get(issuer)
        if known is None and self._is_full(now):
            self._end_soon([verifier])
            return self._full()
        verifier.keys.isolate()
        if known is None:
            self._end_soon(self._removed(self._unused(now)))
            known = _Known(verifier, asked, asked)
            self._known = {**self._known, issuer: known}
            self.generation += 1
        known.due, known.until = asked.shifted(self._ttl), asked.shifted(2 * self._ttl)
        before = known.verifier
        if verifier is before:
            return None
        if verifier.has_arguments_of(before):
            self._end_soon([verifier])  # made anew for the same issuer: nothing has changed
            return None
        known.verifier = verifier
        self.generation += 1
        self._end_soon([before])
        return None

    # --- what ends ---

    def _is_full(self, now: Instant) -> bool:
        """Whether no issuer can be added; a flood at the limit does not look at all of them."""
        if len(self._known) < self._max_issuers:
            return False
        if self._full_until.reached(now):
            if self._unused(now):
                return False
            self._full_until = now.shifted(REFILL_SECONDS)
        return True

    def _unused(self, now: Instant) -> list[str]:
        """At the limit: the issuers of which no token came until they ran out, to make room."""
        if len(self._known) < self._max_issuers:
            return []
        return [issuer for issuer, each in self._known.items() if each.until.reached(now)]

    def _leave_unused(self, issuer: str, verifier: TokenVerifier | None) -> None:
        """Close what was given too late, unless it is in use, or may be about to be given again."""
        if verifier is not None and issuer not in self._calls and not self.holds(issuer, verifier):
            self._end_soon([verifier])

    def _removed(self, issuers: Iterable[str]) -> list[TokenVerifier]:
        """The verifiers of these issuers, of those that were known, which they are no more."""
        left = dict(self._known)
        removed = [left.pop(issuer).verifier for issuer in issuers if issuer in left]
        self._known = left
        self.generation += bool(removed)
        return removed

    def _end_soon(self, verifiers: list[TokenVerifier]) -> None:
        """Close what is not in use any more; no token waits for that."""
        for verifier in verifiers:
            ending = asyncio.create_task(_end(verifier))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    def _abandon(self, call: asyncio.Task[_Failure | None]) -> None:
        if not self._home.vacant:
            with suppress(RuntimeError):  # its event loop was closed in this moment
                call.get_loop().call_soon_threadsafe(call.cancel)

    # --- what is said about it ---

    def _failed(self, why: str) -> _Failure:
        self._warn(f"resolve {why}; the tokens of that issuer get 503, unless it is known.")
        return partial(KeysUnavailableError, _FAILED, RETRY_SECONDS)

    def _full(self) -> _Failure:
        self._warn(
            f"{self._max_issuers} issuers are in use (max_issuers): tokens of others get 429. "
            "Raise max_issuers, or call forget for issuers that are not served any more."
        )
        return partial(
            LookUpThrottledError, "As many issuers are in use as are allowed.", LOG_PAUSE_SECONDS
        )

    def _warn(self, message: str) -> None:
        now = self._clock.monotonic()
        if now - self._warned_at.get(message, -math.inf) >= LOG_PAUSE_SECONDS:
            if len(self._warned_at) >= REMEMBERED_REFUSALS:
                self._warned_at.clear()
            self._warned_at[message] = now
            logger.error("%s", message)


def not_served() -> InvalidClaimError:
    """The refusal of a token of another issuer."""
    return InvalidClaimError("The `iss` claim names none of the configured issuers.", "iss")


async def _end(verifier: TokenVerifier) -> None:
    verifier.keys.trust.notify()  # closing does so only if the store is its own
    try:
        await verifier.aclose()
    except Exception:  # noqa: BLE001 - it is used no more all the same
        logger.exception("closing the verifier of %s failed", verifier.issuer)
