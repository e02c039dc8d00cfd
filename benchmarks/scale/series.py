"""Figures by size: what each run gave, how they grow, and where they stop being flat."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

FLAT = 1.25
"""A median of up to so many times that of the smallest size counts as flat."""
_PER_SECOND = {"ms": 1e3, "µs": 1e6}
Model = Literal["constant", "logarithmic", "linear", "quadratic"]


@dataclass(frozen=True, slots=True)
class Point:
    """What the runs at one size gave."""

    size: int
    runs: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def lowest(self) -> float:
        return min(self.runs)

    @property
    def highest(self) -> float:
        return max(self.runs)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third: between them lies the middle half of the runs."""
        if len(self.runs) == 1:
            return self.runs[0], self.runs[0]
        first, _, third = statistics.quantiles(self.runs, n=4, method="inclusive")
        return first, third


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity at growing sizes, in `unit`."""

    name: str
    unit: str
    points: list[Point]

    def at(self, size: int) -> Point | None:
        """The point of that size, if it was measured."""
        return next((point for point in self.points if point.size == size), None)


@dataclass(frozen=True, slots=True)
class Part:
    """The series of one benchmark by the number of things of one kind.

    `per` is one of these things, such as "key". `facts` are single figures that are no series,
    `notes` say what else a reader has to know.
    """

    name: str
    per: str
    series: list[Series]
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, name: str) -> Series:
        """The series of that name; raises KeyError."""
        for series in self.series:
            if series.name == name:
                return series
        raise KeyError(name)


class Runs:
    """Collects what runs gave, by series and size."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], dict[int, list[float]]] = {}

    def add(self, name: str, unit: str, size: int, *values: float) -> None:
        """Note what one run or more gave for `size` things."""
        self._runs.setdefault((name, unit), {}).setdefault(size, []).extend(values)

    def took(self, name: str, unit: str, size: int, seconds: float) -> None:
        """Note how long one run took, in "ms" or "µs"."""
        self.add(name, unit, size, seconds * _PER_SECOND[unit])

    def series(self) -> list[Series]:
        """All of it, the sizes in their order."""
        return [
            Series(name, unit, [Point(size, runs) for size, runs in sorted(sizes.items())])
            for (name, unit), sizes in self._runs.items()
        ]


@dataclass(frozen=True, slots=True)
class Fit:
    """A model that least squares fitted to the medians, its constants in the unit of the series.

    constant: `a`. logarithmic: `a + b * log10(n)`, with 1 for a size of 0. linear: `a + b * n`.
    quadratic: `a + b * n**2`.
    `error` is the root of the mean square of the relative errors.
    """

    model: Model
    a: float
    b: float
    error: float

    def value(self, size: float) -> float:
        """What the model says of `size`."""
        return self.a + self.b * _STRETCHES[self.model](size)


_STRETCHES: dict[Model, Callable[[float], float]] = {
    "constant": lambda _: 0.0,
    "logarithmic": lambda size: math.log10(max(1.0, size)),
    "linear": lambda size: size,
    "quadratic": lambda size: size**2,
}


def fit(series: Series) -> Fit:
    """The constant while the series is flat, else the one of the other models that errs least."""
    flat = grows_at(series) is None
    models: list[Model] = [each for each in _STRETCHES if (each == "constant") is flat]
    return min((fitted(series.points, each) for each in models), key=lambda each: each.error)


def fitted(points: Sequence[Point], model: Model) -> Fit:
    """Least squares of the relative errors, so that the largest size does not decide alone."""
    xs = [_STRETCHES[model](point.size) for point in points]
    ys = [point.median for point in points]
    smallest = min((abs(y) for y in ys if y), default=1.0)
    weights = [1.0 / max(abs(y), smallest) ** 2 for y in ys]
    total = sum(weights)
    mean_x = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    mean_y = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x in zip(weights, xs, strict=True))
    product = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, xs, ys, strict=True))
    b = product / spread if spread else 0.0
    a = mean_y - b * mean_x
    squares = (w * (a + b * x - y) ** 2 for w, x, y in zip(weights, xs, ys, strict=True))
    return Fit(model, a, b, math.sqrt(sum(squares) / len(points)))


def grows_at(series: Series) -> int | None:
    """The first size that is not flat any more; None if all are.

    There the median is more than FLAT times that of the smallest size, and the spread does not
    explain it: the middle half of the runs lies above that of the smallest size.
    """
    first, *others = series.points
    return next(
        (
            point.size
            for point in others
            if point.median > FLAT * first.median and point.quartiles[0] > first.quartiles[1]
        ),
        None,
    )
