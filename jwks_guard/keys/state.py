"""What this process shows of its key stores of one issuer."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

from jwks_guard.keys.fleet import Member
from jwks_guard.keys.store import KeyStore
from jwks_guard.readiness.state import InstanceState, combined
from jwks_guard.readiness.usage import total

MAX_REFUSED = 1000
MAX_ERROR_CHARS = 500


def state_of(members: Sequence[Member], now: float) -> InstanceState:
    """What this process shows at `now`, in seconds since the epoch, of its stores of one issuer.

    Tokens count wherever in the process they were accepted: at every open store of the issuer.
    """
    state = combined([_alone(member, now) for member in members])
    followers = members[0].register.followers
    others = [
        each
        for each in followers
        if isinstance(each, KeyStore)
        and each.issuer == state.issuer
        and not each.trust.closed
        and not any(each is member for member in members)
    ]
    return replace(state, usage=dict(total(each.usage() for each in (*members, *others))))


def _alone(member: Member, now: float) -> InstanceState:
    health = member.health()
    latest = islice(reversed(member.refused_since.items()), MAX_REFUSED)
    return InstanceState(
        instance=member.register.instance,
        host=f"{socket.gethostname()}:{os.getpid()}",
        issuer=member.issuer,
        started_at=member.since,
        reported_at=now,
        status=health.status,
        confirmed_at=health.confirmed_at,
        trusted_until=health.trusted_until,
        kids=health.kids,
        refused=dict(latest),
        last_error=_shortened(health.last_error),
        version=_version(),
    )


@cache
def _version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow, and not needed to verify

    try:
        return version("jwks-guard")
    except PackageNotFoundError:  # it runs from a plain copy of its files
        return None


def _shortened(error: str | None) -> str | None:
    """As others take it: printable, and not too long."""
    if error is None:
        return None
    return "".join(c if c.isprintable() else " " for c in error)[:MAX_ERROR_CHARS]
