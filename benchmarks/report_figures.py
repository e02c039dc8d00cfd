"""What the benchmarks left in `.bench/results`, read for the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.revocation_tables import Findings
from benchmarks.rounds import Row
from benchmarks.speed_peers import Figures
from benchmarks.speed_threads import Waiting

COMMANDS = {
    "speed": "make bench",
    "revocation": "make bench-revocation",
    "http": "make bench-http",
    "footprint": "make bench-footprint",
    "instructions": "make instructions",
}
"""The results that a report needs, and what leaves them."""

T = TypeVar("T")


class ResultsError(Exception):
    """Results that are missing or can't be read, and the commands that make them."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of `benchmarks.speed`."""

    token_bytes: int
    ours: list[Row]
    other_algorithms: list[Row]
    threads: Waiting
    peers: list[Figures]
    unavailable: dict[str, str]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of one app under load; p50 and p99 in milliseconds."""

    framework: str
    name: str
    version: str
    target: float | None
    rate: float
    rate_ratio: float
    p50: float
    p99: float
    failed: int


@dataclass(frozen=True, slots=True)
class Flooded:
    """Legitimate requests to one app in a flood of forged tokens; times in milliseconds."""

    framework: str
    name: str
    calm_p99: float
    p99: float
    failed: int
    fetches: list[int]


@dataclass(frozen=True, slots=True)
class HTTP:
    """Of `benchmarks.over_http`."""

    throughput: list[Throughput]
    flood: list[Flooded]
    not_measured: dict[str, str]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of `benchmarks.footprint`: megabytes by row and column, seconds by what is imported."""

    megabytes: dict[str, dict[str, float]]
    import_seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of `benchmarks.instructions`: instructions per call by case."""

    calls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Results:
    """All of it. `machines` says by benchmark what it ran on."""

    machines: dict[str, dict[str, str]]
    speed: Speed
    revocation: list[Findings]
    unexamined: dict[str, str]
    """Consumers that `benchmarks.revocation` could not measure, and why."""
    http: HTTP
    footprint: Footprint
    calls: dict[str, int]


def read(folder: Path) -> Results:
    """The results in `folder`. Raises ResultsError, which names every file that is missing."""
    missing = [name for name in COMMANDS if not (folder / f"{name}.json").exists()]
    if missing:
        raise ResultsError("\n".join(_remedy(name, "is missing") for name in missing))
    kept = {name: json.loads((folder / f"{name}.json").read_bytes()) for name in COMMANDS}
    figures = {name: each["figures"] for name, each in kept.items()}
    examined = figures["revocation"]
    reasons = {name: each.get("unavailable") for name, each in examined.items()}
    found = [each for name, each in examined.items() if not reasons[name]]
    return Results(
        machines={name: each["machine"] for name, each in kept.items()},
        speed=_typed("speed", figures["speed"], Speed),
        revocation=[_typed("revocation", each, Findings) for each in found],
        unexamined={name: reason for name, reason in reasons.items() if reason},
        http=_typed("http", figures["http"], HTTP),
        footprint=_typed("footprint", figures["footprint"], Footprint),
        calls=_typed("instructions", figures["instructions"], Instructions).calls,
    )


def _typed(name: str, figures: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(figures, kind)
    except msgspec.ValidationError as error:
        raise ResultsError(_remedy(name, f"has another form ({error})")) from None


def _remedy(name: str, fault: str) -> str:
    return f"{name}.json {fault}: {COMMANDS[name]}"
