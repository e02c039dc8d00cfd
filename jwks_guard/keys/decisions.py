"""The decisions to distrust that a store goes by: made here, read from files, heard from others.

Whatever way one comes in, it counts for every open store of the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from jwks_guard.base.arguments import require_text
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.keys.distrust import Name, Tombstone, Tombstones
from jwks_guard.keys.peers import open_stores

if TYPE_CHECKING:
    from jwks_guard.base.events import Events
    from jwks_guard.keys.durable import Durable
    from jwks_guard.keys.store import KeyStore
    from jwks_guard.keys.trust import Trust


class Decisions:
    """What `store` distrusts; safe from any thread. What waits for a disk is named `stored`."""

    def __init__(
        self, store: KeyStore, trust: Trust, durable: Durable | None, events: Events
    ) -> None:
        self.trust = trust
        self.durable = durable
        self._store = store
        self._events = events
        self._unshared: dict[Name, Tombstone] = {}
        self._lifting: dict[Name, int] = {}
        self._made: set[Name] = set()
        """What was decided in this process: later than whatever a file says that is read now."""

    @property
    def known(self) -> Tombstones:
        """Every decision, those about other issuers of the process too."""
        return self.trust.tombstones

    def of(self, issuer: str) -> Mapping[str, Tombstone]:
        """The tombstones of one issuer by kid."""
        return self.known.of(issuer)

    def distrust(self, kid: str, reason: str, *, force: bool) -> Tombstone:
        """Distrust `kid` from now on, in this process."""
        name = (self.trust.issuer, kid)
        # Above what any store of the process has lifted: this one may have been closed meanwhile.
        at = self._store.clock.time()
        everybody = self._everybody()
        above = max(
            *(each.known.next_version(name, at) for each in everybody),
            # A lift that is being written down or shared at this moment, and so is not known yet.
            *(each._lifting.get(name, 0) + 1 for each in everybody),
        )
        stone = self.trust.distrust(kid, reason, force=force, version=above)
        self._go_by([stone])
        return self.of(stone.issuer).get(kid, stone)  # peers may know the key

    @property
    def unshared(self) -> Mapping[Name, Tombstone]:
        """What was decided here and, as far as is known, by nobody heard of yet."""
        return dict(self._unshared)

    def shared(self, stones: Mapping[Name, Tombstone]) -> None:
        """Note that the others can know of these now."""
        for name, stone in stones.items():
            if self._unshared.get(name) is stone:
                self._unshared.pop(name, None)

    def decide(self, stones: Collection[Tombstone], lifts: Mapping[Name, int]) -> None:
        """Go by these, which were decided in this process; they are written down in a while."""
        self._go_by(stones)
        self.lift(lifts)
        for each in self._everybody():
            if each.durable is not None and (each is self or each._store.fleet is None):
                each.durable.save_later_what_came_in(stones, lifts)

    def _go_by(self, stones: Collection[Tombstone]) -> None:
        self._made.update((each.issuer, each.kid) for each in stones)
        if self._store.fleet is not None:
            self._unshared.update({(each.issuer, each.kid): each for each in stones})
        self._spread(stones)

    def stored(self, stone: Tombstone) -> None:
        """Write a decision down wherever the process does; raises DistrustNotSharedError."""
        failure: DistrustNotSharedError | None = None
        for each in self._everybody():
            try:
                if each.durable is not None:
                    each.durable.distrust(stone)
            except DistrustNotSharedError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def saved(self) -> None:
        """Wait until what came in is written down, but not for ever."""
        if self.durable is not None:
            await self.durable.saved()

    def lifts(self, kid: str, reason: str) -> Mapping[Name, int]:
        """What lifting the distrust of `kid` has to say; nothing is lifted yet."""
        require_text("kid", kid)
        require_text("reason", reason)
        name = (self.trust.issuer, kid)
        version = max(each.known.next_lift(name) for each in self._everybody())
        self._lifting[name] = version
        return {name: version}

    def lifts_stored(self, lifts: Mapping[Name, int], reason: str) -> None:
        """Write it down wherever it would be brought back; raises DistrustNotSharedError."""
        for each in self._everybody():
            for name, version in lifts.items():
                known = name in each.known.entries
                if each.durable is not None and (known or each is self):
                    # 0: above whatever a file says that was written to by another process.
                    each.durable.reinstate(name, version if known else 0, reason)

    def lift(self, lifts: Mapping[Name, int]) -> None:
        """Lift these decisions, in this process."""
        for each in self._everybody():
            each.trust.reinstate(lifts)
            for name in lifts.keys() - each.known.entries.keys():
                each._made.discard(name)
                each._unshared.pop(name, None)

    def take_over(self, stones: Collection[Tombstone], lifts: Mapping[Name, int]) -> None:
        """Go by decisions of other processes from now on; they are written down in a while."""
        # Together first: what is lifted already must not be refused for a moment.
        news = Tombstones().merged([*stones, *self._upheld(lifts)]).without(lifts)
        standing = tuple(news.entries.values())
        if self.known.merged(standing).without(news.lifted) == self.known:
            return  # so do all the others of the process
        everybody = self._everybody()
        before = [each.known for each in everybody]
        self._spread(standing)
        for each in everybody:
            each.trust.reinstate(news.lifted)
        for each, known in zip(everybody, before, strict=True):
            each._tell_and_save(known)

    def _spread(self, stones: Collection[Tombstone]) -> None:
        """Have every store of the process go by these, and know the keys that each one knows."""
        learned = self.trust.absorb(stones)
        open_stores.share(self._store, stones)
        open_stores.teach(self._store, learned)

    def _tell_and_save(self, before: Tombstones) -> None:
        """Tell what came in since `before`, and write it down."""
        known = self.known
        came = {n: stone for n, stone in known.entries.items() if stone != before.entries.get(n)}
        gone = {n: lift for n, lift in known.lifted.items() if lift != before.lifted.get(n)}
        for name, stone in came.items():
            if name not in before.entries and stone.issuer == self.trust.issuer:
                self._events.tell("key_distrusted", kid=stone.kid, detail=stone.reason)
        if self.durable is not None and (came or gone):
            self.durable.save_later_what_came_in(tuple(came.values()), gone)

    def _upheld(self, lifts: Mapping[Name, int]) -> list[Tombstone]:
        """What nobody heard of yet, above the lifts of earlier decisions on the same kids."""
        return [
            replace(stone, version=lifts[name] + 1)
            for each in self._everybody()
            for name, stone in each.unshared.items()
            if lifts.get(name, 0) > stone.version
        ]

    def load(self, jwks_uri: str | None, max_stale: float) -> None:
        """Restore the files, the first time; raises ConfigurationError."""
        everybody = self._everybody()
        made = frozenset[Name]().union(*(each._made for each in everybody))
        if self.durable is not None and self.durable.load(jwks_uri, max_stale, made):
            open_stores.share(self._store, self.known.entries.values())
            for each in everybody:
                each.trust.reinstate(self.known.lifted)

    def _everybody(self) -> list[Decisions]:
        return [self, *(other.decisions for other in open_stores.besides(self._store))]
