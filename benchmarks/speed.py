"""`make bench`: what verifying a token takes, against the bare signature check and the peers.

Everything is a ratio of things that were run alternately, and the median over runs. Nothing here
fails because a figure is bad: it is there to be read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks import speed_ours
from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.rounds import Row
from benchmarks.speed_peers import RUNS, Figures, against_peers, faster
from benchmarks.speed_threads import Waiting, threads_during_a_fetch
from benchmarks.tenants import access_token, loopback_tenant
from benchmarks.workers import OURS


def main() -> None:
    began = time.perf_counter()
    with loopback_tenant() as (tenant, _):
        size = len(access_token(tenant))
    print(heading())
    print(f"RS256, 2048 bits, an access token of {size} bytes\n")
    peers, unavailable = against_peers()
    print_peers(peers, unavailable)
    ours = speed_ours.rs256()
    print_rows(ours)
    others = speed_ours.other_algorithms()
    print_rows(others)
    waiting = threads_during_a_fetch()
    print_waiting(waiting)
    save(
        "speed",
        {
            "token_bytes": size,
            "ours": [asdict(row) for row in ours],
            "other_algorithms": [asdict(row) for row in others],
            "threads": asdict(waiting),
            "peers": [asdict(figures) for figures in peers],
            "unavailable": unavailable,
        },
    )
    print(f"\n{time.perf_counter() - began:.0f} s")


def print_rows(rows: Sequence[Row]) -> None:
    print(
        f"our calls; ratios: medians over {speed_ours.RUNS} runs with the lowest and the highest,"
    )
    print("by the clock and by the processor's time; microseconds: median, least, processor")
    print(f"{'':<42}{'ratio':>20}{'processor':>20}{'us':>8}{'least':>8}{'cpu':>8}  ratio to")
    for row in rows:
        time = row.time
        print(
            f"{row.case:<42}{row.ratio!s:>20}{row.cpu_ratio!s:>20}{time.microseconds:8.2f}"
            f"{time.least:8.2f}{time.cpu:8.2f}  {row.against}"
        )
    print()


def print_waiting(waiting: Waiting) -> None:
    print(
        f"{waiting.threads} threads, while a token of an unknown kid waited"
        f" {waiting.fetch_milliseconds:.0f} ms for its fetch: {waiting.verifications:.0f}"
        f" verifications (cache off), the slowest took {waiting.slowest_milliseconds:.1f} ms;"
        f" without a fetch {waiting.slowest_otherwise_milliseconds:.1f} ms\n"
    )


def print_peers(peers: Sequence[Figures], unavailable: Mapping[str, str]) -> None:
    print("for a token, each consumer in a process of its own, all in turn; ratios: medians over")
    print(f"{RUNS} runs with the lowest and highest of them: to ours by the clock and by the")
    print("processor's time, for a token seen before (`again`), and to the bare check over there")
    print(
        f"{'':<17}{'new, to ours':>21}{'processor':>21}{'again, to ours':>24}{'new, to bare':>21}"
        f"{'new us':>8}{'least':>8}{'cpu':>8}{'again':>8}{'bare':>7}"
    )
    for each in peers:
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        print(
            f"{each.name:<17}{each.new_to_ours!s:>21}{each.cpu_to_ours!s:>21}"
            f"{each.again_to_ours!s:>24}{each.new_to_bare!s:>21}"
            f"{each.new.microseconds:8.1f}{each.new.least:8.1f}{each.new.cpu:8.1f}"
            f"{each.again.microseconds:8.2f}{each.bare.microseconds:7.1f}  {versions}"
        )
    for name, reason in unavailable.items():
        print(f"{name:<17}not measured: {reason}")
    for case, names in faster(peers).items():
        for name, ratio in names.items():
            print(f"{name} is faster than {OURS} for a {case}: {ratio} of its time")
    print()


if __name__ == "__main__":
    main()
