"""Fetching keys because somebody hints that they have changed, however many hints there are."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from jwks_guard.errors import JWKSGuardError

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore

PAUSE_SECONDS = 5.0
"""From the begin of one fetch to that of the next."""


class Refetch:
    """Has the keys of `store` fetched when asked, at most once per pause, on the store's own loop.

    Who asks within the pause is served at its end: the last hint may be the one that matters.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._begun = -math.inf
        self._later: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Have them fetched without waiting for it; of a store that is closed nothing is."""
        loop = self._store.loop
        if loop is None or loop.is_closed():
            return
        if loop is asyncio.get_running_loop():
            self._ask()
        else:
            loop.call_soon_threadsafe(self._ask)

    async def done(self) -> None:
        """Wait for the fetch that is on its way, where that is on the running loop."""
        task = self._task
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({task})

    def _ask(self) -> None:
        wait = self._begun + PAUSE_SECONDS - self._store.clock.monotonic()
        if wait <= 0:
            self._begin()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait, self._begin)

    def _begin(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._begun = self._store.clock.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        # Not `refresh_soon`: that joins a fetch which may have begun before the change.
        with suppress(JWKSGuardError):
            await self._store.refresh()
