"""What is shown and asked before an incident is begun (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from jwks_guard.admin.incident_plan import REFUSED_FIRST, incident_plan
from jwks_guard.admin.plans import FINAL, Plan, refusal_plan
from jwks_guard.console.dialogs import (
    Choice,
    Dialog,
    changes_of,
    final_of,
    instances_of,
    keys_of,
)
from jwks_guard.console.picture import Action, KeyRow, Picture
from jwks_guard.errors import ManagementAPIError

_REFUSE_FIRST = "refuse-first"
_CHOICES = (
    Choice(
        "rotate-first",
        "Rotate first, then refuse it",
        "It takes about a second longer, and then clients get tokens that are accepted. If the "
        "rotation fails, the current key stays accepted.",
    ),
    Choice(
        _REFUSE_FIRST,
        "Refuse it first",
        f"{REFUSED_FIRST} For an attacker who does more harm in a second than that outage does, "
        "and for a tenant that does not answer.",
    ),
)
_NO_ACCESS = (
    "This console has no access to a Management API: the tenant is told nothing, and goes on "
    "listing the key and signing with it if it is the current one. Rotate and revoke it there."
)
_UNASKED = (
    "The tenant has not answered this console: it is not known which of its keys this is. It is "
    "asked once more. The key is rotated and revoked if it can be, and refused before only if you "
    "choose so."
)
_OLD = (
    "The tenant does not answer at the moment. If it stays so, the current key is refused only if "
    "you choose to refuse it first."
)
_NOTE = "Whose tokens of the key were accepted is looked up, for the record."
_REFUSE = "Every instance refuses the key. It waits up to 15 s until each has said so."
_REFUSE_OR_NOT = "Every instance refuses the key, unless it still is, or may be, the current one."
_ASK = "The tenant is asked which of its keys it is."
_ROTATE = "The tenant rotates: the next key signs the new tokens."
_ROTATE_IF = "If it is the current key, the tenant rotates: the next key signs the new tokens."
_REVOKE = "The tenant revokes the key."
_KEY_SET = "It waits until the key set does not list the key any more."


def incident_dialog(row: KeyRow, picture: Picture, lifetime: timedelta | None) -> Dialog:
    """The dialog of an incident about the key of `row`.

    `lifetime` is that of access tokens, None where it is unknown.
    """
    effect = _effect(row, picture)
    plan = _plan(row, picture, lifetime)
    old = any(each.source == "tenant" for each in picture.problems) and picture.tenant_at
    facts = [text for text in plan.consequences if text != FINAL]
    return Dialog(
        action="incident",
        subject=row.kid,
        name=row.kid,
        changes=tuple(changes_of(effect, row, picture)),
        facts=(*((_OLD,) if old else ()), *facts),
        final=final_of(effect),
        choices=_CHOICES if _may_be_current(row, picture) else (),
        certificates=plan.certificates,
        steps=tuple(_steps(row, picture)),
        radius=row.radius,
    )


def refuses_first(row: KeyRow, picture: Picture, how: str) -> bool:
    """Whether the key is refused before the tenant is asked.

    One that was the current key never is again, so nobody has to choose.
    """
    if _may_be_current(row, picture):
        return how == _REFUSE_FIRST
    return row.state in ("previously used", "revoked")


def _may_be_current(row: KeyRow, picture: Picture) -> bool:
    if picture.tenant is None or row.state in ("previously used", "revoked"):
        return False
    unsure = picture.tenant_at is None or any(e.source == "tenant" for e in picture.problems)
    return row.state == "current" or unsure


def _effect(row: KeyRow, picture: Picture) -> Action:
    """The action that changes the same."""
    if picture.tenant is None:
        return "distrust"
    if row.state == "current":
        return "rotate-and-revoke"
    return "revoke" if row.state == "previously used" else "distrust"


def _plan(row: KeyRow, picture: Picture, lifetime: timedelta | None) -> Plan:
    instances, kid = instances_of(picture), row.kid
    if picture.tenant is None or picture.tenant_at is None:
        why = _NO_ACCESS if picture.tenant is None else _UNASKED
        return refusal_plan(picture.issuer, kid, why, instances)
    now = datetime.fromtimestamp(picture.at, UTC)
    try:
        return incident_plan(picture.tenant, kid, keys_of(picture), lifetime, now, instances)
    except ManagementAPIError as unclear:
        return refusal_plan(picture.issuer, kid, str(unclear), instances)


def _steps(row: KeyRow, picture: Picture) -> Iterator[str]:
    """What is done, in this order."""
    yield _NOTE
    if picture.tenant is None:
        yield _REFUSE
        return
    if row.state in ("previously used", "revoked"):
        yield _REFUSE
        yield _ASK
    else:
        yield _ASK
        if row.state == "current" or not picture.tenant_at:
            yield _ROTATE if row.state == "current" else _ROTATE_IF
        yield _REFUSE if picture.tenant_at else _REFUSE_OR_NOT
    if row.state in ("current", "previously used") or not picture.tenant_at:
        yield _REVOKE
        yield _KEY_SET
