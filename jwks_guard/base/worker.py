"""Slow steps in a thread of their own: one runs, one waits, and all that come later share it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress


class Worker:
    """Runs `step`, which takes no argument, in a thread of its own while there is work.

    However many callers ask, one run is on its way and at most one more waits, so that a disk that
    hangs holds up one thread and not the pool of an event loop. The interpreter ends once no run is
    left: what was asked for is done.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the thread and the owner of the lock are not here."""
        self._lock = threading.Lock()
        self._running = False
        self._next: Future[None] | None = None

    def soon(self) -> Future[None]:
        """A run that begins after this call; the future raises what the step raises."""
        with self._lock:
            if self._next is not None:
                return self._next
            future = self._next = Future()
            if self._running:
                return future
            self._running = True
        try:
            threading.Thread(target=self._run, name="jwks-guard").start()
        except RuntimeError:  # the interpreter is ending, or the system has no thread left
            self._run()
        return future

    def _run(self) -> None:
        while (future := self._taken()) is not None:
            try:
                self._step()
            except BaseException as error:  # noqa: BLE001 - raised to those who wait for the run
                future.set_exception(error)
            else:
                future.set_result(None)

    def _taken(self) -> Future[None] | None:
        with self._lock:
            future, self._next = self._next, None
            self._running = future is not None
            return future


async def waited(futures: Iterable[Future[None]], timeout: float) -> None:
    """Wait until other threads have ended `futures`, at most `timeout` seconds.

    A future that fails raises nothing here, and one that is not done is not cancelled: others may
    wait for it too.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for future in futures:
                await _ended(future)


async def _ended(future: Future[None]) -> None:
    # Not asyncio.wrap_future: its future would have to be looked at, and its loop to be open, even
    # when nobody waits any more.
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: Future[None]) -> None:
        with suppress(RuntimeError):  # that loop is closed
            loop.call_soon_threadsafe(ended.set)

    future.add_done_callback(tell)
    await ended.wait()
