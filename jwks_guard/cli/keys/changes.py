"""`jwks-guard keys rotate`, `revoke` and `rotate-and-revoke`: show the plan, ask, do it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from jwks_guard.admin import (
    RevocationReadiness,
    RevocationReceipt,
    RotationReceipt,
    SigningKey,
)
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.plans import Plan, emergency_plan, revocation_plan, rotation_plan
from jwks_guard.admin.verdict import unanswered
from jwks_guard.cli.completion import can_have_leaked
from jwks_guard.cli.keys.change import Change, changing
from jwks_guard.cli.keys.fleet import instances_of, refusal
from jwks_guard.cli.keys.journal import begun_in, left_in
from jwks_guard.cli.keys.kids import STATES, matching, whole_kid
from jwks_guard.cli.keys.session import RevocableKIDArgument, Session
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    KeysUnavailableError,
)

_DEFAULT_REASON = "revoked at the tenant"
_CHANGING = "with --yes write the kid: after each revocation, that word names another key"
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the journal.")]
ConfirmOption = Annotated[
    float,
    typer.Option(
        "--confirm-within",
        metavar="SECONDS",
        help="How long to wait until the JWKS no longer lists the key.",
    ),
]


@changing
def rotate(change: Change, reason: ReasonOption = "planned rotation") -> RotationReceipt:
    """Make the next key current. SAML and WS-Fed parties need its certificate first."""
    session, path = change.session, change.journal(emergency=False)
    keys = SigningKeys(session.run(session.client.list()))
    change.consent.require(_rotation_plan(session, keys).after(left_in(path, session)))
    rotation = session.rotation(path)
    return session.run(rotation.rotate(reason=reason, current=keys.current.kid))


@changing
def revoke(
    change: Change,
    kid: RevocableKIDArgument,
    emergency: Annotated[
        bool,
        typer.Option(
            "--emergency",
            help="The key has leaked: the fleet refuses it first, ready or not, journal or not.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Revoke the key although it is not ready; takes a --reason."),
    ] = False,
    reason: ReasonOption = _DEFAULT_REASON,
    confirm_within: ConfirmOption = 120.0,
) -> RevocationReceipt:
    """Revoke a previously used key for good, once `can-revoke` says yes."""
    if force and reason == _DEFAULT_REASON:
        raise typer.BadParameter("it takes a --reason, for the journal", param_hint="--force")
    if change.consent.yes and kid in STATES:
        raise typer.BadParameter(_CHANGING, param_hint="KID")
    session, path = change.session, change.journal(emergency=emergency)
    kid = session.run(whole_kid(session.client, kid))
    key = session.run(session.client.revocable(kid))
    planned = not (emergency or key.revoked)
    readiness = (
        _readiness(session, kid, insist=force or change.consent.dry_run) if planned else None
    )
    plan = _revocation_plan(session, key, readiness)
    change.consent.require(plan if emergency else plan.after(left_in(path, session)))
    rotation = session.rotation(path, confirm_within)
    revoking = rotation.revoke(kid, reason=reason, emergency=emergency, force=force)
    insisting = _insisting(emergency=emergency, force=force, reason=reason)
    return session.run(revoking, "revoke", *insisting, "--", kid)


@changing
def rotate_and_revoke(
    change: Change,
    kid: Annotated[
        str | None,
        typer.Argument(
            metavar="KID",
            help="The leaked key, or the beginning of its ID; by default the current one. A key "
            "that is no longer current is revoked without a rotation: a repeated command never "
            "rotates twice.",
            show_default=False,
            autocompletion=can_have_leaked,
        ),
    ] = None,
    reason: ReasonOption = "the key has leaked",
    confirm_within: ConfirmOption = 120.0,
) -> RevocationReceipt:
    """In an emergency: make the next key current and revoke the one that has leaked."""
    session, path = change.session, change.journal(emergency=True)
    begun = [each for each in begun_in(path, session) if each.action == "rotate_and_revoke"]
    keys = SigningKeys(session.run(session.client.list()))
    leaked = _leaked(kid, keys) or (begun[0].kid if begun else keys.current.kid)
    plan = _emergency_plan(session, keys, leaked)
    change.consent.require(plan.after(each for each in begun if each.kid == leaked))
    rotation = session.rotation(path, confirm_within)
    revoking = rotation.rotate_and_revoke(leaked, reason=reason)
    return session.run(revoking, "rotate-and-revoke", "--", leaked)


def _leaked(named: str | None, keys: SigningKeys) -> str | None:
    """The key that has leaked; None where the current one is meant, or what was begun with it."""
    if named is None:
        return None
    kid = matching(named, [key.kid for key in keys])
    return kid or (None if named == "current" else named)


def _insisting(*, emergency: bool, force: bool, reason: str) -> tuple[str, ...]:
    """The options that a repeated command needs."""
    forced = ("--force", "--reason", reason) if force else ()
    return ("--emergency", *forced) if emergency else forced


def _readiness(session: Session, kid: str, *, insist: bool) -> RevocationReadiness:
    """The verdict; raises RevocationRefusedError if it is not yes, unless `insist`."""
    try:
        readiness = session.run(session.rotation().revocation_readiness(kid))
    except (ConfigurationError, DistrustNotSharedError, KeysUnavailableError) as error:
        if not insist:
            raise
        readiness = unanswered(kid, error, time.time())
    if readiness.verdict != "yes" and not insist:
        raise refusal(readiness)
    return readiness


def _rotation_plan(session: Session, keys: SigningKeys) -> Plan:
    lifetime, instances = session.configuration.token_lifetime, instances_of(session, keys.next.kid)
    return rotation_plan(session.client.base_url, keys, lifetime, datetime.now(UTC), instances)


def _revocation_plan(
    session: Session, key: SigningKey, readiness: RevocationReadiness | None = None
) -> Plan:
    lifetime, instances = session.configuration.token_lifetime, instances_of(session, key.kid)
    now = datetime.now(UTC)
    return revocation_plan(session.client.base_url, key, lifetime, now, instances, readiness)


def _emergency_plan(session: Session, keys: SigningKeys, leaked: str) -> Plan:
    if leaked == keys.current.kid:
        instances = instances_of(session, leaked)
        return emergency_plan(session.client.base_url, keys, datetime.now(UTC), instances)
    return _revocation_plan(session, session.run(session.client.revocable(leaked)))
