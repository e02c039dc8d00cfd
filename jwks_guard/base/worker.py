"""Slow steps in a thread of their own: one runs, one waits, and all that come later share it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Worker(Generic[_T]):
    """Runs `step` in a thread of its own while there is work; it is handed what that run is for.

    However many callers ask, one run is on its way and at most one more waits, so that a disk that
    hangs holds up one thread and not the pool of an event loop. The interpreter ends once no run is
    left: what was asked for is done.
    """

    def __init__(self, step: Callable[[list[_T]], None]) -> None:
        self._step = step
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the thread and the owner of the lock are not here."""
        self._lock = threading.Lock()
        self._running = False
        self._next: Future[None] | None = None
        self._given: list[_T] = []

    def soon(self, *given: _T) -> Future[None]:
        """A run that begins after this call, for what is `given` here and by others until then.

        The future raises what the step raises.
        """
        with self._lock:
            self._given += given
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
        while (taken := self._taken()) is not None:
            future, given = taken
            try:
                self._step(given)
            except BaseException as error:  # noqa: BLE001 - raised to those who wait for the run
                future.set_exception(error)
            else:
                future.set_result(None)

    def _taken(self) -> tuple[Future[None], list[_T]] | None:
        with self._lock:
            future, given = self._next, self._given
            self._next, self._given = None, []
            self._running = future is not None
        return None if future is None else (future, given)


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
