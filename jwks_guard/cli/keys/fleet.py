"""What the fleet shows before a change of keys, and why a key is not ready."""

from __future__ import annotations

import math
import shlex
import time

from jwks_guard.admin import RevocationReadiness
from jwks_guard.admin.plans import Instances
from jwks_guard.cli.keys.session import UNREACHABLE, Session
from jwks_guard.errors import RevocationRefusedError
from jwks_guard.fleet.commands import live
from jwks_guard.fleet.settings import ConfiguredFleet

_LONGEST_WAIT_MINUTES = 24 * 60
_IN_HOURS = 120  # minutes


def instances_of(session: Session, kid: str) -> Instances | None:
    """The instances that report; None without a fleet."""
    if session.fleet is None:
        return None
    return session.run(_instances(session.fleet, kid))


async def _instances(fleet: ConfiguredFleet, kid: str) -> Instances:
    try:
        observed = await fleet.observe(kid)
    except UNREACHABLE as error:
        return Instances(error=str(error))
    return Instances(live(observed.states, time.time()))


def refusal(readiness: RevocationReadiness) -> RevocationRefusedError:
    """The error for a key that is not ready, in the words of this command."""
    error = RevocationRefusedError(f"{readiness.kid} is not ready to be revoked. Nothing was done.")
    error.kid, error.report = readiness.kid, readiness
    for blocker in readiness.blockers:
        error.add_note(f"  - {blocker.message}")
    error.add_note(
        f"{_waiting(readiness)}--force with a --reason revokes it anyway; --emergency is for a key "
        "that has leaked."
    )
    return error


def _waiting(readiness: RevocationReadiness) -> str:
    """The command that waits until the key is ready; empty if waiting does not help."""
    if any(blocker.lasts for blocker in readiness.blockers):
        return ""
    ends = [blocker.until for blocker in readiness.blockers if blocker.until is not None]
    minutes = math.ceil(max(0.0, max(ends, default=0.0) - readiness.assessed_at) / 60.0)
    if minutes > _LONGEST_WAIT_MINUTES:
        return ""
    minutes = max(30, minutes)
    time = f"{minutes}m" if minutes < _IN_HOURS else f"{math.ceil(minutes / 60)}h"
    waiting = ["jwks-guard", "can-revoke", "--wait", time, "--", readiness.kid]
    return f"`{shlex.join(waiting)}` waits for that. "
