"""Requests a second of every guarded app, against the unguarded app of its framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.http_apps.catalogue import BARE, UNGUARDED
from benchmarks.http_apps.server import TOKENS, Served
from benchmarks.http_apps.wrk import Figures, Load

ROUNDS, SECONDS, CONNECTIONS = 15, 1, 16
SELDOM = 3  # cases without a goal are in every third round: that shows enough, and saves minutes
TARGETS = {
    ("Starlette", "jwks_guard"): 0.90,
    ("Starlette", "jwks_guard, one token"): 0.90,
    ("Starlette", "jwks_guard, cache off"): 0.55,
    ("FastAPI", "jwks_guard, one dependency"): 0.80,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What wrk saw, and the server's processor time for one request in microseconds.

    The latter tells what the rate tells, and still does when something else wants the processor.
    """

    seen: Figures
    cpu: float


@dataclass(slots=True)
class Case:
    """A guarded app under one file of tokens, and the unguarded one right before it, by rounds."""

    name: str
    guarded: Served
    unguarded: Served
    tokens: Path
    rounds: list[tuple[Measured, Measured]] = field(default_factory=list)

    @property
    def often(self) -> bool:
        """Whether a goal is for it, or it is the bare check, which shows what a goal can ask."""
        return self.name == BARE or (self.guarded.app.framework, self.name) in TARGETS

    def measure(self) -> None:
        bare = _loaded(self.unguarded, self.unguarded.tokens)
        self.rounds.append((_loaded(self.guarded, self.tokens), bare))


def measured(apps: Iterable[Served]) -> list[dict[str, Any]]:
    """A row for every app; the cases take turns."""
    cases = _cases(list(apps))
    for case in cases:
        case.measure()  # lets caches fill and compilers finish
        case.rounds.clear()
    for number in range(ROUNDS):
        for case in cases:
            if case.often or number % SELDOM == 0:
                case.measure()
    return [row for case in cases for row in _rows(case, cases)]


def _loaded(served: Served, tokens: Path) -> Measured:
    served.ready()
    began = served.cpu_seconds()
    seen = Load(served.url, tokens, CONNECTIONS, SECONDS).run().answered(served.app.title)
    return Measured(seen, (served.cpu_seconds() - began) / seen.answers * 1e6)


def _cases(apps: list[Served]) -> list[Case]:
    unguarded = {each.app.framework: each for each in apps if each.app.name == UNGUARDED}
    cases = []
    for each in apps:
        if each.app.name != UNGUARDED:
            bare = unguarded[each.app.framework]
            cases.append(Case(each.app.name, each, bare, each.tokens))
            if each.app.name == "jwks_guard":
                cases.append(Case("jwks_guard, one token", each, bare, each.one_token))
    return cases


def _rows(case: Case, cases: list[Case]) -> list[dict[str, Any]]:
    """The row of a case, and that of the unguarded app before the first case of a framework."""
    row = _row(case.name, case.guarded, case.rounds)
    siblings = [each for each in cases if each.unguarded is case.unguarded]
    if siblings[0] is not case:
        return [row]
    bare = [(bare, bare) for sibling in siblings for _, bare in sibling.rounds]
    return [_row(case.unguarded.app.name, case.unguarded, bare), row]


def _row(name: str, served: Served, pairs: list[tuple[Measured, Measured]]) -> dict[str, Any]:
    own = [each for each, _ in pairs]
    return {
        "framework": served.app.framework,
        "name": name,
        "version": served.app.version,
        "target": TARGETS.get((served.app.framework, name)),
        "rate": median(each.seen.rate for each in own),
        "rate_ratio": median(each.seen.rate / bare.seen.rate for each, bare in pairs),
        "cpu": median(each.cpu for each in own),
        "cpu_ratio": median(bare.cpu / each.cpu for each, bare in pairs),
        "p50": median(each.seen.p50 for each in own),
        "p99": median(each.seen.p99 for each in own),
        "failed": sum(each.seen.failed for each in own),
        "rounds": len(own),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people to read."""
    head = (
        f"One worker on one core, {CONNECTIONS} connections, {TOKENS} tokens in turn, keys known; "
        f"medians of rounds of {SECONDS} s.\nRatios are to the unguarded app of the same "
        "framework, measured right before: of requests a second, and of\nrequests for a second of "
        "the server's processor time, which other work on this machine disturbs less."
    )
    names = (
        f"{'':<50}{'req/s':>8}{'ratio':>7}{'target':>8}{'CPU us':>8}{'ratio':>7}"
        f"{'p50 ms':>8}{'p99 ms':>8}{'failed':>8}{'rounds':>8}"
    )
    return "\n".join((head, "", names, *map(_line, rows)))


def _line(row: dict[str, Any]) -> str:
    name = f"{row['framework']}: {row['name']} {row['version']}"
    target = "" if row["target"] is None else f"{row['target']:.2f}"
    return (
        f"{name:<50}{row['rate']:8.0f}{row['rate_ratio']:7.2f}{target:>8}"
        f"{row['cpu']:8.0f}{row['cpu_ratio']:7.2f}"
        f"{row['p50']:8.2f}{row['p99']:8.2f}{row['failed']:8}{row['rounds']:8}"
    )
