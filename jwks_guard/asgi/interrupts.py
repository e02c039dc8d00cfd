"""Waits that another part of the program can end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Interrupts:
    """The operations of one connection that wait, all of which `interrupt` ends."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()

    async def wait_for(self, operation: Callable[[], Awaitable[T]]) -> T:
        """What `operation` gives; raises TimeoutError once `interrupt` is called."""
        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                self._waiting.add(waiting)
                return await operation()
        finally:
            self._waiting.discard(waiting)

    def interrupt(self) -> None:
        """End the operations that wait now; call it on their event loop."""
        for waiting in self._waiting:
            waiting.reschedule(asyncio.get_running_loop().time())
