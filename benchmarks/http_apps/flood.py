"""What a flood of forged tokens with unknown kids does to legitimate requests.

The tenant takes a while for its JWKS, so that whoever waits for it shows. All servers have run
for longer than their cooldowns when it begins, as a server in production has.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.http_apps.server import FAILURES, Served
from benchmarks.http_apps.wrk import Figures, Load, figures_of
from benchmarks.rounds import Ratio, at_most, mirrored

ROUNDS, CALM, FLOODED = at_most(5), 1, 3  # the latter two in seconds
DELAY = 0.2  # seconds that the JWKS takes
LEGITIMATE, FORGED, PAUSE = 8, 8, 20  # connections and connections; ms before each request
FLOOD = FLOODED - 1  # seconds; it begins when the legitimate traffic is already there
MOST_FORGED = FORGED * FLOOD * 1000 // PAUSE


@dataclass(frozen=True, slots=True)
class Episode:
    """Legitimate traffic without the flood and in it, and the fetches that the flood caused."""

    calm: Figures
    flooded: Figures
    fetches: int


@dataclass(slots=True)
class Case:
    """One app and its figures of every round."""

    served: Served
    episodes: list[Episode] = field(default_factory=list)

    def measure(self) -> None:
        served = self.served
        forged = served.forge(MOST_FORGED)
        served.ready()
        calm = Load(served.url, served.tokens, LEGITIMATE, CALM, PAUSE).run()
        calm.answered(served.app.title)
        served.tenant.requests.clear()
        legitimate = Load(served.url, served.tokens, LEGITIMATE, FLOODED, PAUSE).start()
        try:
            time.sleep(0.5)
            Load(served.url, forged, FORGED, FLOOD, PAUSE).run()
        finally:
            flooded = figures_of(legitimate)
        self.episodes.append(Episode(calm, flooded, served.tenant.requests.count()))


def measured(apps: Iterable[Served]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for every app, each round runs all of them; and why those that failed have none."""
    cases = [Case(served) for served in apps]
    failed: dict[str, str] = {}
    for case in cases:
        case.served.tenant.faults.delay(DELAY)
    for number in range(ROUNDS):
        for case in mirrored(cases, number):
            if case.served.app.title not in failed:
                try:
                    case.measure()
                except FAILURES as error:
                    failed[case.served.app.title] = f"in the flood: {error}"
    return [_row(case) for case in cases if case.served.app.title not in failed], failed


def _row(case: Case) -> dict[str, Any]:
    app, episodes = case.served.app, case.episodes
    return {
        "framework": app.framework,
        "name": app.name,
        "version": app.version,
        "calm_p99": median(each.calm.p99 for each in episodes),
        "p99": median(each.flooded.p99 for each in episodes),
        "longest": max(each.flooded.longest for each in episodes),
        "p99_ratio": asdict(Ratio.of([each.flooded.p99 / each.calm.p99 for each in episodes])),
        "rate_ratio": median(each.flooded.rate / each.calm.rate for each in episodes),
        "failed": sum(each.flooded.failed for each in episodes),
        "fetches": [each.fetches for each in episodes],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people to read."""
    load = f"connections with at most {1000 // PAUSE} requests a second each"
    head = (
        f"Legitimate requests ({LEGITIMATE} {load})\nin a flood of forged tokens, each with a new "
        f"unknown kid ({FORGED} {load}).\n"
        f"The JWKS takes {DELAY * 1000:.0f} ms; {ROUNDS} rounds of {FLOODED} s, each after "
        f"{CALM} s without the flood. p99 in ms, median over rounds, and its\nratio to that "
        "without the flood with the lowest and highest; longest and failed legitimate requests, of "
        "all; fetches\nof the JWKS in each round."
    )
    names = (
        f"{'':<50}{'calm p99':>9}{'p99':>8}{'ratio':>18}{'longest':>9}{'req/s':>7}"
        f"{'failed':>8}  fetches"
    )
    return "\n".join((head, "", names, *map(_line, rows)))


def _line(row: dict[str, Any]) -> str:
    name = f"{row['framework']}: {row['name']} {row['version']}"
    return (
        f"{name:<50}{row['calm_p99']:9.2f}{row['p99']:8.2f}{Ratio(**row['p99_ratio'])!s:>18}"
        f"{row['longest']:9.1f}{row['rate_ratio']:7.2f}{row['failed']:8}"
        f"  {', '.join(map(str, row['fetches']))}"
    )
