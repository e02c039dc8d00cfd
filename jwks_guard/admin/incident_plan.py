"""What an incident will do, before it is begun (pure)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import (
    Instances,
    Plan,
    emergency_plan,
    refusal_plan,
    revocation_plan,
)

REFUSED_FIRST = (
    "Every instance refuses the key before the rotation. From then on every valid token is "
    "refused, until the tenant has rotated and clients have got new ones."
)
_NEXT = (
    "It is the tenant's next key, which can't be revoked and has signed no token yet. Afterwards "
    "rotate twice, and revoke it: the first rotation makes it current, and its tokens are refused."
)
_UNKNOWN = "The tenant does not know this key: compare the kid with the header of a token."


def incident_plan(
    tenant: str,
    kid: str,
    keys: SigningKeys,
    lifetime: timedelta | None,
    now: datetime,
    instances: Instances | None = None,
    *,
    refuse_first: bool = False,
) -> Plan:
    """The plan of an Incident with the Management API of `tenant`, which lists `keys`.

    `lifetime` is that of access tokens; None: unknown. `instances`: None without a fleet. Raises
    ManagementAPIError where it is not clear which key is current.
    """
    key = keys.get(kid)
    if key is None or key.next:
        return refusal_plan(tenant, kid, _UNKNOWN if key is None else _NEXT, instances)
    if not key.current:
        return revocation_plan(tenant, key, lifetime, now, instances)
    plan = emergency_plan(tenant, keys, now, instances)
    first = (REFUSED_FIRST,) if refuse_first else ()
    return replace(plan, consequences=(*first, *plan.consequences))
