"""`jwks-guard keys rotate`, `revoke` and `rotate-and-revoke`: say what will happen, ask, do it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jwks_guard.admin import KeyRotation, SigningKey
from jwks_guard.admin.steps import only
from jwks_guard.cli.keys_consent import Consent, DryRunOption, YesOption
from jwks_guard.cli.keys_journal import JournalOption, journal_of, left_in, usable
from jwks_guard.cli.keys_plan import Plan, emergency_plan, revocation_plan, rotation_plan
from jwks_guard.cli.keys_receipts import print_receipt
from jwks_guard.cli.keys_session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    JSONOption,
    KIDArgument,
    Session,
    errors_told,
    opened,
)
from jwks_guard.errors import RotationRefusedError

ReasonOption = Annotated[str, typer.Option(help="Why, for the journal.")]
ConfirmOption = Annotated[
    float,
    typer.Option(
        "--confirm-within",
        metavar="SECONDS",
        help="For how long to look whether the JWKS lists the key no more.",
    ),
]


def rotate(
    reason: ReasonOption = "planned rotation",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    journal: JournalOption = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Make the next key current. SAML and WS-Fed parties need its certificate first."""
    with errors_told():
        consent = Consent(yes, dry_run, as_json)
        with opened(domain, client_id, config, quiet=as_json) as session:
            path = _journal(session, journal, consent, emergency=False)
            keys = session.run(session.client.list())
            consent.require(_rotation_plan(session, keys).after(left_in(path, session)))
            _require_unchanged(session, keys)
            receipt = session.run(_rotation(session, path).rotate(reason=reason))
    consent.answer(receipt.to_dict(), lambda console: print_receipt(receipt, console))


def revoke(
    kid: KIDArgument,
    emergency: Annotated[
        bool,
        typer.Option("--emergency", help="Go on although the journal can't be written."),
    ] = False,
    reason: ReasonOption = "revoked at the tenant",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    confirm_within: ConfirmOption = 120.0,
    journal: JournalOption = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Withdraw a previously used key for good."""
    with errors_told():
        consent = Consent(yes, dry_run, as_json)
        with opened(domain, client_id, config, quiet=as_json) as session:
            path = _journal(session, journal, consent, emergency=emergency)
            plan = _revocation_plan(session, session.run(session.client.revocable(kid)))
            consent.require(plan if emergency else plan.after(left_in(path, session)))
            rotation = _rotation(session, path, confirm_within)
            revoking = rotation.revoke(kid, reason=reason, emergency=emergency)
            receipt = session.run(revoking, "revoke", "--", kid)
    consent.answer(receipt.to_dict(), lambda console: print_receipt(receipt, console))
    raise typer.Exit(0 if receipt.complete else 1)


def rotate_and_revoke(
    kid: Annotated[
        str | None,
        typer.Argument(
            metavar="KID",
            help="The leaked key, by default the current one. One that is not current any more is "
            "revoked without a rotation, so that a repeated command never rotates twice.",
            show_default=False,
        ),
    ] = None,
    reason: ReasonOption = "the key has leaked",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    confirm_within: ConfirmOption = 120.0,
    journal: JournalOption = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """In an emergency: make the next key current and revoke the one that has leaked."""
    with errors_told():
        consent = Consent(yes, dry_run, as_json)
        with opened(domain, client_id, config, quiet=as_json) as session:
            path = _journal(session, journal, consent, emergency=True)
            begun = [each for each in left_in(path, session) if each.action == "rotate_and_revoke"]
            keys = session.run(session.client.list())
            leaked = kid or (begun[0].kid if begun else only(keys, "current").kid)
            plan = _emergency_plan(session, keys, leaked)
            consent.require(plan.after(each for each in begun if each.kid == leaked))
            rotation = _rotation(session, path, confirm_within)
            revoking = rotation.rotate_and_revoke(leaked, reason=reason)
            receipt = session.run(revoking, "rotate-and-revoke", "--", leaked)
    consent.answer(receipt.to_dict(), lambda console: print_receipt(receipt, console))
    raise typer.Exit(0 if receipt.complete else 1)


def _journal(
    session: Session, named: Path | None, consent: Consent, *, emergency: bool
) -> Path | None:
    path = journal_of(session, named)
    return path if consent.dry_run else usable(path, emergency=emergency)


def _rotation(session: Session, journal: Path | None, confirm_within: float = 120.0) -> KeyRotation:
    return KeyRotation(
        session.client,
        token_lifetime=session.configuration.token_lifetime,
        journal_path=journal,
        on_event=session.on_event,
        jwks_uri=session.configuration.jwks_uri,
        confirm_within=confirm_within,
    )


def _rotation_plan(session: Session, keys: list[SigningKey]) -> Plan:
    lifetime = session.configuration.token_lifetime
    return rotation_plan(session.client.base_url, keys, lifetime, datetime.now(UTC))


def _revocation_plan(session: Session, key: SigningKey) -> Plan:
    lifetime = session.configuration.token_lifetime
    return revocation_plan(session.client.base_url, key, lifetime, datetime.now(UTC))


def _emergency_plan(session: Session, keys: list[SigningKey], leaked: str) -> Plan:
    if leaked == only(keys, "current").kid:
        return emergency_plan(session.client.base_url, keys, datetime.now(UTC))
    return _revocation_plan(session, session.run(session.client.revocable(leaked)))


def _require_unchanged(session: Session, keys: list[SigningKey]) -> None:
    """Raise RotationRefusedError if somebody else has rotated since `keys` were shown."""
    shown, now = only(keys, "current"), only(session.run(session.client.list()), "current")
    if shown.kid != now.kid:
        raise RotationRefusedError(
            f"The keys have changed meanwhile: {now.kid} is the current one. Nothing was done."
        )
