"""The open key stores of this process: a key that one of them distrusts, all refuse."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING

from jwks_guard.keys.distrust import Tombstone

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore


class OpenStores:
    """A registry that keeps nothing alive and survives a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: weakref.WeakSet[KeyStore] = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def add(self, store: KeyStore) -> None:
        """Count `store` among the open ones; what one of them distrusts, all do from now on."""
        with self._lock:
            self._stores.add(store)
        for other in self.besides(store):
            known = other.trust.tombstones
            store.trust.absorb(known.entries.values(), known.lifted)
        self.share(store, tuple(store.trust.tombstones.entries.values()))

    def discard(self, store: KeyStore) -> None:
        """Count `store` out."""
        with self._lock:
            self._stores.discard(store)

    def besides(self, store: KeyStore) -> list[KeyStore]:
        """The other open stores."""
        with self._lock:
            return [other for other in self._stores if other is not store]

    def of(self, issuer: str) -> list[KeyStore]:
        """The open stores of that issuer."""
        with self._lock:
            return [store for store in self._stores if store.issuer == issuer]

    def share(self, store: KeyStore, stones: Collection[Tombstone]) -> None:
        """Hand decisions of `store` to the others, and to all what they know of the keys meant."""
        peers = self.besides(store) if stones else []
        self.teach(store, [known for peer in peers for known in peer.trust.absorb(stones)])

    def teach(self, store: KeyStore, learned: Collection[Tombstone]) -> None:
        """Let `store` and the others know which keys their decisions mean."""
        for each in (store, *self.besides(store)) if learned else ():
            each.trust.complete(learned)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for store in list(self._stores):
            store.after_fork()


open_stores = OpenStores()
