"""What a change of a tenant's keys will do, before it is done (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from jwks_guard.admin.journal import Intent
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.receipts import certificates_of, last_expiry
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER
from jwks_guard.readiness.verdict import RevocationReadiness

_NO_FLEET_DISTRUSTS = (
    "No fleet is configured: each verifier refuses the key once it notices the revocation, within "
    "its detection bound, or at once where you call `distrust` on it."
)
_NO_FLEET_HOLDS = (
    "No fleet is configured, so nothing checks whether verifiers hold the next key. Those that "
    "refresh have held it since it became the next one."
)
_IN_USE = "They are the tokens that are in use now: every client has to get a new one."
_OTHERS = "ID tokens and Management API tokens that it signed are refused too."
_IF_CURRENT = (
    "If it is the current key, no valid token is left: clients get none that is accepted until the "
    "tenant has rotated."
)
FINAL = "A revocation can't be undone."


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a fleet that report; `error` where it could not be asked."""

    states: tuple[InstanceState, ...] = ()
    error: str | None = None

    def before_rotation(self, following: str) -> str:
        """Whether they are ready for a rotation that makes `following` current, in words."""
        without = [state.name for state in self.states if following not in state.kids]
        if self.error is not None:
            return f"The fleet can't be asked, so the rotation is refused. {self.error}"
        if not self.states:
            return f"{self.number} The rotation is refused until one does and trusts the next key."
        if not without:
            return f"{self.number} All of them trust the next key, {following}."
        return (
            f"{self.number} Not all of them trust the next key, {following}, yet: "
            f"{', '.join(without)}. Each refreshes first; if one still lacks the key then, nothing "
            "is done."
        )

    def before_revocation(self, *, emergency: bool) -> str:
        """When they refuse the key, in words."""
        when = "before the tenant revokes it" if emergency else "once the tenant has revoked it"
        if self.error is not None:
            return (
                f"The fleet can't be asked which instances report. {self.error} The decision "
                f"is sent {when}, if it can be reached then; else repeat the command."
            )
        return f"{self.number} The fleet refuses the key {when}."

    @property
    def number(self) -> str:
        """How many report, in words."""
        many = len(self.states)
        return f"{many or 'No'} instance{'s report' if many > 1 else ' reports'}."


@dataclass(frozen=True, slots=True)
class Move:
    """A key that changes its state; `kid` is None for a key that does not exist yet."""

    kid: str | None
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will happen at `tenant`, and what follows from it.

    `certificates`: where SAML and WS-Fed parties find the new certificate, by kind, if there will
    be one. `question` asks for consent; empty where nothing will be changed.
    """

    title: str
    tenant: str
    moves: tuple[Move, ...]
    consequences: tuple[str, ...]
    certificates: Mapping[str, str] = field(default_factory=dict)
    question: str = ""

    def after(self, unfinished: Iterable[Intent]) -> Plan:
        """The plan with the `unfinished` operations of an earlier run, which come first."""
        first = dict.fromkeys(
            f"First, an operation that an earlier run began is finished: to "
            f"{each.action.replace('_', ' ')} {each.kid}."
            for each in unfinished
        )
        return replace(self, consequences=(*first, *self.consequences))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-compatible data."""
        return {
            "tenant": self.tenant,
            "plan": self.title,
            "moves": [asdict(move) for move in self.moves],
            "consequences": list(self.consequences),
            "certificates": dict(self.certificates),
        }


def rotation_plan(
    tenant: str,
    keys: SigningKeys,
    lifetime: timedelta | None,
    now: datetime,
    instances: Instances | None = None,
) -> Plan:
    """The plan of a rotation of `keys` at `now`.

    `lifetime` is that of access tokens; None: unknown. `instances`: None without a fleet.
    """
    current, following = keys.current, keys.next
    last = f", the last ones no sooner than {_utc(now + lifetime)}," if lifetime else ""
    return Plan(
        title="Rotate the signing keys",
        tenant=tenant,
        moves=(
            Move(current.kid, "current", "previously used"),
            Move(following.kid, "next", "current"),
            Move(None, "", "next"),
        ),
        consequences=(
            (
                f"New tokens are signed by {following.kid}. Those of {current.kid} stay valid "
                f"until they expire{last} or until it is revoked."
            ),
            instances.before_rotation(following.kid) if instances else _NO_FLEET_HOLDS,
            _of_certificates(following.kid),
        ),
        certificates=certificates_of(tenant),
        question="Rotate now?",
    )


def revocation_plan(
    tenant: str,
    key: SigningKey,
    lifetime: timedelta | None,
    now: datetime,
    instances: Instances | None = None,
    readiness: RevocationReadiness | None = None,
) -> Plan:
    """The plan of a revocation of a previously used key, or of one that is revoked already.

    Without `readiness` it is an emergency, or there is nothing to do.
    """
    if key.revoked:
        return Plan(
            title="Look whether a revoked key has left the JWKS",
            tenant=tenant,
            moves=(),
            consequences=(
                f"{key.kid} is revoked already; nothing is changed at the tenant.",
                "The decision to refuse it is sent to the fleet again."
                if instances
                else _NO_FLEET_DISTRUSTS,
            ),
        )
    return Plan(
        title="Revoke a signing key",
        tenant=tenant,
        moves=(Move(key.kid, "previously used", "revoked"),),
        consequences=(
            _OTHERS if readiness and readiness.verdict == "yes" else _of_tokens(key.kid),
            _of_expiry(key, lifetime, readiness, now),
            *readiness_in_words(readiness),
            _of_fleet(instances, emergency=readiness is None),
            FINAL,
        ),
        question="Revoke it now?",
    )


def emergency_plan(
    tenant: str, keys: SigningKeys, now: datetime, instances: Instances | None = None
) -> Plan:
    """The plan of a rotation and the revocation of the key that was current until then."""
    rotation = rotation_plan(tenant, keys, None, now)
    leaked, *others = rotation.moves
    return replace(
        rotation,
        title="Rotate the signing keys and revoke the current one",
        moves=(Move(leaked.kid, "current", "revoked"), *others),
        consequences=(
            f"{_of_tokens(leaked.kid or '')} {_IN_USE}",
            _of_fleet(instances, emergency=True),
            FINAL,
            rotation.consequences[-1],
        ),
        question="Rotate and revoke now?",
    )


def refusal_plan(issuer: str, kid: str, why: str, instances: Instances | None = None) -> Plan:
    """The plan of an emergency in which nothing but refusing the key is possible; `why` it is."""
    return Plan(
        title="Refuse a leaked key everywhere",
        tenant=issuer,
        moves=(),
        consequences=(
            why,
            f"{_of_tokens(kid)} {_IF_CURRENT}",
            instances.number if instances and instances.error is None else _NO_FLEET_DISTRUSTS,
            "If it was a mistake, reinstate the key: `jwks-guard reinstate`, or in the console.",
        ),
        question="Refuse it now?",
    )


def _of_tokens(kid: str) -> str:
    return (
        f"Every token that {kid} signed is refused, also before it expires; ID tokens and "
        "Management API tokens are among them."
    )


def _of_fleet(instances: Instances | None, *, emergency: bool) -> str:
    return instances.before_revocation(emergency=emergency) if instances else _NO_FLEET_DISTRUSTS


def readiness_in_words(readiness: RevocationReadiness | None) -> tuple[str, ...]:
    """The verdict with its reasons; nothing in an emergency, which has none."""
    if readiness is None:
        return ()
    if readiness.verdict == "yes":
        return ("It is ready: every instance was watched, and none needs the key.",)
    return tuple(f"It is not ready ({readiness.verdict}): {b.message}" for b in readiness.blockers)


def _of_expiry(
    key: SigningKey,
    lifetime: timedelta | None,
    readiness: RevocationReadiness | None,
    now: datetime,
) -> str:
    if readiness is not None and (readiness.earliest_safe_time or 0.0) >= NEVER:
        return "Some of them never expire: valid ones are refused."
    if (end := last_expiry(key, lifetime, readiness)) is None:
        since = f" It stopped signing at {_utc(key.current_until)}." if key.current_until else ""
        return (
            "It is not known when the last of them expires: set the tenant's token lifetime "
            f"(JWKS_GUARD_TOKEN_LIFETIME_SECONDS).{since}"
        )
    if end <= now:
        return f"The last of its access tokens expired by {_utc(end)}, as far as is known."
    return f"The last of them expires at {_utc(end)}: until then, valid ones are refused."


def _of_certificates(kid: str) -> str:
    return (
        "SAML and WS-Fed parties that check this tenant's signature break at the rotation, until "
        f"they have the new certificate. Now `jwks-guard keys show {kid} --pem` prints it; "
        "afterwards it is at:"
    )


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
