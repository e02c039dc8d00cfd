"""Figures of things that were run alternately: medians, and medians of ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what a call takes, and how many times as long as `against` that is.

    `goal` is the largest ratio that this project is content with.
    """

    case: str
    microseconds: float
    ratio: float
    against: str
    goal: float | None = None


class Rounds:
    """Seconds per call of each case; the figures of a round belong together."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, case: str, *seconds: float) -> None:
        """Note what one call of `case` took in this round, once or in each slice of it."""
        self._seconds.setdefault(case, []).extend(seconds)

    def __contains__(self, case: str) -> bool:
        return case in self._seconds

    def microseconds(self, case: str) -> float:
        """The median of a call."""
        return statistics.median(self._seconds[case]) * 1e6

    def least_microseconds(self, case: str) -> float:
        """The shortest that a call took."""
        return min(self._seconds[case]) * 1e6

    def ratio(self, case: str, against: str) -> float:
        """How many times as long as `against` this case takes: the median of the rounds' ratios.

        What slows the machine for a while slows both sides of a round, so this is steadier than
        the ratio of the medians.
        """
        pairs = zip(self._seconds[case], self._seconds[against], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def spread(self, case: str, against: str) -> tuple[float, float]:
        """The first and third quartile of these ratios."""
        pairs = zip(self._seconds[case], self._seconds[against], strict=True)
        first, _, third = statistics.quantiles([mine / theirs for mine, theirs in pairs], n=4)
        return first, third

    def row(self, case: str, against: str, goal: float | None = None) -> Row:
        """Both figures of a case."""
        return Row(case, self.microseconds(case), self.ratio(case, against), against, goal)


def turned(cases: Sequence[T], number: int) -> list[T]:
    """The order for round `number`: nobody is always the first, or always after the same one."""
    first = number % len(cases)
    return [*cases[first:], *cases[:first]]
