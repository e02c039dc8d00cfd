"""Requests a second of every app, against the unguarded app and the floor of its framework.

The apps of a framework take their turns in each round, and in the opposite order in the next: so
a machine that grows slower from minute to minute favours none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.http_apps.catalogue import UNGUARDED
from benchmarks.http_apps.server import FAILURES, TOKENS, Served
from benchmarks.http_apps.wrk import Figures, Load
from benchmarks.rounds import Ratio, at_most, mirrored

ROUNDS, SECONDS, CONNECTIONS = at_most(8), 1, 16


@dataclass(frozen=True, slots=True)
class Measured:
    """What wrk saw, and the server's processor time for one request in microseconds.

    The latter tells what the rate tells, and still does when something else wants the processor.
    """

    seen: Figures
    cpu: float


@dataclass(slots=True)
class Case:
    """An app under one file of tokens, and what was measured in each round."""

    name: str
    served: Served
    tokens: Path
    rounds: list[Measured] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.served.app.framework}: {self.name}"

    def measure(self) -> None:
        served = self.served
        served.ready()
        began = served.cpu_seconds()
        load = Load(served.url, self.tokens, CONNECTIONS, SECONDS)
        seen = load.run().answered(served.app.title)
        self.rounds.append(Measured(seen, (served.cpu_seconds() - began) / seen.answers * 1e6))


def measured(apps: Iterable[Served]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for every app; and why those that failed under load have none."""
    frameworks: dict[str, list[Case]] = {}
    for served in apps:
        frameworks.setdefault(served.app.framework, []).extend(_cases(served))
    failed: dict[str, str] = {}
    for number in range(-1, ROUNDS):
        for cases in frameworks.values():
            for case in mirrored(cases, number + 1):
                if case.title not in failed:
                    _measure(case, failed)
                if number < 0:
                    case.rounds.clear()  # that round lets caches fill and compilers finish
    left = [[case for case in cases if case.title not in failed] for cases in frameworks.values()]
    return [row for cases in left for row in rows_of(cases)], failed


def _cases(served: Served) -> Iterator[Case]:
    name = served.app.name
    yield Case(name, served, served.tokens)
    if served.app.plain:
        yield Case(f"{name}, one token", served, served.one_token)


def _measure(case: Case, failed: dict[str, str]) -> None:
    """Measure, or note why that was not possible."""
    try:
        case.measure()
    except FAILURES as error:
        failed[case.title] = str(error)


def rows_of(cases: list[Case]) -> Iterator[dict[str, Any]]:
    """The rows of a framework's cases; none if its unguarded app failed: no ratio is left."""
    by_name = {case.name: case for case in cases}
    if UNGUARDED in by_name:
        for case in cases:
            yield _row(case, by_name[UNGUARDED], by_name.get(case.served.app.floor or ""))


def _row(case: Case, unguarded: Case, floor: Case | None) -> dict[str, Any]:
    return {
        "framework": case.served.app.framework,
        "name": case.name,
        "version": case.served.app.version,
        "rate": median(each.seen.rate for each in case.rounds),
        "rate_ratio": asdict(_rate_ratio(case, unguarded)),
        "floor": floor and floor.name,
        "floor_ratio": floor and asdict(_rate_ratio(case, floor)),
        "cpu": median(each.cpu for each in case.rounds),
        "cpu_ratio": asdict(_cpu_ratio(case, unguarded)),
        "p50": median(each.seen.p50 for each in case.rounds),
        "p99": median(each.seen.p99 for each in case.rounds),
        "failed": sum(each.seen.failed for each in case.rounds),
    }


def _rate_ratio(case: Case, against: Case) -> Ratio:
    pairs = zip(case.rounds, against.rounds, strict=True)
    return Ratio.of([each.seen.rate / other.seen.rate for each, other in pairs])


def _cpu_ratio(case: Case, against: Case) -> Ratio:
    pairs = zip(case.rounds, against.rounds, strict=True)
    return Ratio.of([other.cpu / each.cpu for each, other in pairs])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people to read."""
    head = (
        f"One worker on one core, {CONNECTIONS} connections, {TOKENS} tokens in turn, keys known; "
        f"medians of {ROUNDS} rounds of {SECONDS} s.\nRatios with their lowest and highest: "
        "requests a second to those of the unguarded app of the same framework, and of\n"
        "its app with a middleware or a dependency that does nothing (floor); requests for a "
        "second of the server's\nprocessor time to the unguarded app's, which other work on this "
        "machine disturbs less."
    )
    names = (
        f"{'':<50}{'/ unguarded':>18}{'/ floor':>18}{'processor':>18}{'req/s':>8}{'CPU us':>8}"
        f"{'p50 ms':>8}{'p99 ms':>8}{'failed':>8}"
    )
    return "\n".join((head, "", names, *map(_line, rows)))


def _line(row: dict[str, Any]) -> str:
    name = f"{row['framework']}: {row['name']} {row['version']}"
    floor = Ratio(**row["floor_ratio"]) if row["floor_ratio"] else "-"
    return (
        f"{name:<50}{Ratio(**row['rate_ratio'])!s:>18}{floor!s:>18}{Ratio(**row['cpu_ratio'])!s:>18}"
        f"{row['rate']:8.0f}{row['cpu']:8.0f}{row['p50']:8.2f}{row['p99']:8.2f}{row['failed']:8}"
    )
