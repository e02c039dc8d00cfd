"""Whether a tenant's keys are one rotation on from where they were (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus

from jwks_guard.admin.signing_key import SigningKey, State
from jwks_guard.errors import ManagementAPIError, RotationUncertainError, UnavailableError


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


def may_have_rotated(error: ManagementAPIError) -> bool:
    """Whether the tenant may have rotated although this is what came back."""
    if isinstance(error, UnavailableError):
        return error.sent
    return error.status is None or error.status < HTTPStatus.BAD_REQUEST


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
