"""What a local tenant was asked for."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from jwks_guard.testing.settings import JWKS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator


class RequestLog:
    """The (method, path) of every request in order of arrival; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[tuple[str, str]] = []

    def record(self, method: str, path: str) -> None:
        """Note a request that has come in."""
        with self._lock:
            self._entries.append((method, path))

    def count(self, path: str = JWKS_PATH) -> int:
        """How many requests of `path` were received since the start or the last `clear`."""
        return sum(path == requested for _, requested in self)

    def clear(self) -> None:
        """Forget what was noted."""
        with self._lock:
            self._entries.clear()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        with self._lock:
            return iter(self._entries.copy())

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
