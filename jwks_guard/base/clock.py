"""Where time comes from, and one moment on both of its clocks."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Clock(Protocol):
    """Where time comes from: the `time` module fits."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""


class Instant(Struct, frozen=True):
    """One moment on both clocks; of two bounds kept on both, the earlier one counts."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls, clock: Clock) -> Instant:
        """The present moment of `clock`."""
        return cls(clock.time(), clock.monotonic())

    def shifted(self, seconds: float) -> Instant:
        """The moment that lies `seconds` later (earlier, if negative)."""
        return Instant(self.wall + seconds, self.monotonic + seconds)

    def reached(self, now: Instant) -> bool:
        """Whether `now` is at or past this moment on either clock.

        The wall clock runs on while the machine sleeps, the monotonic clock while the wall clock
        is set back.
        """
        return now.monotonic >= self.monotonic or now.wall >= self.wall

    def remaining(self, now: Instant) -> float:
        """Seconds until this moment, by the clock that is nearer to it; 0.0 when reached."""
        return max(0.0, min(self.monotonic - now.monotonic, self.wall - now.wall))


EPOCH = Instant(float("-inf"), float("-inf"))
"""Before everything: what has never been confirmed is trusted until here."""

FOREVER = Instant(float("inf"), float("inf"))
