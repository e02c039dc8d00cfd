"""One fetch at a time, shared by everybody who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Flight:
    """A fetch on its way; `number` orders flights by their start."""

    number: int
    task: asyncio.Task[bool]

    async def landed(self) -> bool:
        """Wait for the end and say whether the fetch confirmed a key set.

        A waiter that is cancelled leaves the fetch running for the others. A fetch that was
        cancelled counts as failed.
        """
        await asyncio.wait({self.task})
        return False if self.task.cancelled() else self.task.result()


class SingleFlight:
    """Holds the flight that is on its way, on one event loop."""

    def __init__(self) -> None:
        self.launched = 0
        self._last: Flight | None = None

    @property
    def current(self) -> Flight | None:
        """The flight on its way, if there is one."""
        return self._last if self._last is not None and not self._last.task.done() else None

    def join(self, fetch: Callable[[], Coroutine[Any, Any, bool]]) -> Flight:
        """The flight on its way, or a new one that runs `fetch`."""
        flight = self.current
        if flight is None:
            self.launched += 1
            flight = self._last = Flight(self.launched, asyncio.create_task(fetch()))
        return flight

    async def next(self, fetch: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """Wait for a flight that begins after this call; whether it confirmed a key set."""
        before = self.launched
        while True:
            flight = self.join(fetch)
            confirmed = await flight.landed()
            if flight.number > before:
                return confirmed

    async def cancel(self) -> None:
        """Stop the flight on its way and wait until it has ended."""
        if (flight := self.current) is not None:
            flight.task.cancel()
            await asyncio.wait({flight.task})
