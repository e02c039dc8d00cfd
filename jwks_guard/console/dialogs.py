"""What a dialog shows before something is done: who accepts which key after it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from jwks_guard.admin.incident_report import BlastRadius
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import (
    FINAL,
    Instances,
    Plan,
    emergency_plan,
    readiness_in_words,
    revocation_plan,
    rotation_plan,
)
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.console.picture import Action, InstanceRow, KeyRow, Picture
from jwks_guard.errors import ManagementAPIError
from jwks_guard.readiness.verdict import RevocationReadiness

TYPED = 4  # characters of the kid
TITLES: Mapping[str, str] = {
    "rotate": "Rotate the signing keys",
    "rotate-and-revoke": "Rotate and revoke the current key",
    "revoke": "Revoke a key",
    "distrust": "Distrust a key",
    "reinstate": "Reinstate a key",
    "dismiss": "Dismiss an instance",
    "incident": "A key has leaked",
}
_BUTTONS: Mapping[str, str] = {
    "rotate": "Rotate now",
    "rotate-and-revoke": "Rotate and revoke now",
    "revoke": "Revoke now",
    "distrust": "Distrust now",
    "reinstate": "Reinstate now",
    "dismiss": "Dismiss now",
    "incident": "Begin now",
}
_REVOKED = "A revocation can't be undone: the tenant never lists this key again."
_ROTATED = "A rotation can't be undone: the key that is current now never becomes current again."
_FINAL: Mapping[str, tuple[str, ...]] = {
    "rotate": (_ROTATED,),
    "rotate-and-revoke": (_ROTATED, _REVOKED),
    "revoke": (_REVOKED,),
}
_REFUSING = frozenset({"rotate-and-revoke", "revoke", "distrust"})
_UNKNOWN = (
    "No instance knows this key: none trusts it, refuses it or has accepted a token of it. Compare "
    "the kid with the header of a token."
)
_DISTRUST = (
    (
        "Every instance refuses the tokens of this key at once, also those in caches and on open "
        "WebSockets."
    ),
    "The issuer is not asked and goes on listing the key. It stays refused until it is reinstated.",
)
_REINSTATE = (
    (
        "Every decision about the key that the fleet knows is lifted. One that an instance made "
        "while it was cut off, and that the fleet has not heard of, stands."
    ),
    "Tokens of this key are accepted again while the issuer lists it.",
)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one key: its place at the tenant, and who accepts its signatures."""

    kid: str | None
    state: str
    now: str
    after: str
    changes: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to do it; `value` goes into the form's field `how`."""

    value: str
    label: str
    text: str


_WAYS_TO_DISTRUST = (
    Choice(
        "planned",
        "Refuse it where another key is trusted",
        "Nothing is done if an instance trusts no other key.",
    ),
    Choice(
        "forced",
        "Refuse it even if it is the only trusted key",
        "An instance that trusts no other key then refuses every request, until the issuer lists "
        "another key or this one is reinstated.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """Everything that is shown and asked before `action`.

    Arguments:
        action: what will be done.
        subject: the kid, or the id of the instance.
        name: the instance as people know it; the kid for a key.
        changes: the table "signatures accepted after this step".
        facts: what follows from it.
        final: what of it can't be undone.
        readiness: the verdict, of a planned revocation.
        decision: the decision that it shows, which a lift undoes and no later one; "" for none.
        choices: the ways to do it, the first one by default; none where there is one alone.
        certificates: where SAML and WS-Fed parties find the new certificate, by kind.
        steps: what is done, in this order, where it is several things.
        radius: whose tokens it hits, where that is shown.

    """

    action: str
    subject: str
    name: str
    changes: tuple[Change, ...] = ()
    facts: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    readiness: RevocationReadiness | None = None
    decision: str = ""
    choices: tuple[Choice, ...] = ()
    certificates: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    radius: BlastRadius | None = None

    @property
    def title(self) -> str:
        """What is done, as a heading."""
        return TITLES[self.action]

    @property
    def button(self) -> str:
        """The words of the button that does it."""
        return _BUTTONS[self.action]

    @property
    def ending(self) -> str:
        """What has to be typed: the end of the kid, so that no other key is meant."""
        return "" if self.action == "dismiss" else self.subject.strip()[-TYPED:]


def key_dialog(action: Action, row: KeyRow, picture: Picture, lifetime: timedelta | None) -> Dialog:
    """The dialog of an action on the key of `row`.

    `lifetime` is that of access tokens, None where it is unknown.
    """
    plan = _plan(action, row, picture, lifetime)
    return Dialog(
        action=action,
        subject=row.kid,
        name=row.kid,
        changes=tuple(changes_of(action, row, picture)),
        facts=(*_decided(action, row), *_facts(plan, row)),
        final=final_of(action),
        readiness=row.readiness if action == "revoke" else None,
        decision="" if row.decision is None else f"{row.decision.at!r} {row.decision.by}",
        choices=_choices(action, row),
        certificates=plan.certificates if isinstance(plan, Plan) else {},
    )


def dismissal(instance: InstanceRow) -> Dialog:
    """The dialog of forgetting an instance that has ended."""
    state = instance.state
    facts = [
        "The fleet forgets the instance, and verdicts no longer wait for it.",
        (
            "Dismiss it only if its process has ended for good. If it is cut off, it may accept "
            "tokens of keys that you revoke. If it reports again, it is shown again."
        ),
    ]
    if not instance.silent:
        facts.insert(0, f"{state.name} still reports: this will be refused. Stop it first.")
    return Dialog(action="dismiss", subject=state.instance, name=state.name, facts=tuple(facts))


def _plan(
    action: Action, row: KeyRow, picture: Picture, lifetime: timedelta | None
) -> Plan | str | None:
    """What the tenant does; a text says why that can't be told, None: it does nothing."""
    if picture.tenant is None or action in ("distrust", "reinstate"):
        return None
    keys, instances = keys_of(picture), instances_of(picture)
    now = datetime.fromtimestamp(picture.at, UTC)
    try:
        if action == "rotate":
            return rotation_plan(picture.tenant, keys, lifetime, now, instances)
        if action == "rotate-and-revoke" and row.state == "current":
            return emergency_plan(picture.tenant, keys, now, instances)
    except ManagementAPIError as unclear:
        return str(unclear)
    readiness = row.readiness if action == "revoke" else None
    return revocation_plan(picture.tenant, _signing_key(row), lifetime, now, instances, readiness)


def final_of(action: Action) -> tuple[str, ...]:
    """What of the action can't be undone."""
    return _FINAL.get(action, ())


def keys_of(picture: Picture) -> SigningKeys:
    """The keys that the tenant lists."""
    return SigningKeys(_signing_key(each) for each in picture.keys if each.state != "not listed")


def instances_of(picture: Picture) -> Instances:
    """The instances that report, for a plan."""
    states = tuple(each.state for each in picture.instances if not each.silent)
    error = next((each.cause for each in picture.problems if each.source == "fleet"), None)
    return Instances(states, error)


def _signing_key(row: KeyRow) -> SigningKey:
    return SigningKey(
        kid=row.kid,
        current=row.state == "current",
        next=row.state == "next",
        previous=row.state == "previously used",
        revoked=row.state == "revoked",
        current_since=_date(row.since),
        current_until=_date(row.until),
    )


def _date(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _facts(plan: Plan | str | None, row: KeyRow) -> tuple[str, ...]:
    """What the plan says and the page does not show apart."""
    if not isinstance(plan, Plan):
        return (plan,) if plan else ()
    apart = (FINAL, *readiness_in_words(row.readiness))
    return tuple(text for text in plan.consequences if text not in apart)


def _decided(action: Action, row: KeyRow) -> Iterator[str]:
    if action == "reinstate":
        if (decision := row.decision) is not None:
            yield f"It is distrusted by {decision.by or 'somebody'}: {decision.reason}"
        yield from _REINSTATE
        if row.state == "revoked":
            yield "The tenant has revoked this key and does not list it: it stays refused."
    elif action == "distrust":
        if not row.trusting and not row.refusing and row.last_seen is None:
            yield _UNKNOWN
        yield from _DISTRUST
        if row.state == "current":
            yield (
                "It is the current key: the tenant goes on signing with it, and every new token is "
                "refused, too. Rotate, or rotate and revoke, to have tokens that are accepted."
            )


def _choices(action: Action, row: KeyRow) -> tuple[Choice, ...]:
    if action == "distrust":
        return _WAYS_TO_DISTRUST
    return _ways_to_revoke(row) if action == "revoke" else ()


def _ways_to_revoke(row: KeyRow) -> tuple[Choice, ...]:
    ready = row.readiness is not None and row.readiness.verdict == "yes"
    planned = Choice(
        "planned",
        "Revoke it if it is ready",
        "The tenant revokes it first, then the instances refuse it. "
        + ("It is ready." if ready else "It is not ready: this will be refused."),
    )
    forced = Choice(
        "forced",
        "Revoke it although it is not ready",
        "Clients with valid tokens of this key are refused from then on. The reason goes into the "
        "journal.",
    )
    leaked = Choice(
        "emergency",
        "It has leaked: refuse it first",
        "The instances refuse it at once, ready or not. Then the tenant revokes it.",
    )
    return (planned, leaked) if ready else (planned, forced, leaked)


def changes_of(action: Action, target: KeyRow, picture: Picture) -> Iterator[Change]:
    """The table "signatures accepted after this step" of an action on the key of `target`."""
    shown: Iterable[KeyRow] = picture.valid
    if target.kid not in {row.kid for row in shown}:
        shown = [target, *shown]
    for row in shown:
        yield _change(action, row, is_target=row.kid == target.kid)
    if action == "rotate" or (action == "rotate-and-revoke" and target.state == "current"):
        yield Change(None, "becomes next", "does not exist yet", "accepted, signs nothing yet")


def _change(action: Action, row: KeyRow, *, is_target: bool) -> Change:
    now = _acceptance(row)
    if is_target and action in _REFUSING:
        state = row.state if action == "distrust" else f"{row.state}, becomes revoked"
        return Change(row.kid, state, now, "refused by every instance")
    if is_target and action == "reinstate":
        after = (
            "still refused: revoked" if row.state == "revoked" else "accepted while it is listed"
        )
        return Change(row.kid, row.state, now, after)
    rotates = action in ("rotate", "rotate-and-revoke")
    if rotates and row.state == "next":
        return Change(row.kid, "next, becomes current", now, f"{now}; signs the new tokens")
    if rotates and row.state == "current":
        return Change(row.kid, "current, becomes previously used", now, f"{now}; signs no new ones")
    return Change(row.kid, row.state, now, now, changes=False)


def _acceptance(row: KeyRow) -> str:
    if not row.reporting:
        return "not known: no instance reports"
    if not row.trusting:
        return "refused by every instance" if row.refusing else "accepted by no instance"
    many = "instance" if row.reporting == 1 else "instances"
    return f"accepted by {len(row.trusting)} of {row.reporting} {many}"
