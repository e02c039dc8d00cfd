"""The report's charts: horizontal bars as SVG that can be read on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from benchmarks.http_apps.catalogue import OUR_GUARD, UNGUARDED
from benchmarks.report_figures import HTTP, Revocation, Speed
from benchmarks.revocation_tables import ACCEPTED_FOR, ONCE_TOLD, Findings
from benchmarks.workers import OURS, OWN

WIDTH, ROW, BAR, HEAD, GAP = 800, 26, 14, 64, 8
CHARACTER = 7.9  # px, of a bold letter at 13 px in the widest usual font
# A page may be dark on a light system, or light on a dark one: each colour can be read on both.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #68717b }
.title { font-weight: 600; font-size: 15px }
.ours { font-weight: 700 }
.mark { font-size: 12px }
line { stroke: #68717b; stroke-dasharray: 3 3; opacity: 0.6 }
.bar { fill: #9aa4af }
.bar.ours { fill: #1f6feb }
@media (prefers-color-scheme: dark) {
  text { fill: #8b949e }
  line { stroke: #8b949e }
  .bar { fill: #656d76 }
  .bar.ours { fill: #388bfd }
}
"""
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One row. `shown` stands at the bar's end; without a value there is no bar."""

    label: str
    value: float | None
    shown: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """From the least to the greatest value that has a place. What is greater ends in an arrow."""

    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """The place of `value`, from 0 to 1."""
        within = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(within / self.low) / math.log(self.high / self.low)
        return (within - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where the bars are: pixels of the left edge and in width."""

    left: float
    width: float
    scale: Scale

    def x(self, value: float) -> float:
        return self.left + self.width * self.scale.share(value)


@dataclass(frozen=True, slots=True)
class Chart:
    """A file's name without its end, its text for those who can't see it, and the SVG."""

    name: str
    summary: str
    svg: str


def bar_chart(
    title: str,
    summary: str,
    bars: Sequence[Bar],
    scale: Scale,
    marks: Sequence[tuple[float, str]],
) -> str:
    """The SVG. `marks` are values with a line across all bars and a name above it."""
    left = max(len(bar.label) for bar in bars) * CHARACTER + GAP
    right = max(len(bar.shown) for bar in bars) * CHARACTER + 2 * GAP
    plot = _Plot(left, WIDTH - left - right, scale)
    lines = [plot.x(value) for value, _ in marks]
    height = HEAD + ROW * len(bars) + GAP
    root = _svg(title, summary, height)
    _text(root, title, 0, 18, "title")
    for number, bar in enumerate(bars):
        _row(root, bar, HEAD + ROW * (number + 0.5), plot, lines)
    for x, (_, name) in zip(lines, marks, strict=True):
        ends = {"x1": _px(x), "x2": _px(x), "y1": _px(HEAD - GAP), "y2": _px(height - GAP)}
        ET.SubElement(root, "line", ends)
        _text(root, name, x, HEAD - 2 * GAP, "mark", "middle")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _row(root: ET.Element, bar: Bar, middle: float, plot: _Plot, lines: Sequence[float]) -> None:
    kind = "ours" if bar.ours else "peer"
    end = plot.left if bar.value is None else plot.x(bar.value)
    _text(root, bar.label, plot.left - GAP, middle + 4.5, kind, "end")
    if bar.value is not None:
        beyond = bar.value > plot.scale.high
        points = _outline(plot.left, max(end, plot.left + 2), middle, arrow=beyond)
        ET.SubElement(root, "polygon", {"class": f"bar {kind}", "points": points})
    _text(root, bar.shown, _clear_of(lines, end + GAP, bar.shown), middle + 4.5, kind)


def _clear_of(lines: Sequence[float], start: float, shown: str) -> float:
    """Where a text can start, no sooner than `start`, so that no line goes through it."""
    for x in sorted(lines):
        if start - 2 < x < start + len(shown) * CHARACTER:
            start = x + GAP / 2
    return start


def _svg(title: str, summary: str, height: float) -> ET.Element:
    size = {"viewBox": f"0 0 {WIDTH} {_px(height)}", "width": str(WIDTH), "height": _px(height)}
    named = {"role": "img", "aria-labelledby": "title desc"}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **named})
    ET.SubElement(root, "title", {"id": "title"}).text = title
    ET.SubElement(root, "desc", {"id": "desc"}).text = summary
    ET.SubElement(root, "style").text = STYLE
    return root


def _text(
    root: ET.Element, content: str, x: float, y: float, kind: str, anchor: str = "start"
) -> None:
    place = {"class": kind, "x": _px(x), "y": _px(y), "text-anchor": anchor}
    ET.SubElement(root, "text", place).text = content


def _outline(start: float, end: float, middle: float, *, arrow: bool) -> str:
    top, bottom = middle - BAR / 2, middle + BAR / 2
    tip = [(end + GAP - 2, middle)] if arrow else []
    corners = [(start, top), (end, top), *tip, (end, bottom), (start, bottom)]
    return " ".join(f"{_px(x)},{_px(y)}" for x, y in corners)


def _px(value: float) -> str:
    return f"{value:.1f}"


def new_token(speed: Speed) -> Chart:
    """What verifying a new token takes, for us and the peers, with the bare check as a line."""
    ordered = sorted(speed.peers, key=lambda each: each.new.microseconds)
    bars = [
        Bar(each.name, each.new.microseconds, f"{each.new.microseconds:.0f} µs", each.name in OWN)
        for each in ordered
    ]
    bare = next(each.bare.microseconds for each in ordered if each.name == OURS)
    title = "Verifying a new token, in µs (less is better)"
    summary = f"{title}: the signature check alone {bare:.0f} µs; {_listed(bars)}."
    scale = Scale(0.0, max(each.new.microseconds for each in ordered))
    marks = [(bare, f"signature check alone, {bare:.0f} µs")]
    return Chart("new-token", summary, bar_chart(title, summary, bars, scale, marks))


def revoked_key(revocation: Revocation) -> Chart:
    """How long a revoked key is accepted, on a logarithmic scale."""
    rows = revocation.found
    told = [
        Bar(
            f"{row.name}, after distrust()",
            row.told.accepted_for,
            ONCE_TOLD.shown(row),
            row.name == OURS,
        )
        for row in rows
        if row.told is not None
    ]
    untold = [
        Bar(row.name, _seconds(row), ACCEPTED_FOR.shown(row), row.name == OURS) for row in rows
    ]
    bars = told + sorted(untold, key=lambda bar: (bar.value is None, bar.value or 0.0))
    title = "How long a revoked key is accepted (logarithmic; less is better)"
    summary = f"{title}: {_listed(bars)}."
    marks = [(1.0, "1 s"), (MINUTE, "1 min"), (HOUR, "1 h"), (DAY, "24 h")]
    scale = Scale(1.0, DAY, logarithmic=True)
    return Chart("revoked-key", summary, bar_chart(title, summary, bars, scale, marks))


def guarded_requests(http: HTTP) -> Chart:
    """Requests a second, guarded / unguarded, of every integration."""
    bars = [
        Bar(
            f"{each.framework}: {each.name}",
            each.rate_ratio.median,
            f"{each.rate_ratio.median:.2f}",
            each.name.startswith(OUR_GUARD),
        )
        for each in http.throughput
        if each.name != UNGUARDED
    ]
    title = "Requests a second, guarded / unguarded (more is better)"
    summary = f"{title}: {_listed(bars)}."
    scale = Scale(0.0, max(1.0, *(each.rate_ratio.median for each in http.throughput)))
    marks = [(1.0, "unguarded")]
    return Chart("guarded-requests", summary, bar_chart(title, summary, bars, scale, marks))


def _seconds(found: Findings) -> float | None:
    """How long it is accepted, without end if for more than a day; None: the library has no say."""
    if not found.fetches:
        return None
    return math.inf if found.untold.accepted_for is None else found.untold.accepted_for


def _listed(bars: Sequence[Bar]) -> str:
    return "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
