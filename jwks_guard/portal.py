"""The one blocking portal of the process: an event loop in a daemon thread, for the sync twins."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading

from anyio.from_thread import BlockingPortal, start_blocking_portal


class _ProcessPortal:
    """Starts on first use, ends with the process, and starts anew in a forked child."""

    _lock: threading.Lock
    _portal: BlockingPortal | None
    _exits: contextlib.ExitStack

    def __init__(self) -> None:
        self._forget()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def get(self) -> BlockingPortal:
        """The running portal."""
        with self._lock:
            if self._portal is None:
                self._portal = self._exits.enter_context(start_blocking_portal(name="jwks-guard"))
            return self._portal

    def stop(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            self._portal = None
            self._exits.close()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._portal = None
        self._exits = contextlib.ExitStack()


process_portal = _ProcessPortal()
