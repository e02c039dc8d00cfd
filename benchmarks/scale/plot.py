"""Lines with points as SVG, for light and dark pages: figures as multiples of the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from benchmarks.charts import CHARACTER, GAP, STYLE, WIDTH
from benchmarks.scale.series import FLAT, Part, Series
from benchmarks.scale.tables import number, quantity

HEAD, FOOT, LEFT, HEIGHT, LABEL = 34, 44, 68, 300, 17
FEW_DECADES = 3
COLOURS = {
    "light": (
        "#0969da",
        "#bc4c00",
        "#1a7f37",
        "#8250df",
        "#bf3989",
        "#9a6700",
        "#0a7ea4",
        "#cf222e",
        "#59636e",
    ),
    "dark": (
        "#58a6ff",
        "#f0883e",
        "#56d364",
        "#bc8cff",
        "#f778ba",
        "#e3b341",
        "#39c5cf",
        "#ff7b72",
        "#9198a1",
    ),
}


@dataclass(frozen=True, slots=True)
class _Axes:
    """Both logarithmic. A size of 0 stands where a tenth of the next one would."""

    sizes: Sequence[int]
    low: float
    high: float
    width: float

    def x(self, size: int) -> float:
        first = max(1.0, self.sizes[0] or self.sizes[1] / 10)
        share = math.log(max(size, first) / first) / math.log(self.sizes[-1] / first)
        return LEFT + self.width * share

    def y(self, ratio: float) -> float:
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return HEAD + HEIGHT * (1 - min(max(share, 0.0), 1.0))


def line_chart(part: Part, title: str, summary: str) -> str:
    """The SVG of all series of `part` that are ever more than 0."""
    shown = [each for each in part.series if _base(each)]
    sizes = sorted({point.size for each in shown for point in each.points})
    ratios = [p.median / _base(each) for each in shown for p in each.points if p.median > 0]
    names = [_label(each) for each in shown]
    right = 3 * GAP + max(map(len, names)) * CHARACTER * 0.86
    axes = _Axes(sizes, 0.7 * min(1.0, *ratios), 1.3 * max(2.0, *ratios), WIDTH - LEFT - right)
    height = max(HEAD + HEIGHT + FOOT, HEAD + LABEL * (len(shown) + 1))
    root = _svg(title, summary, height)
    _grid(root, axes, part.per)
    ends = _apart([axes.y(max(each.points[-1].median / _base(each), axes.low)) for each in shown])
    for place, (series, end) in enumerate(zip(shown, ends, strict=True)):
        _line(root, series, axes, place, end)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _times(ratio: float) -> str:
    return f"{number(ratio)} \N{MULTIPLICATION SIGN}"


def _label(series: Series) -> str:
    return f"{series.name}: {quantity(series.points[-1].median, series.unit)}"


def _base(series: Series) -> float:
    """The median at the least size where that is more than 0; 0 if there is none."""
    return next((point.median for point in series.points if point.median > 0), 0.0)


def _grid(root: ET.Element, axes: _Axes, per: str) -> None:
    right = LEFT + axes.width
    for ratio in _ticks(axes):
        _rule(root, axes.y(ratio), right, "grid")
        _text(root, _times(ratio), LEFT - GAP, axes.y(ratio) + 4, "mark", "end")
    _rule(root, axes.y(FLAT), right, "flat")
    for size in axes.sizes:
        _text(root, f"{size:,}", axes.x(size), HEAD + HEIGHT + 18, "mark", "middle")
    legend = f"{per}s (dashed: {_times(FLAT)}, up to which a series is flat)"
    _text(root, legend, LEFT + axes.width / 2, HEAD + HEIGHT + 36, "mark", "middle")


def _ticks(axes: _Axes) -> list[float]:
    """Powers of ten, with their double and fivefold where there are few of them."""
    decades = range(math.floor(math.log10(axes.low)), math.ceil(math.log10(axes.high)))
    steps = (1, 2, 5) if len(decades) <= FEW_DECADES else (1,)
    ratios = [step * 10.0**decade for decade in decades for step in steps]
    return [ratio for ratio in ratios if axes.low <= ratio <= axes.high]


def _line(root: ET.Element, series: Series, axes: _Axes, place: int, label_y: float) -> None:
    base, kind = _base(series), f"s{place % len(COLOURS['light'])}"
    points = [point for point in series.points if point.median > 0]
    places = [(axes.x(point.size), axes.y(point.median / base)) for point in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    ET.SubElement(root, "polyline", {"class": f"path {kind}", "points": path})
    for point, (x, y) in zip(points, places, strict=True):
        low, high = (axes.y(max(v / base, axes.low)) for v in (point.lowest, point.highest))
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{low:.1f}", "y2": f"{high:.1f}"}
        ET.SubElement(root, "line", {"class": f"range {kind}", **ends})
        ET.SubElement(
            root, "circle", {"class": kind, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5"}
        )
    (x, y), start = places[-1], LEFT + axes.width + 2 * GAP
    ends = {
        "x1": f"{x + 5:.1f}",
        "x2": f"{start - 2:.1f}",
        "y1": f"{y:.1f}",
        "y2": f"{label_y:.1f}",
    }
    ET.SubElement(root, "line", {"class": f"range {kind}", **ends})
    _text(root, _label(series), start, label_y + 4.5, f"name {kind}")


def _apart(wanted: Sequence[float]) -> list[float]:
    """Heights near the wanted ones, in their order, LABEL px apart and inside of the chart."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    found, least = list(wanted), HEAD + 0.0
    for above, index in enumerate(order):
        below = len(order) - 1 - above
        lowest = max(HEAD + HEIGHT, HEAD + LABEL * (len(order) - 1)) - LABEL * below
        found[index] = min(max(wanted[index], least), lowest)
        least = found[index] + LABEL
    return found


def _style() -> str:
    light, dark = (
        "\n".join(
            f".s{place} {{ stroke: {colour}; fill: {colour} }}"
            for place, colour in enumerate(COLOURS[scheme])
        )
        for scheme in ("light", "dark")
    )
    return (
        f"{STYLE}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        "text.name { stroke: none; font-size: 12px }\n.path { fill: none; stroke-width: 2 }\n"
        "line.range { stroke-dasharray: none; opacity: 0.55 }\n"
        ".grid { stroke-dasharray: none; opacity: 0.25 }\n"
        ".flat { opacity: 0.8 }\n"
    )


def _svg(title: str, summary: str, height: float) -> ET.Element:
    size = {"viewBox": f"0 0 {WIDTH} {height:.0f}", "width": str(WIDTH), "height": f"{height:.0f}"}
    named = {"role": "img", "aria-labelledby": "title desc"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **named})
    ET.SubElement(root, "title", {"id": "title"}).text = title
    ET.SubElement(root, "desc", {"id": "desc"}).text = summary
    ET.SubElement(root, "style").text = _style()
    _text(root, title, 0, 16, "title")
    return root


def _rule(root: ET.Element, y: float, right: float, kind: str) -> None:
    ends = {"x1": str(LEFT), "x2": f"{right:.1f}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
    ET.SubElement(root, "line", {"class": kind, **ends})


def _text(
    root: ET.Element, content: str, x: float, y: float, kind: str, anchor: str = "start"
) -> None:
    place = {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ET.SubElement(root, "text", place).text = content
