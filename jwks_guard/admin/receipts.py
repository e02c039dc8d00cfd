"""Receipts: the results of a rotation and of a revocation."""

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
"""The paths of a tenant's current certificate, by kind (Auth0, "Signing Keys")."""

_OTHERS = "Management API tokens and ID tokens of that key are refused too."


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReceipt:
    """A rotation.

    Arguments:
        rotated_at: when the rotation was known to be done.
        previous: the key that was current until then.
        current: the key that signs now.
        next: the new next key.
        inferred: as in SigningKey.
        tokens_expire_by: when the last token of the previous key expires, if the lifetime of tokens
            is known. Revoking the key earlier refuses tokens that are still valid.
        warnings: for the operator.
        certificates: the URLs where SAML and WS-Fed parties find the current certificate, by kind.

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
    """A revocation: when each party took note of it.

    Arguments:
        kid: the revoked key.
        reason: the reason that the caller gave.
        emergency: whether verifiers refused the key before the tenant revoked it.
        acknowledged_at: when the Management API confirmed that the key is revoked.
        inferred: as in SigningKey.
        left_jwks_at: when the tenant's JWK Set was first seen without the key; None: not within
            `confirm_within`.
        refusals: the result of `distrust` for each verifier.
        rotation: the rotation of the same call, in an emergency.
        tokens_expire_by: when the last token of the key would have expired, if that is known.
        warnings: for the operator.
        readiness: the verdict before a planned revocation; if it is not "yes", it was forced.

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
        """Whether every verifier refuses the key and has stored that; true if there is none."""
        return all(each.since is not None and each.error is None for each in self.refusals)

    @property
    def complete(self) -> bool:
        """Whether the key is refused everywhere, and the JWK Set no longer lists it."""
        return self.refused_everywhere and self.left_jwks_at is not None

    @property
    def consequences(self) -> str:
        """Which tokens are refused from now on, in words."""
        end = self.tokens_expire_by
        if not self.complete:
            return (
                f"Until that is done, a verifier that was not told accepts tokens signed by "
                f"{self.kid} for as long as it trusts the key."
            )
        if end is not None and end <= self.acknowledged_at:
            return (
                f"The last access token signed by {self.kid} had expired by {_seconds(end)}, as "
                f"far as is known. {_OTHERS}"
            )
        until = f"would have expired {_seconds(end)}" if end else ""
        until = f", of which the last {until}" if until else ", also before they expire"
        noticed = " once a verifier notices the revocation, within its detection bound"
        when = "" if self.refusals else noticed
        return (
            f"All tokens signed by {self.kid} are refused{when}{until}. Their holders have to get "
            "new ones; Management API tokens and ID tokens of that key are among them."
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
        warnings=(saml_warning(current.kid, certificates),),
        certificates=certificates,
    )


def certificates_of(base_url: str) -> Mapping[str, str]:
    """The URLs of the tenant's current certificate, by kind."""
    return {kind: base_url + path for kind, path in CERTIFICATES.items()}


def saml_warning(kid: str, certificates: Mapping[str, str]) -> str:
    """The warning for parties that trust the tenant's certificate instead of its JWK Set.

    It is read before and after the rotation, which makes the key `kid` the current one.
    """
    urls = ", ".join(certificates.values())
    return (
        "SAML and WS-Fed parties that check this tenant's signature break at the rotation, and not "
        "at the revocation, until they have the new certificate. `jwks-guard keys show "
        f"{kid} --pem` prints it, and after the rotation it is at {urls}."
    )


def last_expiry(
    key: SigningKey, lifetime: timedelta | None, readiness: RevocationReadiness | None
) -> datetime | None:
    """When the last token of `key` expires: as observed, or else computed from `lifetime`."""
    if readiness is None or readiness.earliest_safe_time is None:
        return expiry_of(key.current_until, lifetime)
    if readiness.earliest_safe_time >= NEVER:
        return None
    return datetime.fromtimestamp(readiness.earliest_safe_time, UTC)


def expiry_of(until: datetime | None, lifetime: timedelta | None) -> datetime | None:
    """When the last token of a key expires that signs until `until`; None if not known."""
    if until is None or lifetime is None:
        return None
    try:
        return until + lifetime
    except OverflowError:  # beyond the year 9999
        return None


def _seconds(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
