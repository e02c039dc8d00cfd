"""Figures of cases that ran in turn: medians, least values, and ratios within a round.

A run is a number of rounds in processes of its own, whose memory lies otherwise. What is reported
is the median over runs, with the lowest and the highest of them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")


def at_most(usual: int) -> int:
    """The number of rounds or runs: `usual`, or the environment's ROUNDS if that is less.

    ROUNDS=1 tries a benchmark in a short form, whose figures say little.
    """
    return min(usual, max(1, int(os.environ.get("ROUNDS") or usual)))


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds on the clock, and of the processor: in Python of the calling thread alone."""

    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Time:
    """Microseconds of a call: median and least by the clock, median of the processor."""

    microseconds: float
    least: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of some ratios, and the lowest and the highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Self:
        """Of at least one ratio."""
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        """Three digits of the median, and as many decimals of the others."""
        decimals = 3 - sum(self.median >= each for each in (0.2, 10, 100))
        shown = (f"{each:.{decimals}f}" for each in (self.median, self.lowest, self.highest))
        return "{} ({}-{})".format(*shown)


@dataclass(frozen=True, slots=True)
class Row:
    """What a call takes, and how many times as long as `against` that is."""

    case: str
    time: Time
    ratio: Ratio
    cpu_ratio: Ratio
    against: str


class Rounds:
    """Seconds per call of each case; the figures of a round belong together."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, case: str, *seconds: float) -> None:
        """Note what one call of `case` took in this round, once or in each slice of it."""
        self._seconds.setdefault(case, []).extend(seconds)

    def add_slices(self, case: str, slices: Sequence[Took], calls: int) -> None:
        """Note slices of so many calls, by the clock and by the processor's time."""
        self.add(case, *(each.seconds / calls for each in slices))
        self.add(cpu(case), *(each.cpu / calls for each in slices))

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


def cpu(case: str) -> str:
    """The name of a case's processor time."""
    return f"{case}, cpu"


def time_of(runs: Sequence[Rounds], case: str) -> Time:
    """What a call takes in these runs."""
    return Time(
        statistics.median(run.microseconds(case) for run in runs),
        min(run.least_microseconds(case) for run in runs),
        statistics.median(run.microseconds(cpu(case)) for run in runs),
    )


def ratio_of(runs: Sequence[Rounds], case: str, against: str) -> Ratio:
    """How many times as long as `against` a case takes in these runs."""
    return Ratio.of([run.ratio(case, against) for run in runs])


def row_of(runs: Sequence[Rounds], case: str, against: str) -> Row:
    """All figures of a case."""
    ratios = ratio_of(runs, case, against), ratio_of(runs, cpu(case), cpu(against))
    return Row(case, time_of(runs, case), *ratios, against)


def turned(cases: Sequence[T], number: int) -> list[T]:
    """The order for round `number`: nobody is always the first, or always after the same one."""
    first = number % len(cases)
    return [*cases[first:], *cases[:first]]


def mirrored(cases: Sequence[T], number: int) -> list[T]:
    """The same, but each odd round is the reverse of the one before: so a steady drift cancels."""
    order = turned(cases, number // 2)
    return order[::-1] if number % 2 else order
