"""Carries trust and distrust through a restart, by the files of a Snapshot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from jwks_guard.base.clock import Clock, Instant
from jwks_guard.base.events import Events
from jwks_guard.errors import DistrustNotSharedError
from jwks_guard.keys.distrust import Name, Tombstone
from jwks_guard.keys.snapshot import Snapshot, SnapshotError, distrust_record, reinstate_record
from jwks_guard.keys.trust import Trust
from jwks_guard.keys.view import PublishedSet

LONGEST_WRITE_SECONDS = 5.0


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
        self._loaded = threading.Event()
        self._pending: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._saving: asyncio.Task[None] | None = None
        self._wanted: tuple[PublishedSet, str] | None = None

    def after_fork(self) -> None:
        """In a forked child: the lock's owner and the writing task are not here."""
        self._lock = threading.Lock()
        self._saving = None

    @property
    def loaded(self) -> bool:
        """Whether the files were read."""
        return self._loaded.is_set()

    def load(
        self, jwks_uri: str | None, max_stale: float, made: Collection[Name] = frozenset()
    ) -> bool:
        """Restore what the files hold, the first time; whether it was that.

        Decisions `made` in this process are later than what the file lifts, and stand.

        Raises ConfigurationError when the tombstones can't be read. A key set that can't be used
        is passed over: the issuer will be asked anyway.
        """
        if self._loaded.is_set():  # before the lock, which a slow disk may hold
            return False
        with self._lock:
            if self._loaded.is_set():
                return False
            stored = self._snapshot.load_tombstones()
            again = self._trust.tombstones.above(stored.lifted, made)
            self._trust.absorb([*stored.entries.values(), *again], stored.lifted)
            self._loaded.set()
        held = self._trust.tombstones.entries
        if lacking := [held[n] for n in made if n in held and stored.entries.get(n) != held[n]]:
            self.save_tombstones(lacking, "hear")
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

    def reinstate(self, name: Name, version: int, reason: str) -> None:
        """Write down that a decision is lifted; raises DistrustNotSharedError, then it is not."""
        record = reinstate_record(name, version, reason, self._clock.time())
        with self._lock:
            self._pending.append(record)
            try:
                self._flush()
            except DistrustNotSharedError:
                self._pending.remove(record)
                raise

    def save_later_what_came_in(
        self, stones: Iterable[Tombstone], lifts: Mapping[Name, int]
    ) -> None:
        """Write down decisions of other processes without keeping anybody waiting."""
        at = self._clock.time()
        self._pending += [distrust_record(stone, "hear") for stone in stones]
        self._pending += [
            reinstate_record(name, version, "lifted elsewhere", at)
            for name, version in lifts.items()
        ]
        if self._on_its_way() is None:
            self._saving = asyncio.create_task(self._save())

    def save_tombstones(
        self, stones: Iterable[Tombstone], op: Literal["learn", "hear"] = "learn"
    ) -> None:
        """Write down what tombstones have learned; a failure is told and tried again later."""
        try:
            with self._lock:
                self._pending.extend(distrust_record(stone, op) for stone in stones)
                self._flush()
        except DistrustNotSharedError as error:
            self._events.tell("snapshot_failed", detail=str(error))

    def save_later(self, learned: list[Tombstone], jwks_uri: str) -> None:
        """Write the confirmed set without keeping anybody waiting.

        While a slow disk holds up one write, only the latest set waits to be the next.
        """
        # Without the lock, which whoever writes holds for as long as the disk takes.
        self._pending += [distrust_record(stone, "learn") for stone in learned]
        self._wanted = (self._trust.published, jwks_uri)
        if self._on_its_way() is None:
            self._saving = asyncio.create_task(self._save())

    async def _save(self) -> None:
        failed = False
        while self._wanted is not None or (self._pending and not failed):
            wanted, self._wanted = self._wanted, None
            if wanted is None:
                await asyncio.to_thread(self.save_tombstones, [])
            else:
                await asyncio.to_thread(self._write, *wanted)
            failed = self.error is not None

    def _write(self, published: PublishedSet, jwks_uri: str) -> None:
        self.save_tombstones([])
        try:
            self._snapshot.save_keys(published, jwks_uri)
        except OSError as error:
            self._events.tell("snapshot_failed", detail=f"the key set was not saved: {error}")

    async def saved(self) -> None:
        """Wait for the write on its way, but not for ever for a disk that hangs."""
        if (saving := self._on_its_way()) is not None:
            await asyncio.wait({saving}, timeout=LONGEST_WRITE_SECONDS)

    def _on_its_way(self) -> asyncio.Task[None] | None:
        """The write that the running loop will end; of a loop that was closed none ever does."""
        saving = self._saving
        if saving is None or saving.done():
            return None
        return saving if saving.get_loop() is asyncio.get_running_loop() else None

    def _flush(self) -> None:
        records = list(self._pending)
        if not records:
            return
        try:
            self._snapshot.append(records)
        except (OSError, ValueError) as error:
            self.error = f"the tombstone file can't be written: {error}"
            raise DistrustNotSharedError(
                f"This process goes by the decision, but it is not stored ({error}). Mend "
                f"{self._snapshot.journal} and repeat the call, or it is lost at a restart."
            ) from error
        del self._pending[: len(records)]
        self.error = None
