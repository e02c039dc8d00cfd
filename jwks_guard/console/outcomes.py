"""What a page says after an action: what was done, or why it was not (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from jwks_guard.admin import Refusal, RevocationReceipt, RotationReceipt
from jwks_guard.errors import ConfigurationError, JWKSGuardError
from jwks_guard.readiness.verdict import RevocationReadiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of an action; `complete` is False where somebody still has to do something."""

    summary: str
    complete: bool = True
    details: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    readiness: RevocationReadiness | None = None
    status: int = 200

    @property
    def done(self) -> bool:
        """Whether it was done, or begun."""
        return self.status < HTTPStatus.BAD_REQUEST


def rotated(receipt: RotationReceipt) -> Outcome:
    """The outcome of a rotation."""
    end = receipt.tokens_expire_by
    expire = (
        "when they expire is not known: the tenant's token lifetime is not set"
        if end is None
        else f"the last of them expires by {end:%Y-%m-%d %H:%M:%S} UTC"
    )
    return Outcome(
        summary=f"{receipt.current.kid} signs new tokens.",
        details=(
            f"{receipt.previous.kid} is previously used now. Its tokens stay valid; {expire}.",
            f"The new next key is {receipt.next.kid}.",
            *receipt.warnings,
        ),
    )


def revoked(receipt: RevocationReceipt) -> Outcome:
    """The outcome of a revocation, with its rotation if there was one."""
    listed = (
        "The tenant's JWK Set still listed the key when it was last looked at."
        if receipt.left_jwks_at is None
        else f"It left the tenant's JWK Set by {receipt.left_jwks_at:%Y-%m-%d %H:%M:%S} UTC."
    )
    rotation = receipt.rotation
    before = () if rotation is None else (f"{rotation.current.kid} signs new tokens.",)
    more = () if rotation is None else rotation.warnings
    return Outcome(
        summary=f"{receipt.kid} is revoked at the tenant.",
        complete=receipt.complete,
        details=(*before, listed, receipt.consequences, *receipt.warnings, *more),
        refusals=receipt.refusals,
    )


def distrusted(kid: str, refusals: Sequence[Refusal]) -> Outcome:
    """The outcome of a decision to distrust."""
    refusing = sum(each.error is None for each in refusals)
    complete = refusing == len(refusals) and refusing > 0
    details = (
        (
            "An instance that is cut off refuses the key when it hears of the decision, and may "
            "accept its tokens until then."
        ),
    )
    return Outcome(
        summary=f"{kid} is distrusted. {refusing} of {len(refusals)} confirm that they refuse it.",
        complete=complete,
        details=() if complete else details,
        refusals=tuple(refusals),
    )


def reinstated(kid: str) -> Outcome:
    """The outcome of a lift."""
    return Outcome(
        summary=f"The distrust of {kid} is lifted.",
        details=("Its tokens are accepted again while the issuer lists the key.",),
    )


def dismissed(name: str) -> Outcome:
    """The outcome of forgetting an instance."""
    return Outcome(summary=f"{name} is forgotten.")


def refused(error: JWKSGuardError) -> Outcome:
    """Why an action was not done, or not wholly, with the next step."""
    report = getattr(error, "report", None)
    asked_wrongly = isinstance(error, ConfigurationError)  # of a key that is not distrusted, say
    return Outcome(
        summary=str(error),
        complete=False,
        details=tuple(getattr(error, "__notes__", ())),
        readiness=report if isinstance(report, RevocationReadiness) else None,
        status=HTTPStatus.CONFLICT if asked_wrongly else error.http_status,
    )


UNFINISHED = Outcome(
    summary="The action is begun and goes on without this page.",
    complete=False,
    details=("The Timeline shows each of its steps. Do not repeat it before it has ended.",),
    status=HTTPStatus.ACCEPTED,
)
