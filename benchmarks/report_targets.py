"""This project's goals, and what was measured, as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.footprint import IMPORT_TARGET, MEMORY_TARGET
from benchmarks.http_apps.catalogue import BARE
from benchmarks.instructions import AT_MOST, PLAIN
from benchmarks.report_figures import HTTP, Results, Speed
from benchmarks.report_tables import markdown_table
from benchmarks.rounds import Row
from benchmarks.speed_peers import Figures
from benchmarks.workers import OWN

TIMES_AHEAD = 2.0  # what is wanted of the nearest Python peer's time / ours
WAITED = 0.5  # of a fetch; who waits for another thread's, waits for nearly all of it


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, or some of one kind, and what is wanted of each. Without a unit it is a ratio."""

    case: str
    measured: Sequence[float]
    goal: float | None = None
    unit: str = ""
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether one of the figures is not what is wanted."""
        goal = self.goal
        if goal is None:
            return False
        return not all(each >= goal if self.at_least else each <= goal for each in self.measured)

    def cells(self) -> tuple[str, str, str]:
        """The row: a missed goal is marked in words."""
        decimals = 1 if self.unit else 3
        values = " / ".join(f"{each:.{decimals}f}" for each in self.measured)
        measured = f"{values} {self.unit}".rstrip() if values else "not measured"
        if self.goal is None:
            return self.case, measured, ""
        bound = "at least" if self.at_least else "at most"
        wanted = f"{bound} {self.goal:.{1 if self.unit else 2}f} {self.unit}".rstrip()
        return self.case, measured, f"{wanted}: **missed**" if self.missed else wanted


def targets(results: Results) -> list[Target]:
    """Every goal of this project with what was measured."""
    bare, *ours = results.speed.ours
    return [
        Target(bare.case, [bare.microseconds], unit="µs"),
        *map(_own, ours),
        _others(results.speed.other_algorithms),
        _nearest_peer(results.speed.peers),
        _threads(results.speed),
        *_requests(results.http),
        *_instructions(results.calls),
        *_footprint(results),
    ]


def target_table(results: Results) -> Iterator[str]:
    """Those goals, and how many were missed."""
    rows = targets(results)
    yield from markdown_table(("", "measured", "goal"), [row.cells() for row in rows])
    goals = [row for row in rows if row.goal is not None]
    missed = sum(row.missed for row in goals)
    unknown = sum(not row.measured for row in goals)
    verdict = f"{missed} of {len(goals)} goals missed, {unknown} not measured."
    yield from ("", verdict if missed or unknown else "Every goal is met.")


def _own(row: Row) -> Target:
    return Target(f"{row.case} / {row.against}", [row.ratio], row.goal)


def _others(rows: Sequence[Row]) -> Target:
    verified = [row for row in rows if row.case != row.against]
    names = " / ".join(row.case.partition(",")[0] for row in verified)
    return Target(f"{names}, cache off, each / its bare check", [row.ratio for row in verified])


def _nearest_peer(peers: Sequence[Figures]) -> Target:
    rivals = [each for each in peers if each.name not in OWN and each.runtime == "python"]
    if not rivals:
        return Target("nearest Python peer / ours, new token", [], TIMES_AHEAD, at_least=True)
    nearest = min(rivals, key=lambda each: each.new_to_ours.median)
    case = f"nearest Python peer ({nearest.name}) / ours, new token"
    return Target(case, [nearest.new_to_ours.median], TIMES_AHEAD, at_least=True)


def _threads(speed: Speed) -> Target:
    seen = speed.threads
    fetch = seen.fetch_milliseconds
    case = f"slowest verification in {seen.threads} threads during a fetch of {fetch:.0f} ms"
    return Target(case, [seen.slowest_milliseconds], WAITED * fetch, "ms")


def _requests(http: HTTP) -> Iterator[Target]:
    """A row for each goal, with all cases that have it."""
    rows = [row for row in http.throughput if row.target is not None]
    for goal in dict.fromkeys(row.target for row in rows):
        those = [row for row in rows if row.target == goal]
        case = f"requests a second, guarded / unguarded ({'; '.join(row.name for row in those)})"
        yield Target(case, [row.rate_ratio for row in those], goal, at_least=True)
    floor = [row.rate_ratio for row in http.throughput if row.name == BARE]
    yield Target(f"requests a second, with {BARE} each and no guard / unguarded", floor)


def _instructions(calls: Mapping[str, int]) -> Iterator[Target]:
    """The same for instructions."""
    for goal in dict.fromkeys(AT_MOST.values()):
        those = [case for case, of in AT_MOST.items() if of == goal]
        names = "; ".join(each.removeprefix(f"{PLAIN}, ") for each in those)
        case = f"instructions ({names}), each / {PLAIN}"
        yield Target(case, [calls[each] / calls[PLAIN] for each in those], goal)


def _footprint(results: Results) -> Iterator[Target]:
    grown = results.footprint.megabytes["claims and scopes read"]
    points = [grown[point] for point in ("10,000 tokens", "200,000 tokens") if point in grown]
    case = "memory of 10,000 results, all read / after 200,000 distinct tokens"
    yield Target(case, points, MEMORY_TARGET, "MB")
    ratio = results.footprint.import_seconds["ratio"]
    yield Target("import time / that of `httpx` and `jwt`", [ratio], IMPORT_TARGET)
