"""What the benchmarks left in `.bench/results`, read for the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.revocation_tables import Findings
from benchmarks.rounds import Ratio, Row
from benchmarks.speed_peers import Figures
from benchmarks.speed_threads import Waiting


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
class Revocation:
    """Of `benchmarks.revocation`; `unavailable` says why a consumer was not measured."""

    found: list[Findings]
    unavailable: dict[str, str]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Of `benchmarks.fleet`, one way to run processes; times in seconds."""

    revocations: int
    median: float
    worst: float
    requests: int
    requests_per_second: int
    gap: float
    refused_valid: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of one app under load; ratios are to the unguarded app and to the one that does nothing.

    `cpu` is the server's processor time for a request in microseconds; p50 and p99 are in
    milliseconds.
    """

    framework: str
    name: str
    version: str
    rate: float
    rate_ratio: Ratio
    floor: str | None
    floor_ratio: Ratio | None
    cpu: float
    cpu_ratio: Ratio
    p50: float
    p99: float
    failed: int


@dataclass(frozen=True, slots=True)
class Flooded:
    """Legitimate requests to one app in a flood of forged tokens; times in milliseconds."""

    framework: str
    name: str
    version: str
    calm_p99: float
    p99: float
    p99_ratio: Ratio
    longest: float
    failed: int
    fetches: list[int]


@dataclass(frozen=True, slots=True)
class HTTP:
    """Of `benchmarks.over_http`; `cores` says whether server and load had a core each."""

    cores: str
    throughput: list[Throughput]
    flood: list[Flooded]
    not_measured: dict[str, str]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of `benchmarks.footprint`: megabytes by row and column, seconds by what is imported."""

    megabytes: dict[str, dict[str, float]]
    import_seconds: dict[str, float]
    import_ratio: Ratio


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of `benchmarks.instructions`: instructions per call by case."""

    calls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The command that prints it, its module, how long that takes, and the form of its figures."""

    command: str
    module: str
    minutes: float
    form: Any


BENCHMARKS = {
    "speed": Benchmark("make bench", "benchmarks.speed", 4, Speed),
    "revocation": Benchmark("make bench-revocation", "benchmarks.revocation", 2, Revocation),
    "fleet": Benchmark("make bench-fleet", "benchmarks.fleet", 1.5, dict[str, Fleet]),
    "http": Benchmark("make bench-http", "benchmarks.over_http", 7, HTTP),
    "footprint": Benchmark("make bench-footprint", "benchmarks.footprint", 1, Footprint),
    "instructions": Benchmark("make instructions", "benchmarks.instructions", 0.5, Instructions),
}
"""What the report is made of. Minutes are those of a quiet machine of two cores."""


class ResultsError(Exception):
    """Results that are missing or can't be read, and the command that makes them."""


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's figures, in its own form, and what they were measured on."""

    name: str
    machine: dict[str, str]
    figures: Any

    @property
    def python(self) -> str:
        """The Python that ran it."""
        return self.machine["python"]

    @property
    def printed_by(self) -> str:
        """The command that prints these figures, and when and on what it did."""
        facts = [
            value if name in SELF_EXPLANATORY else f"{name} {value}"
            for name, value in self.machine.items()
            if name != "date"
        ]
        command, date = BENCHMARKS[self.name].command, self.machine["date"]
        return f"Printed by `{command}` on {date}: {', '.join(facts)}."


SELF_EXPLANATORY = ("processor", "system", "python")


def read(folder: Path, name: str) -> Result:
    """One benchmark's results. Raises ResultsError."""
    path = folder / f"{name}.json"
    if not path.exists():
        raise ResultsError(_remedy(name, "is missing"))
    kept = json.loads(path.read_bytes())
    try:
        figures = msgspec.convert(kept["figures"], BENCHMARKS[name].form)
    except msgspec.ValidationError as error:
        raise ResultsError(_remedy(name, f"has another form ({error})")) from None
    return Result(name, kept["machine"], figures)


def _remedy(name: str, fault: str) -> str:
    return f"{name}.json {fault}: {BENCHMARKS[name].command}"
