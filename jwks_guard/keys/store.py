"""KeyStore: one issuer's keys for one verifier or several; what is asked of keys is asked here.

What is trusted lies in `trust` and may be read, and distrusted, from any thread. What fetches is
bound to one event loop of one process, the store's `home`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Self

from jwks_guard.base.arguments import (
    require_addresses,
    require_bounds,
    require_count,
    require_flag,
    require_issuer,
    require_listener,
    require_timeouts,
)
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Event, Events, logger
from jwks_guard.base.histogram import Durations
from jwks_guard.base.observer import Observer
from jwks_guard.base.worker import Worker, waited
from jwks_guard.distrust import register as registers
from jwks_guard.distrust.journal import LONGEST_SECONDS, Journal
from jwks_guard.distrust.register import Register
from jwks_guard.errors import JWKSGuardError, KeysUnavailableError
from jwks_guard.jose.rsa_engine import RSAEngine
from jwks_guard.keys.decisions import Decisions
from jwks_guard.keys.fetch import HTTPKeyFetcher
from jwks_guard.keys.fleet import Fleet, FleetCopy
from jwks_guard.keys.freshness import Freshness
from jwks_guard.keys.health import Bounds, HealthReport, health_report
from jwks_guard.keys.hints import Hints
from jwks_guard.keys.home import Home, running_loop
from jwks_guard.keys.introduction import introduce
from jwks_guard.keys.judgement import Outcome
from jwks_guard.keys.refresh import Refresher
from jwks_guard.keys.snapshot import Snapshot, SnapshotError
from jwks_guard.keys.trust import Trust
from jwks_guard.net.clients import HTTPClient, require_http_client
from jwks_guard.readiness.usage import KeyUsage, Usage, total

PAUSE_AFTER_FAILURE_SECONDS = 1.0


class KeyStore:
    """The keys of one issuer. Arguments are those of TokenVerifier.

    Durations are in seconds, sizes in bytes. The code that makes a store starts and closes it;
    verifiers that are handed one only use it.
    """

    def __init__(
        self,
        issuer: str,
        *,
        jwks_uri: str | None = None,
        allow_http: Collection[str] = (),
        refresh_interval: float = 60.0,
        max_stale: float = 3600.0,
        max_upstream_age: float = 86_400.0,
        fetch_timeout: float = 30.0,
        max_wait: float = 5.0,
        max_jwks_bytes: int = 524_288,
        http_client: HTTPClient | None = None,
        clock: Clock = time,
        register: Register | None = None,
        snapshot_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[Event], object] | None = None,
        background: bool = True,
        fast_rsa: bool = True,
        fleet: Fleet | None = None,
        observer: Observer | None = None,
    ) -> None:
        require_issuer(issuer)
        http_hosts = require_addresses(issuer, jwks_uri, allow_http)
        require_bounds(refresh_interval, max_stale)
        require_timeouts(fetch_timeout, max_wait, max_upstream_age)
        require_count("max_jwks_bytes", max_jwks_bytes, minimum=1)
        require_http_client(http_client)
        require_listener(on_event)
        require_flag("fast_rsa", fast_rsa)
        self.issuer = issuer
        self.clock = clock
        self.events = Events(issuer, clock, on_event)
        self.register = registers.process_register if register is None else register
        self.trust = Trust(
            issuer,
            max_stale,
            clock,
            self.events,
            self.register,
            isolated=registers.added_at_run_time.get(),
        )
        self.rsa = RSAEngine(wanted=fast_rsa)
        self.home = Home("verifier")
        self.fleet = fleet
        self.observer = observer
        self.lazy = not background
        self.since = clock.time()
        self._usages: dict[float, Usage] = {}
        self.jwks_uri = jwks_uri
        self.max_wait = max_wait
        self._bounds = Bounds(refresh_interval, fetch_timeout, max_stale, max_upstream_age)
        fetcher = HTTPKeyFetcher(
            issuer,
            jwks_uri,
            max_jwks_bytes,
            max_stale,
            http_client,
            max_upstream_age,
            fetch_timeout,
            http_hosts,
            self.rsa,
        )
        self._refresher = Refresher(
            self.trust,
            fetcher,
            Freshness(refresh_interval, lazy=self.lazy),
            clock,
            self.events,
            self._confirmed,
            max_wait,
            observer,
        )
        self._hints = self._new_hints()
        self._snapshot: Snapshot | None = None
        journal: Journal | None = None
        if snapshot_path is not None:
            self._snapshot = Snapshot(snapshot_path, issuer, self._not_saved)
            journal = self.register.journal(self._snapshot.journal_path)
        copy = None if fleet is None else FleetCopy(fleet, self.home, self.ensure_bound)
        self.decisions = Decisions(issuer, self.register, self.trust, clock, journal, copy)
        self._restorer: Worker[None] = Worker(self._restore)
        self._restored = self._snapshot is None
        self._introduced = False
        self._joining: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None
        self.register.follow(self, copy)
        if http_hosts:
            logger.warning(
                "The keys of %s may be fetched over plain http from %s: everybody who can change "
                "traffic on the way there decides which tokens are accepted.",
                issuer,
                ", ".join(sorted(http_hosts)),
            )

    # --- the life of a store ---

    async def start(self, *, require_keys: bool = False) -> None:
        """Load the files, wait at most `max_wait` for one fetch, then go on in the background.

        Raises ConfigurationError when the journal can't be read, and with `require_keys`
        KeysUnavailableError when no key is trusted after the first fetch.
        """
        if self.trust.closed:
            self._refresher.forget()
            self.trust.reopen()
            self.since = self.clock.time()
            self._introduced = False
        await self._ready()
        await self._refresher.refresh_if_due()
        self._introduce()
        if require_keys and not self.kids:
            await self.aclose()
            raise self._refresher.unavailable()

    async def aclose(self) -> None:
        """Stop refreshing. Nothing is trusted afterwards: a revocation would not be noticed."""
        self.trust.close()
        self.events.sum_up()
        running_loop()
        if self.home.here:
            self._hints.cancel()
            if self._background is not None:
                self._background.cancel()
                await asyncio.wait({self._background})
            await self._refresher.cancel()
        await self._leave()
        await self.decisions.written()
        if self._snapshot is not None:
            await self._snapshot.saved()
        self._background = None
        self.home.leave()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def ensure_bound(self) -> None:
        """Bind to the running event loop unless the store has an open one."""
        if self.home.vacant:
            await self._ready()

    def bind(self) -> None:
        """Make the running event loop the one that fetches; the first caller's stays it.

        Raises ConfigurationError while another open loop is.
        """
        if self.trust.closed:
            raise KeysUnavailableError("This verifier is closed; start it to use it again.")
        if self.home.settle():
            self._refresher.rebind()
            self._hints = self._new_hints()
            self._background = None
        if not self.lazy and (self._background is None or self._background.done()):
            # In an empty context: it outlives the request that happens to begin it.
            refreshing = keep_fresh(weakref.ref(self))
            self._background = contextvars.Context().run(asyncio.create_task, refreshing)

    async def _ready(self) -> None:
        """Bind, once the decisions in the journals and of the fleet are known."""
        running_loop()
        await self.decisions.read(anew=self.home.vacant)
        if not self._restored:
            await waited([self._restorer.soon()], LONGEST_SECONDS)
            self._restored = True  # or the disk hangs: then the keys are fetched without it
        if self.fleet is not None and not self.trust.closed:
            await self._join(self.fleet)
        self.bind()

    def _restore(self, _: list[None]) -> None:
        if self._snapshot is None or self._restored or self.trust.published.keys:
            return
        try:
            found = self._snapshot.load(self.jwks_uri, Instant.now(self.clock))
            if found is not None:
                if not self.rsa.is_ready_for(found.keys):
                    self.rsa.load()
                self.trust.restore(found)
        except SnapshotError as error:
            self.events.tell("snapshot_ignored", detail=str(error))
        finally:
            self._restored = True

    def _not_saved(self, why: str) -> None:
        self.events.tell("snapshot_failed", detail=why)

    def _confirmed(self, jwks_uri: str) -> None:
        if self._snapshot is not None:
            self._snapshot.save_soon(self.trust.published, jwks_uri)
        self.decisions.exchange_soon()

    def _introduce(self) -> None:
        """Log once what was started with, when the first fetch has ended or is waited for no more.

        A store that nobody starts is started by the first request or tick.
        """
        if not self._introduced and not self.trust.closed:
            self._introduced = True
            introduce(self.events, self.health(), self.fleet, self._snapshot, lazy=self.lazy)

    def after_fork(self) -> None:
        """In a forked child: keep what is known, let go of the parent's loop, locks and tasks."""
        self._introduced = False
        self.events.after_fork()
        self.trust.after_fork()
        self._restorer.after_fork()
        if self._snapshot is not None:
            self._snapshot.after_fork()
        self.home.leave()
        self._background = self._joining = None
        for usage in self.usages:
            usage.begin_anew()
        self._refresher.after_fork()
        self.since = self.clock.time()

    # --- the fleet ---

    async def _join(self, fleet: Fleet) -> None:
        """Return once the fleet's decisions are known here; all who wait share one attempt.

        Until then the store is not bound, so that no request is served without them.
        """
        if not self.home.vacant and not self.home.here:
            return  # it is not ours to use: `bind` says so
        joining = self._joining
        if (
            joining is None
            or joining.get_loop() is not asyncio.get_running_loop()
            or _failed(joining)
        ):
            # In an empty context, as what it begins outlives the request that happens to begin it.
            joining = contextvars.Context().run(asyncio.create_task, fleet.join(self))
            self._joining = joining
        await asyncio.wait({joining})
        if joining.cancelled():  # the caller was not
            raise KeysUnavailableError(
                "This verifier was closed before it had joined its fleet; start it to use it again."
            )
        joining.result()

    async def _leave(self) -> None:
        joining, self._joining = self._joining, None
        here = joining is not None and joining.get_loop() is asyncio.get_running_loop()
        if self.fleet is not None and joining is not None and here:
            joining.cancel()
            await asyncio.wait({joining})
            await self.fleet.leave(self)

    # --- fetching ---

    @property
    def kids(self) -> tuple[str, ...]:
        """The kids that are trusted now."""
        view = self.trust.view
        expired = view.trusted_until.reached(Instant.now(self.clock))
        return () if expired else tuple(view.by_kid)

    @property
    def seen(self) -> Mapping[str, frozenset[str]]:
        """The RFC 7638 thumbprints of the keys that the issuer published, by kid."""
        return self.trust.published.seen

    async def tick(self) -> None:
        """Do what is due at the clock's present time; the background task calls it in turn."""
        await self._ready()
        self.decisions.exchange_soon()
        for usage in self.usages:
            usage.sample(self.clock.time())
        self.events.sum_up_if_due()
        await self._refresher.refresh_if_due()
        self._introduce()

    def seconds_until_tick(self) -> float:
        """Seconds after which `tick` should be called again."""
        return self._refresher.seconds_until_tick()

    async def refresh(self) -> None:
        """Fetch the key set now; raises KeysUnavailableError when that brings no confirmation."""
        await self._refresh(awaited=True)

    async def _refresh(self, *, awaited: bool) -> None:
        await self._ready()
        try:
            await self._refresher.refresh(awaited=awaited)
        finally:
            self._introduce()

    def _new_hints(self) -> Hints:
        return Hints(functools.partial(self._refresh, awaited=False), self.clock)

    def waits_for_request(self) -> bool:
        """Whether `refresh_for_request` has anything to do; may be asked from any thread."""
        return self._refresher.waits_for_request() or self.decisions.overdue()

    async def refresh_for_request(self) -> float:
        """What a request does first in a lazy store, as no background task does it.

        Returns the seconds that it waited for a fetch.
        """
        fetches = self.home.vacant or self.home.here
        if fetches:
            await self._ready()
        if self.decisions.overdue():
            await self.decisions.reread()
        if not fetches:  # but what is cached may pass
            return 0.0
        waited = await self._refresher.refresh_for_request()
        self._introduce()
        return waited

    async def resolve(self, kid: str | None, waited: float = 0.0) -> None:
        """Look up `kid`, or without one any keys, unless the view already knows it.

        A request that has `waited` already waits only for what is left of `max_wait`. Raises
        UnknownKeyError, RemovedKeyError, KeysUnavailableError or LookUpThrottledError.
        """
        await self._ready()
        await self._refresher.resolve(kid, waited)

    def refresh_soon(self) -> None:
        """Have the keys fetched soon, for a hint that they changed; from any thread.

        However many hints there are, a fetch begins at most every 5 s. A store that is closed
        fetches nothing.
        """
        self.home.call_soon(lambda: self._hints.take())

    async def refreshed(self) -> None:
        """Wait for the fetch that `refresh_soon` began, where that is on the running loop."""
        if self.home.here:
            await self._hints.served()

    def limit_interval(self, seconds: float | None) -> None:
        """Fetch at least every so many seconds; None: every `refresh_interval`."""
        self._refresher.limit_interval(seconds)

    @property
    def refused_since(self) -> dict[str, float]:
        """When this process began to refuse each distrusted kid, in seconds since the epoch."""
        return self.trust.refused_since

    # --- what it shows ---

    def unavailable(self) -> KeysUnavailableError:
        """The error for a request that no trusted key can answer at the moment."""
        return self._refresher.unavailable()

    def health(self) -> HealthReport:
        """The state of the keys at this moment."""
        unshared = self.fleet.error if self.fleet is not None else None
        return health_report(
            self.trust,
            self.kids,
            bounds=self._bounds,
            dating=self._refresher.dating,
            last_error=(
                self.register.journal_error or self._refresher.error or unshared or self._silence()
            ),
            rsa=self.rsa,
        )

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each kid's tokens, at all verifiers that use or used this store."""
        now = self.clock.time()
        return total(usage.report(now) for usage in self.usages)

    @property
    def fetches(self) -> Mapping[Outcome, int]:
        """How many requests for the key set had each outcome, in this process."""
        return self._refresher.fetches.copy()

    @property
    def fetch_durations(self) -> Durations:
        """How long they took, in this process."""
        return self._refresher.durations

    @property
    def usages(self) -> tuple[Usage, ...]:
        """The counters of all its verifiers; another thread may be making one at the moment."""
        return tuple(self._usages.values())

    def usage_of(self, leeway: float) -> Usage:
        """What its verifiers of that leeway count with; kept, as their tokens outlive them."""
        return self._usages.setdefault(leeway, Usage(leeway))

    @property
    def isolated(self) -> bool:
        """Whether its issuer was added at run time: it shares covered keys with no other one."""
        return self.trust.isolated

    def isolate(self) -> None:
        """Share covered keys with no other issuer from now on: this one was added at run time."""
        if not self.trust.isolated:
            self.trust.isolated = True
            self.register.isolate(self)

    def apply(self, *, tell: bool = True) -> None:
        """Refuse what the register distrusts."""
        self.trust.apply(tell=tell)

    def _silence(self) -> str | None:
        """Why the detection bound does not hold although nothing failed, if that is so."""
        if self.lazy or not self._refresher.overdue(self._bounds.fetch_timeout):
            return None
        return "no refresh has been made for longer than refresh_interval"


async def keep_fresh(reference: weakref.ref[KeyStore]) -> None:
    """Refresh until cancelled, or until nobody holds the store any more."""
    while (store := reference()) is not None:
        pause = PAUSE_AFTER_FAILURE_SECONDS
        try:
            await store.tick()
            pause = store.seconds_until_tick()
        except JWKSGuardError:
            return  # closed, or bound elsewhere: another task has taken over
        except Exception:  # noqa: BLE001 - a caller's clock, say: nothing ends the watch silently
            logger.exception("refreshing the keys of %s failed unexpectedly", store.issuer)
        del store
        await asyncio.sleep(pause)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
