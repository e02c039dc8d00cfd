"""Whether a tenant's keys are one rotation on from where they were (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus

from jwks_guard.admin.signing_key import SigningKey, State
from jwks_guard.errors import (
    ManagementAPIError,
    RevocationRefusedError,
    RotationUncertainError,
    UnavailableError,
)

_REFUSALS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
)


def only(keys: Iterable[SigningKey], state: State) -> SigningKey:
    """The one key in that state; raises ManagementAPIError when there is none, or several."""
    found = [key for key in keys if key.state == state]
    if len(found) != 1:
        raise ManagementAPIError(
            f"The tenant lists {len(found)} {state} keys instead of one, so it can't be told what "
            "to do. Look at the list of keys.",
            status=HTTPStatus.OK,
        )
    return found[0]


def next_key_after_one_step(
    before: Sequence[SigningKey], after: Sequence[SigningKey]
) -> SigningKey | None:
    """The next key in `after` if exactly one rotation lies between the two lists, else None."""
    try:
        old_next, new_current, new_next = (
            only(before, "next"),
            only(after, "current"),
            only(after, "next"),
        )
    except ManagementAPIError:
        return None
    one_step = new_current.kid == old_next.kid and new_next.kid not in {key.kid for key in before}
    return new_next if one_step else None


def require_revocable(kid: str, entries: Sequence[SigningKey], keys: Sequence[SigningKey]) -> None:
    """Raise RevocationRefusedError unless `entries`, the key `kid`, may be revoked or are already.

    `keys` are all that the tenant lists: they must say which ones are current and next.
    """
    if all(key.revoked for key in entries):
        return
    for key in entries:
        if key.current or key.next:
            raise RevocationRefusedError(
                f"{kid} is the tenant's {key.state} key: revoking it would refuse the tokens that "
                "are issued now. Rotate first, until it is a previously used key."
            )
    listed = any(key.kid == kid for key in keys)
    if not listed and not all(key.previous for key in entries):
        raise RevocationRefusedError(
            f"The tenant does not list {kid} and does not say that it was used before: it may be "
            "the next key, in a list that lags behind. Look at the list of keys, and try again."
        )
    if not any(key.current for key in keys) or not any(key.next for key in keys):
        raise RevocationRefusedError(
            "The tenant's answer does not say which keys are current and next, so it can't be told "
            f"whether {kid} is one of them. Look at the list of keys."
        )


def may_have_rotated(error: ManagementAPIError) -> bool:
    """Whether the tenant may have rotated although this is what came back.

    Only what is answered before anything is done says no: a gateway's 408 or 499, say, does not.
    """
    if isinstance(error, UnavailableError):
        return error.sent
    return error.status not in _REFUSALS


def uncertain(
    before: Sequence[SigningKey], after: Sequence[SigningKey], reason: str
) -> RotationUncertainError:
    """The error for a rotation whose answer was lost, for `reason`, and that can't be seen."""
    return RotationUncertainError(
        f"It is not known whether the tenant rotated its keys. {reason} Don't rotate again yet: "
        f"look which key is current. Before, {_summary(before)}; last seen, {_summary(after)}. If "
        "current and next are the same a few minutes from now, nothing happened and you can rotate "
        "again.",
        before=before,
        after=after,
    )


def _summary(keys: Sequence[SigningKey]) -> str:
    named = [f"{key.state} was {key.kid}" for key in keys if key.current or key.next]
    return " and ".join(named) or "the list could not be read"
