"""Durations counted by how long they are, as metrics show them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets in seconds; the last bucket has none."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How many durations lie in each bucket, one more than BOUNDS has, and their sum in seconds."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0

    def with_one(self, seconds: float) -> Durations:
        """These, and one of so many seconds."""
        counts = [*self.counts]
        counts[bisect_left(BOUNDS, seconds)] += 1
        return Durations(tuple(counts), self.seconds + seconds)

    def joined(self, other: Durations) -> Durations:
        """Both taken together."""
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Durations(counts, self.seconds + other.seconds)
