"""Carries trust and distrust through a restart, by the files of a Snapshot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.keys.distrust import Tombstone
from jwks_guard.keys.events import Events
from jwks_guard.keys.freshness import Clock, Instant
from jwks_guard.keys.snapshot import Snapshot, SnapshotError, distrust_record, reinstate_record
from jwks_guard.keys.trust import Trust


class Durable:
    """Restores `trust` from `snapshot` once, and writes down what changes.

    A decision that could not be written stays pending and goes out with the next write.
    """

    def __init__(self, snapshot: Snapshot, trust: Trust, clock: Clock, events: Events) -> None:
        self.error: str | None = None
        self._snapshot = snapshot
        self._trust = trust
        self._clock = clock
        self._events = events
        self._loaded = False
        self._pending: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._saving: asyncio.Task[None] | None = None

    def after_fork(self) -> None:
        """In a forked child: the lock's owner and the writing task are not here."""
        self._lock = threading.Lock()
        self._saving = None

    def load(self, jwks_uri: str | None, max_stale: float) -> bool:
        """Restore what the files hold, the first time; whether it was that.

        Raises ConfigurationError when the tombstones can't be read. A key set that can't be used
        is passed over: the issuer will be asked anyway.
        """
        with self._lock:
            if self._loaded:
                return False
            self._trust.absorb(self._snapshot.load_tombstones().entries.values())
            self._loaded = True
        try:
            keys = self._snapshot.load_keys(jwks_uri, Instant.now(self._clock), max_stale)
        except SnapshotError as error:
            self._events.tell("snapshot_ignored", detail=str(error))
            return True
        if keys is not None and not self._trust.published.keys:
            self.save_tombstones(self._trust.publish(keys.keys, (), keys.confirmed))
        return True

    def distrust(self, stone: Tombstone) -> None:
        """Write a decision down; raises DistrustNotSharedError."""
        with self._lock:
            self._pending.append(distrust_record(stone))
            self._flush()

    def reinstate(self, issuer: str, kid: str, reason: str) -> None:
        """Write down that a decision is lifted; raises DistrustNotSharedError, then it is not."""
        record = reinstate_record(issuer, kid, reason, self._clock.time())
        with self._lock:
            self._pending.append(record)
            try:
                self._flush()
            except DistrustNotSharedError:
                self._pending.remove(record)
                raise

    def save_tombstones(self, stones: Iterable[Tombstone]) -> None:
        """Write down what tombstones have learned; a failure is told and tried again later."""
        try:
            with self._lock:
                self._pending.extend(distrust_record(stone, "learn") for stone in stones)
                self._flush()
        except DistrustNotSharedError as error:
            self._events.tell("snapshot_failed", detail=str(error))

    def save_later(self, learned: list[Tombstone], jwks_uri: str) -> None:
        """Write the confirmed set without keeping anybody waiting."""
        previous, published = self._on_its_way(), self._trust.published

        def write() -> None:
            self.save_tombstones(learned)
            try:
                self._snapshot.save_keys(published, jwks_uri)
            except OSError as error:
                self._events.tell("snapshot_failed", detail=f"the key set was not saved: {error}")

        async def save() -> None:
            if previous is not None:
                await asyncio.wait({previous})
            await asyncio.to_thread(write)

        self._saving = asyncio.create_task(save())

    async def saved(self) -> None:
        """Wait for the write on its way."""
        if (saving := self._on_its_way()) is not None:
            await asyncio.wait({saving})

    def _on_its_way(self) -> asyncio.Task[None] | None:
        """The write that the running loop will end; of a loop that was closed none ever does."""
        saving = self._saving
        here = saving is not None and saving.get_loop() is asyncio.get_running_loop()
        return saving if here else None

    def _flush(self) -> None:
        if not self._pending:
            return
        try:
            self._snapshot.append(self._pending)
        except (OSError, ValueError) as error:
            self.error = f"the tombstone file can't be written: {error}"
            raise DistrustNotSharedError(
                f"This process goes by the decision, but it is not stored ({error}). Mend "
                f"{self._snapshot.journal} and repeat the call, or it is lost at a restart."
            ) from error
        self._pending.clear()
        self.error = None
