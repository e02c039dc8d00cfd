"""The one place where the published set and the tombstones become the view. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from jwks_guard.base.arguments import require_text
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Events, logger
from jwks_guard.errors import RevocationRefusedError
from jwks_guard.jose.jwk import SkippedKey, VerificationKey
from jwks_guard.keys.distrust import Name, Tombstone, Tombstones
from jwks_guard.keys.view import PublishedSet, TrustedKeys, subtract

Listener = Callable[[], None]
NO_LIFTS: Mapping[Name, int] = MappingProxyType({})


class Trust:
    """What one issuer publishes, what is distrusted, and `view`, the difference.

    Readers take `view` without a lock. Every change is made under the lock and swaps the view in
    one assignment; events and listeners are called after the lock is released.
    """

    def __init__(self, issuer: str, max_stale: float, clock: Clock, events: Events) -> None:
        self.issuer = issuer
        self.view = TrustedKeys()
        self.published = PublishedSet()
        self.tombstones = Tombstones()
        self.closed = False
        self._max_stale = max_stale
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._listeners: dict[object, Listener] = {}
        self._expiry_told = True

    def after_fork(self) -> None:
        """In a forked child: keep the view; the lock's owner and the listeners are not here."""
        self._lock = threading.Lock()
        self._listeners = {}

    def publish(
        self,
        keys: tuple[VerificationKey, ...],
        skipped: tuple[SkippedKey, ...],
        confirmed: Instant,
    ) -> list[Tombstone]:
        """Take a set that the issuer confirmed; returns the tombstones that it completed.

        A set that comes after the end, by a request that was still waiting, is not taken.
        """
        with self._lock:
            if self.closed:
                return []
            before = self.published
            self.published = before.succeeded_by(keys, skipped, confirmed)
            after = self.published
            fresh = after.seen.keys() - before.seen.keys()
            learned = self.tombstones.learned(self.issuer, after.seen, fresh)
            self._swap(self.tombstones.completed(learned))
        self._expiry_told = False
        for kid in sorted({key.kid for key in after.keys} - {key.kid for key in before.keys}):
            self._events.tell("key_added", kid=kid)
        for kid in sorted(after.removed - before.removed):
            self._events.tell("key_removed", kid=kid)
        self.notify()
        return learned

    def distrust(self, kid: str, reason: str, *, force: bool, version: int = 1) -> Tombstone:
        """Stop trusting `kid` and the keys seen under it; in effect when this returns.

        `version` is the least that the decision has to have.
        """
        require_text("kid", kid)
        require_text("reason", reason)
        with self._lock:
            prints = self.published.seen.get(kid, frozenset())
            name, at = (self.issuer, kid), self._clock.time()
            stone = self.tombstones.decided(name, reason, at, prints)
            stone = replace(stone, version=max(version, stone.version))
            changed = self.tombstones.merged([stone])
            if not force and self.view.live and not self._subtracted(changed).live:
                raise RevocationRefusedError(
                    "This is the only trusted key: without it every token of the issuer would be "
                    "refused. Rotate first and wait for the next key, or pass force=True."
                )
            self._swap(changed)
        self._events.tell("key_distrusted", kid=kid, detail=reason)
        self.notify()
        return changed.entries[self.issuer, kid]

    def absorb(
        self, stones: Iterable[Tombstone], lifts: Mapping[Name, int] = NO_LIFTS
    ) -> list[Tombstone]:
        """Take over decisions made elsewhere; returns those that our published keys complete."""
        with self._lock:
            merged = self.tombstones.merged(stones).without(lifts)
            fresh = {kid for _, kid in merged.entries.keys() - self.tombstones.entries.keys()}
            learned = merged.learned(self.issuer, self.published.seen, fresh)
            self._swap(merged.completed(learned))
        self.notify()
        return learned

    def complete(self, learned: Iterable[Tombstone]) -> None:
        """Add what was learned of the keys that decisions mean; a lifted one is not made again."""
        with self._lock:
            self._swap(self.tombstones.completed(learned))
        self.notify()

    def reinstate(self, lifts: Mapping[Name, int]) -> None:
        """Lift tombstones; a key that is still published is trusted again at once."""
        with self._lock:
            before, after = self.tombstones, self.tombstones.without(lifts)
            gone = before.entries.keys() - after.entries.keys()
            if not gone:
                self.tombstones = after  # the view stays, and with it what was resolved by it
                return
            self._swap(after)
        for issuer, kid in sorted(gone):
            if issuer == self.issuer:
                self._events.tell("key_reinstated", kid=kid)
        self.notify()

    def close(self) -> None:
        """Trust nothing any more: nobody watches the issuer from here on."""
        with self._lock:
            self.closed = True
            self.published = PublishedSet(seen=self.published.seen)
            self._swap(self.tombstones)
        self._expiry_told = True
        self.notify()

    def reopen(self) -> None:
        """Take what the issuer confirms from here on."""
        self.closed = False

    def tell_expiry(self, now: Instant) -> None:
        """Say once that trust ran out, when it has."""
        if not self._expiry_told and self.view.trusted_until.reached(now):
            self._expiry_told = True
            self._events.tell("trust_expired", detail="the issuer confirmed no key in max_stale")
            self.notify()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener`, from any thread, after each change; returns how to stop that."""
        name = object()
        with self._lock:
            self._listeners[name] = listener

        def unsubscribe() -> None:
            self._listeners.pop(name, None)

        return unsubscribe

    def notify(self) -> None:
        """Wake everybody whose decision may have changed."""
        with self._lock:
            listeners = tuple(self._listeners.values())
        for listener in listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001 - the boundary to the caller's code: the others must hear of it
                logger.exception("a listener for changes of trust raised")

    def _swap(self, tombstones: Tombstones) -> None:
        self.view = self._subtracted(tombstones)
        self.tombstones = tombstones

    def _subtracted(self, tombstones: Tombstones) -> TrustedKeys:
        return subtract(self.published, tombstones, self.issuer, self._max_stale)
