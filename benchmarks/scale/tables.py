"""A part's figures as Markdown tables, which are printed as well."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.scale.series import Part, Point, Series, fit, grows_at

_SMALLER = {
    "MB": "KB",
    "KB": "bytes",
    "s": "ms",
    "ms": "µs",
    "µs": "ns",
    "ms/s": "µs/s",
    "µs/s": "ns/s",
}
"""A unit, and the one of which it has 1,000."""
_LARGER = {smaller: unit for unit, smaller in _SMALLER.items()}


def figures_table(part: Part) -> Iterator[str]:
    """A row for each series: the median, and in brackets the least and the greatest, by size."""
    sizes = sorted({point.size for series in part.series for point in series.points})
    yield "| " + " | ".join([f"{part.per}s", *(f"{size:,}" for size in sizes)]) + " |"
    yield "|---" + "|--:" * len(sizes) + "|"
    for series in part.series:
        cells = [_cell(series.at(size)) for size in sizes]
        yield "| " + " | ".join([f"{series.name}, {series.unit}".rstrip(", "), *cells]) + " |"


def models_table(part: Part) -> Iterator[str]:
    """A row for each series: the model, its error, and where it stops being flat."""
    yield "| | model | error | flat up to |"
    yield "|---|---|--:|--:|"
    for series in part.series:
        error = f"{100 * fit(series).error:.0f} %"
        yield f"| {series.name} | {model(series, part.per)} | {error} | {flat_up_to(series)} |"


def model(series: Series, per: str) -> str:
    """The model with its constants, as in "54.3 MB + 3.10 KB per key"."""
    found = fit(series)
    if found.model == "constant":
        return quantity(found.a, series.unit)
    sign = "-" if found.b < 0 else "+"
    step = {"linear": per, "quadratic": f"{per}²", "logarithmic": "tenfold"}[found.model]
    growth = quantity(abs(found.b), series.unit)
    return f"{quantity(found.a, series.unit)} {sign} {growth} per {step}"


def flat_up_to(series: Series) -> str:
    """The last size before the series grows, and the one where it does."""
    end = grows_at(series)
    if end is None:
        return "the end"
    before = max(point.size for point in series.points if point.size < end)
    return f"{before:,}, not {end:,}"


def quantity(value: float, unit: str) -> str:
    """Three digits with the unit, or with a smaller or larger one where that reads better."""
    while value and abs(value) < 0.1 and unit in _SMALLER:
        value, unit = 1000 * value, _SMALLER[unit]
    while abs(value) >= 1000 and unit in _LARGER:
        value, unit = value / 1000, _LARGER[unit]
    return f"{number(value)} {unit}".rstrip()


def number(value: float) -> str:
    """Three digits, more only before the point."""
    if not value:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def runs_of(part: Part) -> str:
    """Of how many runs each figure is."""
    counts = {len(point.runs) for series in part.series for point in series.points}
    least, most = min(counts), max(counts)
    return f"{least} runs" if least == most else f"{least} to {most} runs"


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    median, least, most = map(number, (point.median, point.lowest, point.highest))
    return median if least == most else f"{median} ({least} to {most})"
