"""The report's tables of fleets, of apps over HTTP and of what the library takes up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from benchmarks.fleet import PROCESSES
from benchmarks.http_apps.catalogue import BARE, DEPENDENCY, MIDDLEWARE, OUR_GUARD, UNGUARDED
from benchmarks.report_figures import (
    HTTP,
    Fleet,
    Flooded,
    Footprint,
    Instructions,
    Throughput,
)
from benchmarks.report_tables import ahead_of_us, left_out, markdown_table, named

OUR_FRAMEWORK = "Starlette"
"""Guards in a framework that we were not measured in are compared with ours in this one."""
NO_GUARDS = (UNGUARDED, MIDDLEWARE, DEPENDENCY, BARE)

App = TypeVar("App", Throughput, Flooded)


# --- fleets ---


def fleet_table(settings: Mapping[str, Fleet]) -> Iterator[str]:
    """How long a key is accepted anywhere once it is distrusted on one instance."""
    yield from markdown_table(
        (
            "on one Redis",
            "last accepted anywhere after the call: median",
            "longest",
            "calls",
            "requests a second",
            "each process is asked every",
            "valid tokens refused",
        ),
        [
            (
                setting,
                f"{1e3 * each.median:.1f} ms",
                f"{1e3 * each.worst:.1f} ms",
                str(each.revocations),
                str(each.requests_per_second),
                f"{1e3 * each.gap:.1f} ms",
                str(each.refused_valid),
            )
            for setting, each in settings.items()
        ],
    )


def longest_in_a_fleet(settings: Mapping[str, Fleet]) -> str:
    """The longest of all that, rounded up, in words."""
    longest = max(each.worst for each in settings.values())
    return f"{math.ceil(1e3 * longest)} ms on {PROCESSES} processes that share a Redis"


# --- over HTTP ---


def http_table(http: HTTP) -> Iterator[str]:
    """Requests a second of every app, those of one framework together."""
    yield from markdown_table(
        (
            "",
            "requests a second, / unguarded",
            "/ a guard that does nothing",
            "for a second of the processor, / unguarded",
            "requests a second",
            "processor, µs",
            "p50 / p99, ms",
            "failed",
        ),
        [
            (
                _title(each),
                str(each.rate_ratio),
                str(each.floor_ratio or "-"),
                str(each.cpu_ratio),
                f"{each.rate:.0f}",
                f"{each.cpu:.0f}",
                f"{each.p50:.1f} / {each.p99:.1f}",
                str(each.failed),
            )
            for each in http.throughput
        ],
    )
    yield http.cores
    yield _ahead(
        http.throughput,
        {
            "requests a second": lambda each: -each.rate_ratio.median,
            "p50": lambda each: each.p50,
            "p99": lambda each: each.p99,
            "failed requests": lambda each: each.failed,
        },
    )
    yield from left_out(http.not_measured)


def flood_table(http: HTTP) -> Iterator[str]:
    """What a flood of forged tokens does to legitimate requests."""
    yield from markdown_table(
        (
            "",
            "p99 in the flood, / before it",
            "p99 in the flood, ms",
            "before it, ms",
            "longest, ms",
            "fetches in each round",
            "failed",
        ),
        [
            (
                _title(each),
                str(each.p99_ratio),
                f"{each.p99:.1f}",
                f"{each.calm_p99:.1f}",
                f"{each.longest:.1f}",
                ", ".join(map(str, each.fetches)),
                str(each.failed),
            )
            for each in http.flood
        ],
    )
    yield _ahead(
        http.flood,
        {
            "p99 in the flood": lambda each: each.p99,
            "fetches": lambda each: max(each.fetches),
            "failed requests": lambda each: each.failed,
        },
    )


def _title(each: Throughput | Flooded) -> str:
    label = f"{each.framework}: {each.name} {each.version}".rstrip()
    return named(label, each.name.startswith(OUR_GUARD))


def _ahead(rows: Sequence[App], figures: Mapping[str, Callable[[App], float]]) -> str:
    """Which guards have less of a figure than ours in the same framework."""
    ours = {each.framework: each for each in rows if each.name == OUR_GUARD}
    rivals = [each for each in rows if not each.name.startswith((OUR_GUARD, *NO_GUARDS))]
    pairs = [(each, ours.get(each.framework, ours[OUR_FRAMEWORK])) for each in rivals]
    return ahead_of_us(
        {
            what: [f"*{each.name}*" for each, own in pairs if figure(each) < figure(own)]
            for what, figure in figures.items()
        }
    )


# --- what the library takes up ---


def footprint_table(footprint: Footprint) -> Iterator[str]:
    """Memory of cached results, and the time to import."""
    rows = footprint.megabytes
    columns = list(next(iter(rows.values())))
    yield from markdown_table(
        ("MB (10^6 bytes)", *columns),
        [(row, *(f"{each:.1f}" for each in figures.values())) for row, figures in rows.items()],
    )
    times = footprint.import_seconds
    yield (
        f"A process that imports `jwks_guard` takes {1e3 * times['jwks_guard']:.0f} ms, one that "
        f"imports `httpx` and `jwt` {1e3 * times['httpx + jwt']:.0f} ms, one that imports neither "
        f"{1e3 * times['bare']:.0f} ms. Less the latter, ours takes {footprint.import_ratio} times "
        "as long."
    )


def instruction_table(instructions: Instructions) -> Iterator[str]:
    """Instructions of every case, and against the first one."""
    calls = instructions.calls
    plain = next(iter(calls))
    yield from markdown_table(
        ("", "instructions for a call", f"/ {plain}"),
        [(case, f"{count:,}", f"{count / calls[plain]:.2f}") for case, count in calls.items()],
    )
