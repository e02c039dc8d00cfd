"""The few figures that stand first on the page, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report_costs import longest_in_a_fleet
from benchmarks.report_figures import Revocation, Speed
from benchmarks.revocation_tables import ACCEPTED_FOR, Findings
from benchmarks.speed_peers import Figures
from benchmarks.workers import OURS, OWN


def headline(figures: Mapping[str, Any]) -> str:
    """How long a revoked key is accepted, and what a new token costs; by us and by the others."""
    revoked = _revoked(figures["revocation"], longest_in_a_fleet(figures["fleet"]))
    return f"{revoked} {_verified(figures['speed'])}"


def _revoked(revocation: Revocation, in_a_fleet: str) -> str:
    fetching = [row for row in revocation.found if row.fetches]
    ours = next(row for row in fetching if row.name == OURS)
    others = sorted((row for row in fetching if row is not ours), key=_seconds)
    words = (
        f"After a call of `distrust`, a revoked key was accepted for at most {in_a_fleet}; without "
        f"that call for {ACCEPTED_FOR.shown(ours)}."
    )
    if not others:
        return words
    least, most = ACCEPTED_FOR.shown(others[0]), ACCEPTED_FOR.shown(others[-1])
    return f"{words} Other libraries accepted it for {least} to {most}."


def _seconds(row: Findings) -> float:
    """None is a key that is never refused."""
    seconds = row.untold.accepted_for
    return float("inf") if seconds is None else seconds


def _verified(speed: Speed) -> str:
    """Our row of the peers' table: the four figures are of the same runs."""
    by_name = {each.name: each for each in speed.peers}
    ours = by_name[OURS]
    others = sorted(
        (each for each in speed.peers if each.name not in OWN),
        key=lambda each: each.new_to_ours.median,
    )
    return (
        f"A new RS256 token is verified in {ours.new.microseconds:.0f} µs, where the signature "
        f"check alone takes {ours.bare.microseconds:.0f} µs (ratio {ours.new_to_bare.median:.2f}); "
        f"one seen before in {ours.again.microseconds:.1f} µs.{_beside(others)}"
    )


def _beside(others: Sequence[Figures]) -> str:
    """Who is ahead, and who is next; of the others the tables tell."""
    ahead = [each for each in others if each.new_to_ours.median < 1]
    behind = [each for each in others if each.new_to_ours.median >= 1]
    said = []
    if ahead:
        verb = "take" if len(ahead) > 1 else "takes"
        names = " and ".join(each.name for each in ahead)
        times = " and ".join(f"{each.new_to_ours.median:.2f}" for each in ahead)
        said.append(f"{names} {verb} {times} of our time")
    if behind:
        said.append(f"{behind[0].name} takes {behind[0].new_to_ours.median:.1f} times as long")
    return f" For a new one, {'; '.join(said)}." if said else ""
