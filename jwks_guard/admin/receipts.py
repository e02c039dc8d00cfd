"""What an operation on a tenant's keys has brought about, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.readiness.state import Refusal
from jwks_guard.readiness.usage import NEVER
from jwks_guard.readiness.verdict import RevocationReadiness

CERTIFICATES = {
    "pem": "pem",
    "cer": "cer",
    "rawpem": "rawpem",
    "samlp": "samlp/metadata/{clientId}",
    "wsfed": "wsfed/FederationMetadata/2007-06/FederationMetadata.xml",
}
"""Where a tenant gives out its current certificate, by kind (Auth0, "Signing Keys")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReceipt:
    """A rotation: which key was current, which is now, and which is the new next one.

    `rotated_at` is when that was known; `warnings` are for the operator; `certificates` says where
    SAML and WS-Fed parties get the current certificate; `inferred` as in SigningKey.
    `tokens_expire_by` is when the last token of the previous key expires, where the lifetime of
    tokens is known: revoking it earlier refuses tokens that are still valid.
    """

    rotated_at: datetime
    previous: SigningKey
    current: SigningKey
    next: SigningKey
    inferred: bool
    tokens_expire_by: datetime | None
    warnings: tuple[str, ...]
    certificates: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON-compatible data; keys by their kid."""
        return {
            "rotated_at": self.rotated_at.isoformat(),
            "previous": self.previous.kid,
            "current": self.current.kid,
            "next": self.next.kid,
            "inferred": self.inferred,
            "tokens_expire_by": _iso(self.tokens_expire_by),
            "warnings": list(self.warnings),
            "certificates": dict(self.certificates),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationReceipt:
    """A revocation: who knows of it since when.

    Arguments:
        kid: the revoked key.
        reason: why, in the words of whoever asked for it.
        emergency: whether verifiers were told before the tenant.
        acknowledged_at: when the Management API confirmed that the key is revoked.
        inferred: as in SigningKey.
        left_jwks_at: when the tenant's JWK Set was first seen without it; None: not in time.
        refusals: who was told to refuse it, with what result.
        rotation: the rotation that went before, in an emergency.
        tokens_expire_by: when the last token of the key would have expired, where that is known.
        warnings: what the operator should know.
        readiness: the verdict before a planned revocation; one that was forced was not "yes".

    """

    kid: str
    reason: str
    emergency: bool
    acknowledged_at: datetime
    inferred: bool
    left_jwks_at: datetime | None
    refusals: tuple[Refusal, ...]
    rotation: RotationReceipt | None = None
    tokens_expire_by: datetime | None = None
    warnings: tuple[str, ...] = ()
    readiness: RevocationReadiness | None = None

    @property
    def refused_everywhere(self) -> bool:
        """Whether everybody who was told (nobody, maybe) refuses the key, and has stored that."""
        return all(each.since is not None and each.error is None for each in self.refusals)

    @property
    def complete(self) -> bool:
        """Whether it is refused everywhere, and the JWK Set lists it no more."""
        return self.refused_everywhere and self.left_jwks_at is not None

    @property
    def consequences(self) -> str:
        """Which tokens die by this, in words."""
        until = (
            f", of which the last would have expired {self.tokens_expire_by:%Y-%m-%d %H:%M:%S} UTC"
            if self.tokens_expire_by
            else ", whatever their expiry"
        )
        return (
            f"Every token signed by {self.kid} is dead{until}. Their holders have to get new "
            "ones; Management API tokens and ID tokens of that key are among them."
        )

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON-compatible data."""
        return {
            "kid": self.kid,
            "reason": self.reason,
            "emergency": self.emergency,
            "complete": self.complete,
            "acknowledged_at": self.acknowledged_at.isoformat(),
            "inferred": self.inferred,
            "left_jwks_at": _iso(self.left_jwks_at),
            "refusals": [
                {"who": each.who, "since": _iso(each.since), "error": each.error}
                for each in self.refusals
            ],
            "rotation": self.rotation and self.rotation.to_dict(),
            "tokens_expire_by": _iso(self.tokens_expire_by),
            "warnings": list(self.warnings),
            "readiness": self.readiness and self.readiness.to_dict(),
            "consequences": self.consequences,
        }


def rotation_receipt(
    base_url: str,
    rotated_at: datetime,
    lifetime: timedelta | None,
    *,
    previous: SigningKey,
    current: SigningKey,
    new: SigningKey,
) -> RotationReceipt:
    """The receipt of a rotation from `previous` to `current`; `new` is the next key now."""
    certificates = certificates_of(base_url)
    return RotationReceipt(
        rotated_at=rotated_at,
        previous=previous,
        current=current,
        next=new,
        inferred=new.inferred,
        tokens_expire_by=expiry_of(rotated_at, lifetime),
        warnings=(saml_warning(certificates),),
        certificates=certificates,
    )


def certificates_of(base_url: str) -> Mapping[str, str]:
    """Where the tenant at that URL gives out its current certificate, by kind."""
    return {kind: base_url + path for kind, path in CERTIFICATES.items()}


def saml_warning(certificates: Mapping[str, str]) -> str:
    """What rotating does to those who trust the tenant's certificate and not its JWK Set."""
    return (
        "SAML and WS-Fed parties that check this tenant's signature break at the rotation, and not "
        "at the revocation, until they have the new certificate: now it is the next key's (`keys "
        f"show KID --pem` prints it), afterwards it is at {', '.join(certificates.values())}."
    )


def last_expiry(
    key: SigningKey, lifetime: timedelta | None, readiness: RevocationReadiness | None
) -> datetime | None:
    """When the last token of `key` expires: by what was seen of them, or else by their lifetime."""
    if readiness is None or readiness.earliest_safe_time is None:
        return expiry_of(key.current_until, lifetime)
    if readiness.earliest_safe_time >= NEVER:
        return None
    return datetime.fromtimestamp(readiness.earliest_safe_time, UTC)


def expiry_of(until: datetime | None, lifetime: timedelta | None) -> datetime | None:
    """When the last token expires of a key that signs `until` then."""
    if until is None or lifetime is None:
        return None
    try:
        return until + lifetime
    except OverflowError:  # beyond the year 9999
        return None


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
