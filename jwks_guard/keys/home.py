"""The event loop that a store or a fleet belongs to, in one process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from jwks_guard.base.portal import process_portal
from jwks_guard.errors import ConfigurationError

_T = TypeVar("_T")


class Home:
    """Holds the event loop of `what`, which names the object in messages.

    The first event loop that settles becomes it, until that loop is closed. A forked child begins
    without one. Tasks, connections and timers are made there; other loops and threads hand their
    steps over.
    """

    def __init__(self, what: str) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._what = what
        self.leave()

    def leave(self) -> None:
        """Belong to no event loop any more: it is closed, or in the parent process."""
        self.loop = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    @property
    def vacant(self) -> bool:
        """Whether there is no event loop that could run anything."""
        loop = self.loop
        return loop is None or loop.is_closed() or self._process != os.getpid()

    @property
    def here(self) -> bool:
        """Whether the caller runs on it."""
        return self.loop is not None and self.loop is _running_loop() and not self.vacant

    def settle(self) -> bool:
        """Make the running event loop the home; gives False where it was already.

        Raises ConfigurationError while another open loop is, and on an async library other than
        asyncio.
        """
        loop = running_loop()
        if loop is self.loop and not self.vacant:
            return False
        with self._lock:
            if not self.vacant:
                raise ConfigurationError(
                    f"This {self._what} runs on another event loop. Make one for each loop; a "
                    "SyncTokenVerifier may be called from any thread."
                )
            self.leave()
            self.loop = loop
        return True

    async def run(self, step: Callable[[], Coroutine[Any, Any, _T]], timeout: float) -> _T:
        """What `step` gives on the home loop; on the running one while there is none.

        Raises TimeoutError when another loop does not run it within `timeout` seconds.
        """
        loop = self.loop
        if loop is None or self.vacant or self.here:
            return await step()
        there = asyncio.run_coroutine_threadsafe(step(), loop)
        return await asyncio.wait_for(asyncio.wrap_future(there), timeout)

    def run_blocking(self, step: Callable[[], Coroutine[Any, Any, _T]], timeout: float) -> _T:
        """What `step` gives on the home loop, or on the process's portal while there is none.

        Raises TimeoutError when that loop does not run it within `timeout` seconds, and
        ConfigurationError in the loop's own thread, which would wait for itself.
        """
        loop = self.loop
        if loop is None or self.vacant:
            return process_portal.run(step)
        self.require_elsewhere()
        there = asyncio.run_coroutine_threadsafe(step(), loop)
        try:
            return there.result(timeout)
        except BaseException:
            there.cancel()  # the caller hears that it was not done: then it must not be done later
            raise

    def require_elsewhere(self) -> None:
        """Raise ConfigurationError in the loop's own thread, which can't wait for itself."""
        if self.here:
            raise ConfigurationError(
                f"This would block the event loop of the {self._what}; await the method of "
                "TokenVerifier there."
            )

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the home loop, from any thread; nothing is called without a loop."""
        loop = self.loop
        if loop is None or self.vacant:
            return
        if self.here:
            callback()
        else:
            with suppress(RuntimeError):  # it was closed a moment ago
                loop.call_soon_threadsafe(callback)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop; raises ConfigurationError where another async library runs."""
    loop = _running_loop()
    if loop is None:
        raise ConfigurationError(
            "Verifiers and fleets need asyncio, and this runs on another async library, such as "
            "trio. Run the application on asyncio (`hypercorn -k asyncio`), or call a "
            "SyncTokenVerifier from a worker thread."
        )
    return loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
