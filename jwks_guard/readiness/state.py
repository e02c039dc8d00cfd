"""What one process shows of itself, and how a whole fleet's answers are held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from jwks_guard.readiness.usage import KeyUsage, most

LIVE_SECONDS = 10.0
"""An instance that was silent for longer was killed, is cut off, or stands still."""
_BEST_FIRST = ("ok", "degraded", "unavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """What one process shows of itself for one issuer; instants in seconds since the epoch.

    Arguments:
        instance: a random id of the process; empty for one that was never heard of.
        host: where it runs, for people.
        issuer: whose keys.
        started_at: when it began to count.
        reported_at: when it showed this; 0 for one that was never heard of.
        status: as in HealthReport.
        confirmed_at: when the issuer last confirmed the keys that it holds.
        trusted_until: when trust in them ends.
        kids: the kids that it trusts.
        refused: the kids that it refuses, and since when.
        usage: what became of the tokens, by kid.
        last_error: why it is not ok.
        version: the version of this library; None where that is not known.

    """

    instance: str
    host: str
    issuer: str
    started_at: float
    reported_at: float
    status: Literal["ok", "degraded", "unavailable"]
    confirmed_at: float | None
    trusted_until: float | None
    kids: tuple[str, ...]
    refused: dict[str, float] = field(default_factory=dict)
    usage: dict[str, KeyUsage] = field(default_factory=dict)
    last_error: str | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        """The instance as messages name it."""
        return f"{self.host} ({self.instance[:8]})" if self.instance else self.host

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-compatible data."""
        return {**asdict(self), "kids": list(self.kids)}


@dataclass(frozen=True, slots=True)
class Observed:
    """What instances show: their states, and of a kid what any of them ever accepted.

    That is the latest `exp`, in seconds since the epoch, and the longest lifetime, in seconds.
    """

    states: tuple[InstanceState, ...]
    latest_expiry: float | None = None
    longest_lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Whether `who` refuses a revoked key: `since` when, or the `error` of telling it.

    Both: it does refuse the key, but could not store or share that.
    """

    who: str
    since: datetime | None
    error: str | None = None


def combined(states: Sequence[InstanceState]) -> InstanceState:
    """One state for several stores that a process has for one issuer: the worst of each.

    What all of them trust is trusted and what all of them refuse is refused. Each shows what the
    whole process has counted.
    """
    if len(states) == 1:
        return states[0]
    refused = frozenset.intersection(*(frozenset(state.refused) for state in states))
    confirmed = [state.confirmed_at for state in states]
    until = [state.trusted_until for state in states]
    kids = frozenset.intersection(*(frozenset(state.kids) for state in states))
    return replace(
        states[0],
        started_at=max(state.started_at for state in states),
        reported_at=min(state.reported_at for state in states),
        status=max((state.status for state in states), key=_BEST_FIRST.index),
        confirmed_at=None if None in confirmed else min(at for at in confirmed if at is not None),
        trusted_until=None if None in until else min(at for at in until if at is not None),
        kids=tuple(kid for kid in states[0].kids if kid in kids),
        refused={kid: max(state.refused[kid] for state in states) for kid in refused},
        usage=dict(most(state.usage for state in states)),
        last_error=next((state.last_error for state in states if state.last_error), None),
    )
