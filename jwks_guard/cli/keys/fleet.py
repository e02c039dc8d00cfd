"""What a change of keys means for the fleet, told before it is done."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass

from jwks_guard.admin import RevocationReadiness
from jwks_guard.cli.fleet.configuration import Fleet
from jwks_guard.cli.keys.session import UNREACHABLE, Session
from jwks_guard.errors import RevocationRefusedError
from jwks_guard.fleet.commands import live
from jwks_guard.readiness.state import InstanceState

_LONGEST_WAIT_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a fleet that report; `error` where it could not be asked."""

    states: tuple[InstanceState, ...] = ()
    error: str | None = None

    def before_rotation(self, following: str) -> str:
        """Whether they are ready for a rotation that makes the key `following` current."""
        without = [state.name for state in self.states if following not in state.kids]
        if self.error is not None or not self.states:
            return f"{self.number} Without any that trusts the next key, this is refused."
        if not without:
            return f"{self.number} All of them trust the next key, {following}."
        return (
            f"{self.number} Not all of them trust the next key, {following}, yet: "
            f"{', '.join(without)}. They are asked to refresh; where one still lacks it then, "
            "nothing is done."
        )

    def before_revocation(self, *, emergency: bool) -> str:
        """When they are told to refuse the key."""
        when = "before the tenant" if emergency else "once the tenant has revoked it"
        return f"{self.number} The fleet is told to refuse the key {when}."

    @property
    def number(self) -> str:
        """How many there are, in words."""
        if self.error is not None:
            return f"It is not known which instances report: {self.error}"
        many = len(self.states)
        return f"{many or 'No'} instance{'s report' if many > 1 else ' reports'}."


def instances_of(session: Session, kid: str) -> Instances | None:
    """What the fleet shows of itself; None where none is configured."""
    if session.fleet is None:
        return None
    return session.run(_instances(session.fleet, kid))


async def _instances(fleet: Fleet, kid: str) -> Instances:
    try:
        observed = await fleet.observe(kid)
    except UNREACHABLE as error:
        return Instances(error=str(error))
    return Instances(live(observed.states, time.time()))


def refusal(readiness: RevocationReadiness) -> RevocationRefusedError:
    """The error for a key that is not ready, in the words of this command."""
    error = RevocationRefusedError(
        f"{readiness.kid} is not ready to be revoked ({readiness.verdict}). Nothing was done."
    )
    error.kid, error.report = readiness.kid, readiness
    for blocker in readiness.blockers:
        error.add_note(f"  - {blocker.message}")
    error.add_note(
        f"{_waiting(readiness)}--force with a --reason does it all the same; --emergency is for a "
        "key that has leaked."
    )
    return error


def _waiting(readiness: RevocationReadiness) -> str:
    """How to wait until nothing speaks against it; nothing where waiting does not help."""
    if any(blocker.lasts for blocker in readiness.blockers):
        return ""
    ends = [blocker.until for blocker in readiness.blockers if blocker.until is not None]
    minutes = math.ceil(max(0.0, max(ends, default=0.0) - readiness.assessed_at) / 60.0)
    if minutes > _LONGEST_WAIT_MINUTES:
        return ""
    waiting = ["jwks-guard", "can-revoke", "--wait", f"{max(30, minutes)}m", "--", readiness.kid]
    return f"`{shlex.join(waiting)}` waits for that. "
