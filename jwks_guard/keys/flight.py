"""Fetches on their way, shared by everybody who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from jwks_guard.base.clock import Clock, Instant

MOST_AT_ONCE = 4
"""Hung connections are no reason to open any number of further ones."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A fetch on its way; `number` orders flights by their start."""

    number: int
    started: Instant
    task: asyncio.Task[bool]

    @property
    def landed(self) -> bool:
        """Whether the fetch has ended."""
        return self.task.done()

    @property
    def confirmed(self) -> bool:
        """Whether the fetch that has ended confirmed a key set; one that was cancelled did not."""
        return not self.task.cancelled() and self.task.result()


class Flights:
    """The flights on their way on one event loop: one, unless that takes longer than `patience`.

    So a connection that hangs keeps nobody from trying another one, after `patience` seconds.
    """

    def __init__(self, patience: float, clock: Clock) -> None:
        self.launched = 0
        self._patience = patience
        self._clock = clock
        self._flying: list[Flight] = []

    @property
    def current(self) -> tuple[Flight, ...]:
        """The flights on their way, by their start; any thread may ask."""
        return tuple(flight for flight in self._flying if not flight.landed)

    def joinable(self) -> Flight | None:
        """The flight that a new request waits for; None where it has to launch one."""
        current = self.current
        if not current:
            return None
        # By both clocks: what was sent before the machine slept is not waited for.
        old = current[-1].started.shifted(self._patience).reached(Instant.now(self._clock))
        return current[-1] if len(current) >= MOST_AT_ONCE or not old else None

    def join(self, fetch: Callable[[], Coroutine[Any, Any, bool]]) -> Flight:
        """The flight to wait for: one on its way, or a new one that runs `fetch`."""
        flight = self.joinable()
        if flight is None:
            self.launched += 1
            now = Instant.now(self._clock)
            flight = Flight(self.launched, now, asyncio.create_task(fetch()))
            self._flying = [*self.current, flight]
        return flight

    async def next(self, fetch: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """Wait for a flight that begins after this call; whether it confirmed a key set.

        False at once when the flights are cancelled: then none is launched any more.
        """
        before = self.launched
        while (flight := self.join(fetch)).number <= before:
            await asyncio.wait({flight.task}, timeout=self._patience)
            if flight.task.cancelled():
                return False
        await asyncio.wait({flight.task})
        return flight.confirmed

    async def landing(self, seconds: float) -> bool:
        """Wait until one of the flights on their way has landed; False when that takes too long.

        A waiter that is cancelled leaves the fetches running for the others.
        """
        tasks = {flight.task for flight in self.current}
        if not tasks:
            return True
        landed, _ = await asyncio.wait(
            tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED
        )
        return bool(landed)

    async def cancel(self) -> None:
        """Stop the flights on their way and wait until they have ended."""
        tasks = {flight.task for flight in self.current}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
