"""Work that many wait for and that is done once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Shared:
    """Does `work` for everybody who asks before it begins, and never twice at a time.

    So one run goes on at most, and one waits: who asks meanwhile gets what is known after asking.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._one = asyncio.Lock()
        self._waiting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def done(self) -> None:
        """Wait for a run that has not begun yet; it goes on without who waits for it."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._run())
            self._tasks.add(self._waiting)
            self._waiting.add_done_callback(self._tasks.discard)
        await asyncio.shield(self._waiting)

    async def aclose(self) -> None:
        """End what runs or waits."""
        self._waiting = None
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        async with self._one:
            self._waiting = None
            await self._work()
