"""A clock that stands still until a test turns it."""

from __future__ import annotations


class ManualClock:
    """Both clocks of the `time` module, turned by hand; give it to the tenant and the verifier.

    `time` is where its time of day begins, in seconds since 1970.
    """

    def __init__(self, time: float = 1_750_000_000.0) -> None:
        self._time = time
        self._monotonic = 1_000.0

    def time(self) -> float:
        """The time of day, in seconds since 1970."""
        return self._time

    def monotonic(self) -> float:
        """Seconds since some moment; unlike the time of day it is never set back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._time += seconds
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Set the time of day back, as an administrator or NTP does."""
        self._time -= seconds
