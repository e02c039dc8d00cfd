"""What one issuer publishes, less what is distrusted: the view. Thread-safe."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Callable, Collection, Mapping

from jwks_guard.base.clock import EPOCH, Clock, Instant
from jwks_guard.base.events import Events, logger
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrust, Distrusted, Name, State
from jwks_guard.errors import RevocationRefusedError
from jwks_guard.jose.jwk import SkippedKey, VerificationKey
from jwks_guard.keys.view import PublishedSet, TrustedKeys, subtract

Listener = Callable[[], None]


class Trust:
    """The published keys of `issuer`, and `view`: those of them that `register` does not distrust.

    Readers take `view` without a lock. Every change is made under the lock and swaps the view in
    one assignment; events and listeners are called after the lock is released.

    `refused_since` has when this process began to refuse each distrusted kid, in seconds since the
    epoch, the latest last. `isolated` is that of Follower.
    """

    def __init__(
        self,
        issuer: str,
        max_stale: float,
        clock: Clock,
        events: Events,
        register: Register,
        *,
        isolated: bool = False,
    ) -> None:
        self.issuer = issuer
        self.isolated = isolated
        self.view = TrustedKeys()
        self.published = PublishedSet()
        self.closed = False
        self.refused_since: dict[str, float] = {}
        self._max_stale = max_stale
        self._clock = clock
        self._events = events
        self._register = register
        self._applied = State()
        self._covered: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._listeners: dict[object, Listener] = {}
        self._expiry_told = True

    def after_fork(self) -> None:
        """In a forked child: keep the view; the lock's owner and the listeners are not here."""
        self._lock = threading.Lock()
        self._listeners = {}
        self.view = self._subtracted(self._register.state)  # of a set taken in this very moment

    @property
    def distrusted(self) -> Mapping[str, Distrusted]:
        """The distrusted keys of the issuer by kid."""
        return self._register.state.of(self.issuer)

    def publish(
        self,
        keys: tuple[VerificationKey, ...],
        skipped: tuple[SkippedKey, ...],
        confirmed: Instant,
        origin: Instant | None = None,
    ) -> None:
        """Take a set that the issuer confirmed as of `confirmed`, by an answer made at `origin`.

        A set that comes after the end, by a request that was still waiting, is not taken.
        """
        self._replace(lambda before: before.succeeded_by(keys, skipped, confirmed, origin))

    def restore(self, found: PublishedSet) -> None:
        """Take a set that was stored, as long as there is no other.

        What was seen and listed counts also when the set is too old to be trusted.
        """
        self._replace(lambda before: found if before.origin == EPOCH else before)

    def _replace(self, succeed: Callable[[PublishedSet], PublishedSet]) -> None:
        with self._lock:
            before = self.published
            after = succeed(before)
            if self.closed or after is before:
                return
            self.published = after
            self.view = self._subtracted(self._register.state)
        self._expiry_told = False
        self._complete((), after.seen)
        for kid in sorted({key.kid for key in after.keys} - {key.kid for key in before.keys}):
            self._events.tell("key_added", kid=kid)
        for kid in sorted(after.removed - before.removed):
            self._events.tell("key_removed", kid=kid)
        self.notify()

    def apply(self, *, tell: bool = True) -> None:
        """Refuse what the register distrusts at this moment; events are told with `tell` only."""
        with self._lock:
            before, state = self._applied, self._register.state
            same = state.distrusted.get(self.issuer) is before.distrusted.get(self.issuer)
            covered = self._covered_by(state)
            if same and covered == self._covered:
                self._applied = state  # the view stays, and with it what was resolved by it
                return
            was, now = before.of(self.issuer).keys(), state.of(self.issuer).keys()
            began, ended = now - was, was - now
            self.view = self._subtracted(state)
            self._note_since(began, ended)
            self._covered = covered
            self._applied = state  # last: a child that is forked before it does all of this again
            seen = self.published.seen
        self._complete(began, seen, tell=tell)
        if tell:
            self._tell_changes(state, began, ended)
        self.notify()

    def _note_since(self, began: Collection[str], ended: Collection[str]) -> None:
        since = {**self.refused_since, **dict.fromkeys(began, self._clock.time())}
        for kid in ended:
            since.pop(kid, None)
        self.refused_since = since

    def _subtracted(self, state: State) -> TrustedKeys:
        distrusted, seen = state.of(self.issuer), self.published.seen
        # Those that `_complete` is about to add: no view shows these keys under another kid.
        uncovered = (seen.get(kid, ()) for kid, key in distrusted.items() if not key.thumbprints)
        thumbprints = self._covered_by(state).union(*uncovered)
        return subtract(self.published, distrusted.keys(), thumbprints, self._max_stale)

    def _covered_by(self, state: State) -> frozenset[str]:
        return self._register.covered(self.issuer, state, isolated=self.isolated)

    def _complete(
        self, new: Collection[str], seen: Mapping[str, frozenset[str]], *, tell: bool = True
    ) -> None:
        """Have decisions cover the keys `seen` under their kid until now.

        Those are `new` here, made by a process that may have seen others, or were made before any
        key was seen: then they cover the first ones. Keys that are seen later are not covered.
        """
        distrusted = self.distrusted
        if distrusted:  # a key may be named by its thumbprint instead of its kid
            prints = frozenset[str]().union(*seen.values())
            seen = {**seen, **{each: seen.get(each, frozenset()) | {each} for each in prints}}
        missing: dict[Name, Distrust] = {
            (self.issuer, kid): Distrust(thumbprints=thumbprints)
            for kid, thumbprints in seen.items()
            if (key := distrusted.get(kid)) is not None
            and (kid in new or not key.thumbprints)
            and thumbprints - key.thumbprints
        }
        if missing:
            self._register.merge(missing, tell=tell)

    def _tell_changes(self, state: State, began: Collection[str], ended: Collection[str]) -> None:
        for kid in began:
            self._events.tell("key_distrusted", kid=kid, detail=state.of(self.issuer)[kid].reason)
        for kid in ended:
            reason = state.flags[self.issuer, kid].latest_lift.reason
            self._events.tell("key_reinstated", kid=kid, detail=reason)

    def require_another(self, state: State) -> None:
        """Raise RevocationRefusedError if `state` leaves no key of those that are trusted now."""
        if self.view.live and not self._subtracted(state).live:
            raise RevocationRefusedError(
                "This is the only trusted key: without it every token of the issuer would be "
                "refused. Rotate first and wait for the next key, or pass force=True."
            )

    def close(self) -> None:
        """Trust nothing any more: nobody watches the issuer from here on."""
        with self._lock:
            self.closed = True
            self.published = self.published.ended()
            self.view = self._subtracted(self._register.state)
        self._expiry_told = True
        self.notify()

    def reopen(self) -> None:
        """Take what the issuer confirms from here on."""
        self.closed = False

    def tell_expiry(self, now: Instant) -> None:
        """Say once that trust ran out, when it has."""
        if not self._expiry_told and self.view.trusted_until.reached(now):
            self._expiry_told = True
            self._events.tell(
                "trust_expired",
                detail="the issuer confirmed no key in max_stale: every token is refused (503) "
                "until it does",
            )
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
            except (Exception, CancelledError):  # noqa: BLE001 - the others must hear of it
                logger.exception("a listener for changes of trust raised")
