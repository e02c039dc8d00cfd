"""What a page says after an action: what was done, or why it was not (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from jwks_guard.admin import IncidentReport, Refusal, RevocationReceipt, RotationReceipt
from jwks_guard.errors import (
    ConfigurationError,
    JWKSGuardError,
    RevocationRefusedError,
    RotationRefusedError,
)
from jwks_guard.readiness.verdict import RevocationReadiness

_UNTOUCHED = (ConfigurationError, RevocationRefusedError, RotationRefusedError)
_CALLS = (
    "Calls that are named above are actions of this console: `distrust` is Distrust, `reinstate` "
    "is Reinstate, and with `force=True` or `emergency=True` it is a choice in the dialog."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of an action; `complete` is False where somebody still has to do something.

    `untouched`: nothing at all was done.
    """

    summary: str
    complete: bool = True
    details: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    readiness: RevocationReadiness | None = None
    status: int = 200
    untouched: bool = False

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
        "The tenant's key set still listed the key when it was last looked at."
        if receipt.left_jwks_at is None
        else f"It left the tenant's key set by {receipt.left_jwks_at:%Y-%m-%d %H:%M:%S} UTC."
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


def ended(report: IncidentReport) -> Outcome:
    """The outcome of an incident."""
    last = report.steps[-1] if report.steps else None
    return Outcome(
        summary="All of it is done." if last is None or report.complete else last.detail,
        complete=report.complete,
        refusals=report.refusals,
    )


def dismissed(name: str) -> Outcome:
    """The outcome of forgetting an instance."""
    return Outcome(summary=f"{name} is forgotten.")


def refused(error: JWKSGuardError) -> Outcome:
    """Why an action was not done, or not wholly, with the next step."""
    asked_wrongly = isinstance(error, ConfigurationError)  # of a key that is not distrusted, say
    report = getattr(error, "report", None)
    if isinstance(report, RevocationReadiness):
        return _not_ready(report, error.http_status)
    details = notes = tuple(getattr(error, "__notes__", ()))
    if any(sign in text for sign in ("`", "force=") for text in (str(error), *details)):
        details = (*details, _CALLS)
    return Outcome(
        summary=str(error),
        complete=False,
        details=details,
        status=HTTPStatus.CONFLICT if asked_wrongly else error.http_status,
        untouched=isinstance(error, _UNTOUCHED) and not notes,  # which say what was done first
    )


def failed(error: Exception) -> Outcome:
    """An action that an unforeseen error has ended; its text may hold what is nobody's business."""
    return Outcome(
        summary=f"{type(error).__name__}, which was not expected; see the log of the console.",
        complete=False,
        details=("The Timeline shows which steps were done before it. Look at the keys.",),
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def _not_ready(report: RevocationReadiness, status: int) -> Outcome:
    return Outcome(
        summary=f"{report.kid} is not ready to be revoked.",
        complete=False,
        details=(
            (
                "Wait until the reasons below have passed. The dialog has a choice that revokes it "
                "anyway, and one for a key that has leaked."
            ),
        ),
        readiness=report,
        status=status,
        untouched=True,
    )


UNFINISHED = Outcome(
    summary="The action is begun and goes on without this page.",
    complete=False,
    details=("The Timeline shows each of its steps. Do not repeat it before it has ended.",),
    status=HTTPStatus.ACCEPTED,
)
