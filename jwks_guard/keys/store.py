"""KeyStore: one issuer's keys for one verifier or several; what is asked of keys is asked here.

What is trusted lies in `trust` and may be read, and distrusted, from any thread. What fetches is
bound to one event loop of one process.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

from jwks_guard.base.arguments import (
    require_bounds,
    require_count,
    require_issuer,
    require_jwks_uri,
    require_listener,
)
from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Event, Events, logger
from jwks_guard.errors import (
    ConfigurationError,
    JWKSGuardError,
    KeysUnavailableError,
)
from jwks_guard.keys.decisions import Decisions
from jwks_guard.keys.distrust import DistrustFeed, Tombstone
from jwks_guard.keys.durable import Durable
from jwks_guard.keys.fetch import DEADLINE_SECONDS, HTTPKeyFetcher
from jwks_guard.keys.freshness import Freshness
from jwks_guard.keys.health import HealthReport, health_report
from jwks_guard.keys.membership import Membership
from jwks_guard.keys.peers import open_stores
from jwks_guard.keys.refresh import Refresher
from jwks_guard.keys.snapshot import Snapshot
from jwks_guard.keys.trust import Trust
from jwks_guard.net.clients import HTTPClient, require_http_client
from jwks_guard.readiness.usage import KeyUsage, Usage, total

if TYPE_CHECKING:
    from jwks_guard.readiness.state import Observed

NAP_AFTER_FAILURE_SECONDS = 1.0
_T = TypeVar("_T")


class KeyStore:
    """The keys of one issuer. Arguments are those of TokenVerifier.

    Durations are in seconds, sizes in bytes. Whoever makes a store starts and closes it; verifiers
    that are handed one only use it.
    """

    def __init__(
        self,
        issuer: str,
        *,
        jwks_uri: str | None = None,
        refresh_interval: float = 60.0,
        max_stale: float = 3600.0,
        max_jwks_bytes: int = 524_288,
        http_client: HTTPClient | None = None,
        clock: Clock = time,
        snapshot_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[Event], object] | None = None,
        background: bool = True,
        fleet: DistrustFeed | None = None,
    ) -> None:
        require_issuer(issuer)
        require_jwks_uri(jwks_uri)
        require_bounds(refresh_interval, max_stale)
        require_count("max_jwks_bytes", max_jwks_bytes, minimum=1)
        require_http_client(http_client)
        require_listener(on_event)
        self.issuer = issuer
        self.events = Events(issuer, clock, on_event)
        self._usages: dict[float, Usage] = {}
        self.trust = Trust(issuer, max_stale, clock, self.events)
        self.lazy = not background
        self.since = clock.time()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.clock = clock
        self._jwks_uri = jwks_uri
        self._refresh_interval = refresh_interval
        self._max_stale = max_stale
        self._refresher = Refresher(
            self.trust,
            HTTPKeyFetcher(issuer, jwks_uri, max_jwks_bytes, max_stale, http_client),
            Freshness(refresh_interval, lazy=self.lazy),
            clock,
            self.events,
            self._confirmed,
        )
        durable: Durable | None = None
        if snapshot_path is not None:
            durable = Durable(Snapshot(snapshot_path, issuer), self.trust, clock, self.events)
        self.decisions = Decisions(self, self.trust, durable, self.events)
        self.fleet = fleet
        self._membership = Membership(self, fleet) if fleet is not None else None
        self._lock = threading.Lock()
        self._background: asyncio.Task[None] | None = None
        open_stores.add(self)

    @property
    def kids(self) -> tuple[str, ...]:
        """The kids that are trusted now."""
        view = self.trust.view
        expired = view.trusted_until.reached(Instant.now(self.clock))
        return () if expired else tuple(view.by_kid)

    async def start(self, *, require_keys: bool = False) -> None:
        """Load the snapshot, fetch once within the deadline, then go on in the background.

        Raises ConfigurationError when the tombstone file can't be read, and with `require_keys`
        KeysUnavailableError when no key is trusted after the first fetch.
        """
        if self.trust.closed:
            self._refresher.forget()
            self.trust.reopen()
            # Closed stores are not told of a fork: this may be a child, and `since` its parent's.
            self.since = self.clock.time()
        open_stores.add(self)
        await self._ready()
        await self._refresher.refresh_if_due()
        if require_keys and not self.kids:
            await self.aclose()
            raise self._refresher.unavailable()

    async def aclose(self) -> None:
        """Stop refreshing. Nothing is trusted afterwards, for nobody would notice a revocation."""
        self.trust.close()
        open_stores.discard(self)
        if self.loop is asyncio.get_running_loop():
            if self._background is not None:
                self._background.cancel()
                await asyncio.wait({self._background})
            await self._refresher.cancel()
        if self._membership is not None:
            await self._membership.leave()
        if self.decisions.durable is not None:
            await self.decisions.durable.saved()
        self.loop = self._background = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def bind(self) -> None:
        """Make the running event loop the one that fetches; the first caller's stays it.

        Raises ConfigurationError while another open loop has that part.
        """
        loop = asyncio.get_running_loop()
        if self.trust.closed:
            raise KeysUnavailableError("This verifier is closed; start it to use it again.")
        if loop is self.loop:
            self._watch(loop)
            return
        with self._lock:
            bound = self.loop
            if bound is not None and not bound.is_closed():
                raise ConfigurationError(
                    "This verifier runs on another event loop. Use one verifier per loop, or a "
                    "SyncTokenVerifier, which may be called from any thread."
                )
            self.loop = loop
        self._refresher.rebind()
        self._background = None
        self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the keys refreshed in the background; again, if somebody cancelled that."""
        if not self.lazy and (self._background is None or self._background.done()):
            # In an empty context: it outlives the request that happens to begin it.
            refreshing = keep_fresh(weakref.ref(self))
            self._background = contextvars.Context().run(loop.create_task, refreshing)

    async def adopt(self) -> None:
        """Bind to the running loop unless another open loop has that part."""
        loop = self.loop
        if loop is None or loop.is_closed():
            await self._ready()

    async def _ready(self) -> None:
        """Bind, once every decision in a file is known; files are not read on the loop."""
        stores = (self, *open_stores.besides(self))
        durables = [store.decisions.durable for store in stores]
        if any(durable is not None and not durable.loaded for durable in durables):
            await asyncio.to_thread(self._load)
        if self._membership is not None and not self.trust.closed:
            await self._membership.take_part()
        self.bind()

    def after_fork(self) -> None:
        """In a forked child: keep what is known, let go of the parent's loop, locks and tasks."""
        self._lock = threading.Lock()
        self.trust.after_fork()
        if self.decisions.durable is not None:
            self.decisions.durable.after_fork()
        self.loop = self._background = None
        if self._membership is not None:
            self._membership.after_fork()
        for usage in self.usages:
            usage.begin_anew()
        self.since = self.clock.time()

    async def tick(self) -> None:
        """Do what is due at the clock's present time; the background task calls it in turn."""
        await self._ready()
        for usage in self.usages:
            usage.sample(self.clock.time())
        await self._refresher.refresh_if_due()

    async def refresh(self) -> None:
        """Fetch the key set now; raises KeysUnavailableError when that brings no confirmation."""
        await self._ready()
        await self._refresher.refresh()

    def nap(self) -> float:
        """Seconds after which `tick` wants to be called again."""
        return self._refresher.nap()

    def waits_for_request(self) -> bool:
        """Whether `refresh_for_request` has anything to do; may be asked from any thread."""
        return self._refresher.waits_for_request()

    async def refresh_for_request(self) -> None:
        """What a request does first in a lazy store."""
        await self._ready()
        await self._refresher.refresh_for_request()

    async def learn(self, kid: str) -> None:
        """Return once the view answers for `kid`; raises what its token must be refused with."""
        await self._ready()
        await self._refresher.learn(kid)

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> None:
        """Refuse `kid`, and the keys seen under it, from now on and through restarts.

        In effect on this process before the first await. Raises RevocationRefusedError when this
        is the only trusted key and `force` is not given, DistrustNotSharedError when it could not
        be stored or shared.
        """
        stone = self.decisions.distrust(kid, reason, force=force)
        # At once, as neither a slow disk nor a lost network may keep the other from hearing of it.
        stored = asyncio.to_thread(self.decisions.stored, stone)
        for failure in await asyncio.gather(stored, self.share(), return_exceptions=True):
            if failure is not None:
                raise failure

    async def share(self) -> None:
        """Have the fleet know what is distrusted here; raises DistrustNotSharedError."""
        if self._membership is not None:
            await self._membership.share()

    async def observe_fleet(self, kid: str) -> Observed | None:
        """What the fleet shows of `kid`, or its error; None without a fleet."""
        return None if self._membership is None else await self._membership.observe(kid)

    def distrust_blocking(self, kid: str, *, reason: str, force: bool = False) -> None:
        """As `distrust`, wholly in the calling thread and without telling the fleet."""
        self.decisions.stored(self.decisions.distrust(kid, reason, force=force))

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift the distrust of `kid` once that is stored and shared; or raise."""
        if self._membership is None:
            await asyncio.to_thread(self.reinstate_blocking, kid, reason=reason)
            return
        await self._membership.exchange()  # as the latest version is to be exceeded
        lifts = self.decisions.lifts(kid, reason)
        # Shared before it is stored: what could not be shared must not be lifted by a restart.
        await self._membership.share_lifts(lifts, reason)
        await asyncio.to_thread(self.decisions.lifts_stored, lifts, reason)
        self.decisions.lift(lifts)

    def reinstate_blocking(self, kid: str, *, reason: str) -> None:
        """As `reinstate`, wholly in the calling thread, for a store without a fleet."""
        self._load()
        lifts = self.decisions.lifts(kid, reason)
        self.decisions.lifts_stored(lifts, reason)
        self.decisions.lift(lifts)

    def refresh_soon(self) -> None:
        """Have the keys refreshed without waiting for it; on the store's own loop."""
        self._refresher.refresh_soon()

    def hurry(self, interval: float | None) -> None:
        """Refresh at least every `interval` seconds while the fleet can't be heard."""
        self._refresher.hurry(interval)

    @property
    def distrusted(self) -> Mapping[str, Tombstone]:
        """This issuer's tombstones by kid."""
        self._load()
        return self.trust.tombstones.of(self.issuer)

    def unavailable(self) -> KeysUnavailableError:
        """The error for a request that no trusted key can answer at the moment."""
        return self._refresher.unavailable()

    def health(self) -> HealthReport:
        """The state of the keys at this moment."""
        dating = self._refresher.dating
        behind = max(dating.cacheable, dating.age) if dating else 0.0
        window = self._refresh_interval + DEADLINE_SECONDS + behind
        durable = self.decisions.durable
        unsaved = durable.error if durable is not None else None
        unshared = self.fleet.error if self.fleet is not None else None
        return health_report(
            self.trust,
            self.kids,
            detection_bound=min(window, self._max_stale),
            upstream_age=dating.age if dating else None,
            last_error=self._refresher.error or unsaved or unshared or self._silence(),
        )

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each kid's tokens, at all verifiers that use or used this store."""
        now = self.clock.time()
        return total(usage.report(now) for usage in self.usages)

    @property
    def usages(self) -> tuple[Usage, ...]:
        """The counters of all its verifiers; another thread may be making one at the moment."""
        return tuple(self._usages.values())

    def usage_of(self, leeway: float) -> Usage:
        """What its verifiers of that leeway count with; kept, as their tokens outlive them."""
        return self._usages.setdefault(leeway, Usage(leeway))

    def _silence(self) -> str | None:
        """Why the detection bound does not hold although nothing failed, if that is so."""
        if self.lazy or not self._refresher.overdue(DEADLINE_SECONDS):
            return None
        return "no refresh has been made for longer than refresh_interval"

    def _load(self) -> None:
        """Restore this store's files, and those of the others, whose decisions count here too."""
        for store in (self, *open_stores.besides(self)):
            store.decisions.load(store._jwks_uri, store._max_stale)

    def _confirmed(self, learned: list[Tombstone], jwks_uri: str) -> None:
        open_stores.teach(self, learned)
        if self.decisions.durable is not None:
            self.decisions.durable.save_later(learned, jwks_uri)


async def keep_fresh(reference: weakref.ref[KeyStore]) -> None:
    """Refresh until cancelled, or until nobody holds the store any more."""
    while (store := reference()) is not None:
        nap = NAP_AFTER_FAILURE_SECONDS
        try:
            await store.tick()
            nap = store.nap()
        except JWKSGuardError:
            return  # closed, or bound elsewhere: another task has taken over
        except Exception:  # noqa: BLE001 - a caller's clock, say: nothing ends the watch silently
            logger.exception("refreshing the keys of %s failed unexpectedly", store.issuer)
        del store
        await asyncio.sleep(nap)
