"""Waiting without sleeping, across event loops and threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Lock


class Signal:
    """A flag that is set once, and that tasks of any event loop and plain threads wait for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._set = False
        self._waiters: list[Future[None]] = []

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    def set(self) -> None:
        """Wake everyone who waits now or later; safe from any thread, and more than once."""
        with self._lock:
            self._set = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)

    async def wait(self, timeout: float | None = 60.0) -> None:
        """Wait at most `timeout` seconds on this task's loop; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await asyncio.wrap_future(self._waiter())

    def wait_blocking(self, timeout: float | None = 60.0) -> None:
        """Block this thread for at most `timeout` seconds; raises TimeoutError."""
        self._waiter().result(timeout)

    def _waiter(self) -> Future[None]:
        # One future each: a waiter that is cancelled must not cancel it for the others.
        waiter: Future[None] = Future()
        with self._lock:
            if not self._set:
                self._waiters.append(waiter)
                return waiter
        waiter.set_result(None)
        return waiter


class Hold:
    """A gate in front of the tenant's answers; `release` lets them all out.

    `arrived` is set once a first answer stands ready behind the gate.
    """

    def __init__(self) -> None:
        self.arrived = Signal()
        self._released = Signal()

    def release(self) -> None:
        """Send what was held, and hold nothing more."""
        self._released.set()

    async def passed(self) -> None:
        """Wait in front of the gate, as an answer does."""
        self.arrived.set()
        await self._released.wait(timeout=None)
