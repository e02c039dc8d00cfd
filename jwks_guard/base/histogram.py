"""Durations counted by how long they are, as metrics show them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets in seconds; the last bucket has none."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How many durations lie in each bucket, of which there is one more than `bounds`.

    `bounds` and `seconds`, the sum of all, are in seconds.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0
    bounds: tuple[float, ...] = BOUNDS

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError("there is one bucket more than there are bounds")

    def with_one(self, seconds: float) -> Durations:
        """These, and one of so many seconds."""
        counts = [*self.counts]
        counts[bisect_left(self.bounds, seconds)] += 1
        return Durations(tuple(counts), self.seconds + seconds, self.bounds)

    def joined(self, other: Durations) -> Durations:
        """Both taken together."""
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Durations(counts, self.seconds + other.seconds, self.bounds)


class Stopwatch:
    """Durations that any thread adds to: under the GIL no addition is lost or goes back."""

    __slots__ = ("_bounds", "_counts", "_seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one of so many seconds."""
        bucket = bisect_left(self._bounds, seconds)
        self._counts[bucket] += 1  # nothing is called between reading and writing
        self._seconds += seconds

    @property
    def durations(self) -> Durations:
        """What was counted up to now."""
        return Durations(tuple(self._counts), self._seconds, self._bounds)
