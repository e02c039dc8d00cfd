"""The line of the log that says what a key store was started with."""

from __future__ import annotations

from jwks_guard.base.events import Events
from jwks_guard.keys.fleet import Fleet
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.snapshot import Snapshot

MOST_KIDS = 10
"""A key set may have thousands: more than these are counted only."""


def introduce(
    events: Events,
    health: HealthReport,
    fleet: Fleet | None,
    snapshot: Snapshot | None,
    *,
    lazy: bool,
) -> None:
    """Log the keys of a store that has started, both bounds, and what it shares decisions with."""
    copies = None if fleet is None else type(fleet).__name__  # its repr has addresses
    journal = None if snapshot is None else str(snapshot.journal_path)
    parts = (
        _keys(health),
        f"trust bound {health.trust_bound:g} s, detection bound {health.detection_bound:g} s",
        None if copies is None else f"fleet {copies}",
        None if journal is None else f"journal {journal}",
        "requests refresh the keys" if lazy else None,
    )
    events.log(
        "started",
        "; ".join(filter(None, parts)),
        kids=list(health.kids[:MOST_KIDS]),
        keys=len(health.kids),
        trust_bound=health.trust_bound,
        detection_bound=health.detection_bound,
        fleet=copies,
        journal=journal,
    )


def _keys(health: HealthReport) -> str:
    """The trusted keys, or why there are none, in words."""
    unusable = f", {len(health.skipped)} more can't be used" if health.skipped else ""
    if not health.kids:
        why = health.last_error or "those that the issuer publishes are distrusted"
        return f"no keys yet: {why}{unusable}"
    count = len(health.kids)
    shown = ", ".join(map(repr, health.kids[:MOST_KIDS]))
    rest = f" and {count - MOST_KIDS} more" if count > MOST_KIDS else ""
    return f"{count} {'key' if count == 1 else 'keys'}: {shown}{rest}{unusable}"
