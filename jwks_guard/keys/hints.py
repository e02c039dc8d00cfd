"""Hints that keys have changed: each one causes a fetch, but not many of them many."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

from jwks_guard.base.clock import Clock
from jwks_guard.errors import JWKSGuardError

PAUSE_SECONDS = 5.0
"""From the begin of one fetch to that of the next."""


class Hints:
    """Has `refresh` called for hints, at most once per pause; used on one event loop.

    A hint within the pause is served at its end: the last one may be the one that matters.
    """

    def __init__(self, refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._refresh = refresh
        self._clock = clock
        self._begun = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self) -> None:
        """Begin a fetch now, or at the end of the pause."""
        wait = self._begun + PAUSE_SECONDS - self._clock.monotonic()
        if wait <= 0:
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._begin)

    async def served(self) -> None:
        """Wait for the fetch that is on its way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Begin no fetch any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._begun = self._clock.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        with suppress(JWKSGuardError):  # the state of the keys shows what went wrong
            await self._refresh()
