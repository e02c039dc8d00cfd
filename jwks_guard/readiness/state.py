"""What one process shows of itself, and how a whole fleet's answers are held."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from jwks_guard.readiness.usage import KeyUsage

LIVE_SECONDS = 10.0
"""An instance that was silent for longer was killed, is cut off, or stands still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """What one process shows of itself for one issuer; instants in seconds since the epoch.

    Arguments:
        instance: a random id of the process.
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

    @property
    def name(self) -> str:
        """The instance as messages name it."""
        return f"{self.host} ({self.instance[:8]})"

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
