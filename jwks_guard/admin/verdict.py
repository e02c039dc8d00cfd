"""The verdict on revoking a key: its settings, its facts, and the error for a "no"."""

from __future__ import annotations

from datetime import datetime, timedelta

from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.base.arguments import require_count
from jwks_guard.errors import ConfigurationError, RevocationRefusedError
from jwks_guard.readiness.verdict import Blocker, KeyFacts, ReadinessSettings, RevocationReadiness


def settings_of(
    token_lifetime: timedelta | None, quiet_period: timedelta, expected_instances: int
) -> ReadinessSettings:
    """The settings; raises ConfigurationError."""
    require_count("expected_instances", expected_instances, minimum=1)
    return ReadinessSettings(
        token_lifetime=None
        if token_lifetime is None
        else _seconds("token_lifetime", token_lifetime),
        quiet_period=_seconds("quiet_period", quiet_period),
        expected_instances=expected_instances,
    )


def facts_of(key: SigningKey, keys: SigningKeys) -> KeyFacts:
    """The tenant's facts about `key`; raises ManagementAPIError if no key is current."""
    current = keys.current
    return KeyFacts(
        kid=key.kid,
        state=key.state,
        # Without a date: it stopped signing before the current key began, or just then.
        current_until=_timestamp(
            key.current_until or (current.current_since if key.state == "previously used" else None)
        ),
        current_kid=current.kid,
        current_since=_timestamp(current.current_since),
    )


def unanswered(kid: str, error: Exception, now: float) -> RevocationReadiness:
    """The verdict on `kid` if the fleet does not answer."""
    blocker = Blocker(code="fleet_unreachable", verdict="unknown", message=str(error))
    return RevocationReadiness(
        kid=kid,
        verdict="unknown",
        assessed_at=now,
        earliest_safe_time=None,
        blockers=(blocker,),
        instances=(),
    )


def not_ready(readiness: RevocationReadiness) -> RevocationRefusedError:
    """The error for revoking a key that is not ready."""
    refusal = RevocationRefusedError(
        f"{readiness.kid} is not ready to be revoked ({readiness.verdict}): "
        f"{blockers_of(readiness)} Nothing was done. Wait until that has passed; force=True, with "
        "a reason, revokes it anyway, and emergency=True is for a key that has leaked."
    )
    refusal.kid, refusal.report = readiness.kid, readiness
    return refusal


def blockers_of(readiness: RevocationReadiness) -> str:
    """The messages of its blockers, as one text."""
    return " ".join(blocker.message for blocker in readiness.blockers)


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ConfigurationError(f"{name} must be a timedelta above 0.")
    return value.total_seconds()


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
