"""Which fault a request meets."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Switch(Generic[T]):
    fault: T
    path: str
    times: int | None

    def applies(self, path: str) -> bool:
        return self.path in (path, "*") and self.times != 0


class Switches(Generic[T]):
    """Faults of one kind; the one that was switched on last and still applies wins."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._switches: list[_Switch[T]] = []

    def on(self, fault: T, path: str, times: int | None) -> None:
        """Let the next `times` requests of `path` ("*": any) meet `fault`; None: all of them."""
        with self._lock:
            self._switches.append(_Switch(fault, path, times))

    def take(self, path: str) -> T | None:
        """The fault that a request of `path` meets, which counts as one of its times."""
        with self._lock:
            for switch in reversed(self._switches):
                if switch.applies(path):
                    if switch.times is not None:
                        switch.times -= 1
                    return switch.fault
        return None

    def clear(self) -> None:
        """Switch all of them off."""
        with self._lock:
            self._switches.clear()
