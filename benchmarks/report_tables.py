"""The report's tables of us and the peers, as Markdown, and who is ahead of us in what.

Nothing that they say in words about anybody's figures is written by hand.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import revocation_tables as revocation
from benchmarks.http_apps.catalogue import BARE, UNGUARDED
from benchmarks.report_figures import HTTP, Flooded, Speed, Throughput
from benchmarks.revocation_tables import Findings
from benchmarks.speed_peers import Figures
from benchmarks.workers import OURS, OWN

OUR_GUARD = "jwks_guard"
OUR_FRAMEWORK = "Starlette"
"""Guards in a framework that we were not measured in are compared with ours in this one."""


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    for cells in (headings, ["---"] * len(headings), *rows):
        escaped = (cell.replace("|", r"\|") for cell in cells)
        yield f"| {' | '.join(escaped)} |"


def folded(summary: str, table: Iterator[str]) -> Iterator[str]:
    """A table that opens when its summary is clicked on, where Markdown is rendered."""
    yield from (f"<details><summary>{summary}</summary>", "", *table, "", "</details>")


def ahead_of_us(better: Mapping[str, Sequence[str]]) -> str:
    """Who has the better figure, by what the figure is of."""
    named = [
        f"{what}: {', '.join(f'*{name}*' for name in names)}"
        for what, names in better.items()
        if names
    ]
    return f"**Ahead of us** in {'; '.join(named)}." if named else "Nobody here is ahead of us."


def peer_table(speed: Speed) -> Iterator[str]:
    """Verification against the peers'."""
    rows = sorted(speed.peers, key=lambda each: (each.name not in OWN, each.new.microseconds))
    common = {
        runtime: _shared([each for each in rows if each.runtime == runtime])
        for runtime in ("python", "node")
    }
    table = markdown_table(
        (
            "",
            "new token, / ours",
            "processor, / ours",
            "seen again, / ours",
            "new, / bare check",
            "new, µs (least)",
            "seen again, µs",
            "versions",
        ),
        [(*_timed(each), _apart(each, common[each.runtime])) for each in rows],
    )
    yield from folded("Each library's time for a token, and its version", table)
    yield ""
    parts = (f"{runtime.title()} libraries with {_versions(of)}" for runtime, of in common.items())
    yield f"{'; '.join(parts)}."
    rivals = [each for each in rows if each.name not in OWN]
    yield ahead_of_us(
        {
            "new token": [each.name for each in rivals if each.new_to_ours.median < 1],
            "seen again": [each.name for each in rivals if each.again_to_ours.median < 1],
        }
    )
    yield from _left_out(speed.unavailable)


def _timed(each: Figures) -> tuple[str, ...]:
    return (
        _named(each.name, each.name in OWN),
        str(each.new_to_ours),
        str(each.cpu_to_ours),
        str(each.again_to_ours),
        str(each.new_to_bare),
        f"{each.new.microseconds:.1f} ({each.new.least:.1f})",
        f"{each.again.microseconds:.1f}",
    )


def _shared(rows: Sequence[Figures]) -> dict[str, str]:
    """Name and version of what all of them are measured with, besides themselves."""
    everything = [
        {*each.versions.items()} - {(each.name, each.versions.get(each.name))} for each in rows
    ]
    return dict(sorted(set.intersection(*everything))) if everything else {}


def _apart(each: Figures, common: Mapping[str, str]) -> str:
    return _versions({name: of for name, of in each.versions.items() if name not in common})


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# --- revocation ---

_REVOCATION: dict[str, tuple[revocation.Column, ...]] = {
    "revoked key accepted for": (revocation.ACCEPTED_FOR,),
    "once told": (revocation.ONCE_TOLD,),
    "one older answer: back for": (revocation.BACK_FOR,),
    "failed in an outage of 60 s": (revocation.FAILED,),
    "fetches for 1000 unknown kids, in health / outage": (
        revocation.FLOOD_IN_HEALTH,
        revocation.FLOOD_IN_OUTAGE,
    ),
    "new key accepted after, usually / at worst": (
        revocation.NEW_KEY,
        revocation.NEW_KEY_AT_WORST,
    ),
}


def revocation_table(rows: Sequence[Findings], unexamined: Mapping[str, str]) -> Iterator[str]:
    """What becomes of a revoked key, and what a bad hour of the issuer costs."""
    ordered = sorted((row for row in rows if row.fetches), key=lambda row: row.name != OURS)
    yield from markdown_table(
        ("", *_REVOCATION),
        [(_named(revocation.label(row), row.name == OURS), *_fates(row)) for row in ordered],
    )
    yield ""
    yield ahead_of_us(
        {
            _what(heading, column): revocation.ahead(column, rows, OURS)
            for heading, columns in _REVOCATION.items()
            for column in columns
        }
    )
    yield from filter(None, map(revocation.why_never_gone, ordered))
    aside = [revocation.label(row) for row in rows if not row.fetches]
    if aside:
        yield f"Up to the application, which has to fetch the key set: {', '.join(aside)}."
    yield from _left_out(unexamined)


def _what(heading: str, column: revocation.Column) -> str:
    alone = len(_REVOCATION[heading]) == 1
    return heading if alone else f"{heading.partition(',')[0]} ({column.heading})"


def _fates(row: Findings) -> Iterator[str]:
    for columns in _REVOCATION.values():
        yield " / ".join(column.shown(row) for column in columns)


# --- over HTTP ---


@dataclass(frozen=True, slots=True)
class _Guard:
    """One guarded app, under load and, if that was tried, in the flood."""

    load: Throughput
    flood: Flooded | None

    @property
    def ours(self) -> bool:
        return self.load.name.startswith(OUR_GUARD)

    @property
    def failed(self) -> int:
        return self.load.failed + (self.flood.failed if self.flood else 0)

    @property
    def label(self) -> str:
        return f"{self.load.framework}: {self.load.name} {self.load.version}".rstrip()

    def cells(self) -> tuple[str, ...]:
        load, flood = self.load, self.flood
        return (
            _named(self.label, self.ours),
            f"{load.rate_ratio:.2f}",
            f"{load.p50:.1f} / {load.p99:.1f}",
            f"{flood.p99:.1f} ({flood.calm_p99:.1f})" if flood else "-",
            f"{max(flood.fetches)}" if flood else "-",
            f"{self.failed}",
        )


_BETTER: dict[str, Callable[[_Guard, _Guard], bool]] = {
    "requests a second": lambda one, other: one.load.rate_ratio > other.load.rate_ratio,
    "p50": lambda one, other: one.load.p50 < other.load.p50,
    "p99": lambda one, other: one.load.p99 < other.load.p99,
    "p99 in the flood": lambda one, other: _in_flood(one)[0] < _in_flood(other)[0],
    "fetches in the flood": lambda one, other: _in_flood(one)[1] < _in_flood(other)[1],
    "failed requests": lambda one, other: one.failed < other.failed,
}


def http_table(http: HTTP) -> Iterator[str]:
    """Guarded apps, in load and in a flood, those of one framework together."""
    floods = {(each.framework, each.name): each for each in http.flood}
    guards = [
        _Guard(each, floods.get((each.framework, each.name)))
        for each in http.throughput
        if each.name != UNGUARDED
    ]
    table = markdown_table(
        (
            "",
            "requests a second, guarded / unguarded",
            "p50 / p99, ms",
            "p99 in a flood (before it), ms",
            "fetches in it",
            "failed",
        ),
        [guard.cells() for guard in guards if guard.flood or not guard.ours],
    )
    yield from folded("Each guard's throughput, latency, and what a flood does to it", table)
    yield ""
    ours = {each.load.framework: each for each in guards if each.load.name == OUR_GUARD}
    yield ahead_of_us(
        {
            what: [
                each.load.name
                for each in guards
                if not each.ours
                and each.load.name != BARE
                and better(each, ours.get(each.load.framework, ours[OUR_FRAMEWORK]))
            ]
            for what, better in _BETTER.items()
        }
    )
    yield from _left_out(http.not_measured)


def _in_flood(guard: _Guard) -> tuple[float, int]:
    """p99 and fetches; nothing is less than those of a guard that was not flooded."""
    return (guard.flood.p99, max(guard.flood.fetches)) if guard.flood else (math.inf, sys.maxsize)


def _named(label: str, ours: bool) -> str:
    return f"**{label}**" if ours else label


def _left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    for name, reason in reasons.items():
        last_line = reason.strip().rpartition("\n")[2]
        yield f"Not measured: {name} ({last_line})."
