"""What becomes of a revoked key at its consumers, and what a bad hour of the issuer costs them.

`make bench-revocation` runs this library and each peer with its defaults, in a process of its own,
against a local tenant over HTTP. Time is virtual: the clock of a consumer's process is turned, so
that a day passes in seconds. Whether that reaches the consumer's cache is measured as well.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

from benchmarks.machine import heading
from benchmarks.results import save
from benchmarks.revocation_scenarios import (
    FLOOD,
    QUIET,
    flood,
    refetches_after,
    revocation,
    rotation,
    trickle,
    worst_outage,
)
from benchmarks.revocation_stage import Stage, staged
from benchmarks.revocation_tables import LIFETIMES, TABLES, Findings, text, versions
from benchmarks.workers import OURS, PEERS, PeerError, PeerUnavailableError, Worker


def examined(name: str) -> Findings | str:
    """What was found out about this consumer, or why it can't be measured here."""
    began = time.perf_counter()
    try:
        with Worker(name, virtual_clock=True) as worker, staged(worker) as stage:
            return findings(name, stage)
    except (PeerUnavailableError, PeerError, AssertionError) as error:
        if name == OURS:
            raise
        return str(error).removeprefix(f"{name}: ")
    finally:
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def findings(name: str, stage: Stage) -> Findings:
    """Every scenario on this stage."""
    in_use = stage.open()
    refetches = refetches_after(stage)
    return Findings(
        name=name,
        versions=in_use,
        refetches=refetches,
        untold=revocation(stage),
        told=revocation(stage, told=True) if name == OURS else None,
        floods={
            "healthy, at once": flood(stage, outage=False),
            "healthy, a minute": trickle(stage, outage=False),
            "outage, at once": flood(stage, outage=True),
            "outage, a minute": trickle(stage, outage=True),
        },
        outage=worst_outage(stage, refetches),
        rotations={
            "usually": rotation(stage, quiet=QUIET),
            "just after a fetch": rotation(stage, lookups=1),
            "after the flood": rotation(stage, quiet=QUIET, lookups=FLOOD),
        },
    )


def keep_their_word(ours: Findings) -> None:
    """Assert what the README promises, as far as it can be seen here."""
    assert ours.told is not None
    assert round(ours.told.accepted_for or 0.0) == 0, "a distrusted key was accepted"
    assert ours.told.back_for == 0.0, "a distrusted key came back"
    assert ours.told.back_after is None, "a distrusted key came back"
    assert (ours.untold.accepted_for or 0.0) <= 66.0, "past refresh_interval and its deadline"
    assert ours.untold.back_for == 0.0, "an older set was taken"
    assert ours.floods["outage, at once"].fetches <= 6, "past the budget for unknown kids"
    assert ours.outage.refused == 0, "a known key inside its bound was refused"
    assert all(until is not None and until <= 13.0 for until in ours.rotations.values())


def main() -> None:
    unread = {OURS, *PEERS} - LIFETIMES.keys()
    assert not unread, f"read these sources first, and note it in LIFETIMES: {sorted(unread)}"
    print(heading())
    examinations = {name: examined(name) for name in (OURS, *PEERS)}
    unavailable = {name: why for name, why in examinations.items() if isinstance(why, str)}
    rows = [found for found in examinations.values() if isinstance(found, Findings)]
    print(versions(rows))
    for table in TABLES:
        print("\n".join(text(table, rows, OURS)))
    for name, why in unavailable.items():
        print(f"\nnot measured: {name}: {why}")
    save("revocation", {"found": [asdict(row) for row in rows], "unavailable": unavailable})
    keep_their_word(next(row for row in rows if row.name == OURS))


if __name__ == "__main__":
    main()
