"""The one blocking portal of the process: an event loop in a daemon thread, for the sync twins."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_T = TypeVar("_T")


class _ProcessPortal:
    """Starts on first use, ends with the process, and starts anew in a forked child."""

    _lock: threading.Lock
    _running: tuple[BlockingPortal, threading.Thread] | None

    def __init__(self) -> None:
        self._forget()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def get(self) -> BlockingPortal:
        """The running portal; raises ConfigurationError in its own thread, to wait for itself."""
        with self._lock:
            if self._running is None:
                self._running = _start()
            portal, thread = self._running
        if thread is threading.current_thread():
            raise ConfigurationError(
                "A callback on the event loop of SyncTokenVerifier can't wait for that loop. Call "
                "this from another thread."
            )
        return portal

    def run(self, step: Callable[..., Awaitable[_T]], *args: object) -> _T:
        """What `step(*args)` gives on the portal's loop; cancelled there if the wait is cut off.

        By Ctrl-C, say: what has not been sent by then shall not be sent a moment later.
        """
        future = self.get().start_task_soon(step, *args)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            portal, thread = running
            portal.call(portal.stop, True)
            thread.join()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._running = None


def _start() -> tuple[BlockingPortal, threading.Thread]:
    """A portal and the thread that it runs in.

    Not by anyio's start_blocking_portal: that cleans up when it is let go of, and in a forked child
    waits without end for the thread, which was not forked.
    """
    # Here, as an API on an event loop never comes this way and need not pay for the import.
    import anyio
    from anyio.from_thread import BlockingPortal

    started: Future[BlockingPortal] = Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    def run() -> None:
        try:
            anyio.run(serve)
        except BaseException as error:
            if not started.done():
                started.set_exception(error)  # raised where the portal is waited for
            # asyncio ends its executor in a thread, and 3.12 starts none while the interpreter ends
            elif not isinstance(error, RuntimeError):
                raise

    thread = threading.Thread(target=run, name="jwks-guard", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ConfigurationError(
            f"The event loop of SyncTokenVerifier can't start ({error}). Python starts no thread "
            "once the main thread has ended: have it join the others."
        ) from None
    return started.result(), thread


def run_apart(step: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """What `step()` gives on an event loop that nobody else can hold up, in a thread of its own.

    The caller's thread may have a loop of its own, running or not, which is left as it is.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(step()))
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            done.set_exception(error)

    threading.Thread(target=run, name="jwks-guard").start()
    return done.result()


process_portal = _ProcessPortal()
