"""A clock that can be turned forward, in place of the process's own.

It must be installed before the libraries are imported, as many bind `time.monotonic` as a default
argument. `time.perf_counter` stays as it is, and so do the operating system's timeouts.
"""

from __future__ import annotations

import datetime
import time

_REAL_TIME, _REAL_MONOTONIC = time.time, time.monotonic
_REAL_DATETIME = datetime.datetime


class VirtualClock:
    """The real clocks, wall and monotonic, plus an offset in seconds that begins at 0."""

    def __init__(self) -> None:
        self._offset = 0.0

    def install(self) -> None:
        """Replace the clocks of the modules `time` and `datetime`."""
        time.time = lambda: _REAL_TIME() + self._offset
        time.monotonic = lambda: _REAL_MONOTONIC() + self._offset
        time.time_ns = lambda: int(time.time() * 1e9)
        time.monotonic_ns = lambda: int(time.monotonic() * 1e9)
        datetime.datetime = _Datetime  # type: ignore[misc]  # a class is replaced by its heir

    def advance(self, seconds: float) -> None:
        """Turn both clocks forward."""
        self._offset += seconds


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _REAL_DATETIME)  # C code goes on making the real ones


class _Datetime(_REAL_DATETIME, metaclass=_AnyDatetime):
    """`datetime.datetime` as it reads the virtual clock; the real one asks the system itself."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Datetime:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> _Datetime:
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)
