"""`jwks-guard distrust` and `reinstate`: have every instance refuse a key, or lift that."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jwks_guard.admin import Refusal
from jwks_guard.admin.journal import default_actor
from jwks_guard.cli.completion import refused, trusted
from jwks_guard.cli.fleet.acknowledgements import (
    print_lift,
    print_refusals,
    print_target,
    refusal_document,
)
from jwks_guard.cli.fleet.consent import require_consent, require_terminal
from jwks_guard.cli.fleet.session import FleetSession, Seen, looked, opened_fleet
from jwks_guard.cli.keys.consent import YesOption
from jwks_guard.cli.keys.kids import SHORTEST, STATES, matching, whole_kid
from jwks_guard.cli.keys.session import (
    ConfigOption,
    DomainOption,
    JSONOption,
    complain,
    errors_told,
    opened,
)
from jwks_guard.errors import ConfigurationError, DistrustNotSharedError
from jwks_guard.fleet.commands import ACKNOWLEDGE_SECONDS
from jwks_guard.fleet.settings import ConfiguredFleet

_LOOK_SECONDS = 0.1
_UNKNOWN = (
    "No instance knows this key: none trusts it, refuses it or has accepted a token of it. Compare "
    "the kid with the header of a token: `jwks-guard inspect` prints it."
)
_USE_SECONDS = 60.0
_IN_USE = (
    "Clients use tokens of this key now; each is refused from then on. While the issuer signs with "
    "it, that is every valid token: then rotate first."
)
_KID_HELP = (
    f"The key's ID, or its first {SHORTEST} characters or more if no other begins with them; "
    "current, next or previous where the Management API is configured."
)
TrustedKIDArgument = Annotated[
    str, typer.Argument(metavar="KID", help=_KID_HELP, autocompletion=trusted)
]
RefusedKIDArgument = Annotated[
    str, typer.Argument(metavar="KID", help=_KID_HELP, autocompletion=refused)
]
ReasonOption = Annotated[
    str,
    typer.Option(
        "--reason", metavar="TEXT", help="Why, for the other people on call.", show_default=False
    ),
]


def distrust(
    kid: TrustedKIDArgument,
    reason: ReasonOption,
    force: Annotated[
        bool,
        typer.Option("--force", help="Do it although an instance trusts no other key."),
    ] = False,
    yes: YesOption = False,
    domain: DomainOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Have every instance of the fleet refuse a key at once, and print which ones do.

    It needs the fleet (JWKS_GUARD_FLEET) and the issuer (JWKS_GUARD_DOMAIN or JWKS_GUARD_ISSUER),
    and no access to the Management API. The tenant goes on listing the key.

    Exit status: 0 every instance refuses it, 1 not all are known to, 2 usage, 3 the fleet could not
    be reached.
    """
    with errors_told(), opened_fleet(domain, config) as session:
        require_terminal(yes=yes)
        seen = _looked(session)
        kid = _named(kid, seen.kids, domain, config)
        known = kid in seen.kids
        if not yes:
            print_target(seen, kid, Console(stderr=True, highlight=False))
            if _in_use(seen, kid):
                complain(_IN_USE)
        if not known:
            complain(_UNKNOWN)
        require_consent("distrust", kid, yes=yes)
        refusals = session.run(
            session.fleet.distrust(kid, reason=reason, force=force, actor=default_actor())
        )
    if as_json:
        document = {"issuer": seen.issuer, "kid": kid, "known": known}
        typer.echo(json.dumps({**document, **refusal_document(refusals)}, indent=2))
    else:
        print_refusals(kid, refusals, Console(highlight=False))
    raise typer.Exit(0 if _all_refuse(refusals) else 1)


def reinstate(
    kid: RefusedKIDArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    domain: DomainOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Lift the distrust of a key on every instance of the fleet, and print which ones did.

    An instance trusts the key again while the issuer lists it. A decision to distrust it that is
    not known to the fleet yet stands.

    Exit status: 0 no instance refuses it, 1 not all are known to have lifted it, or it was not
    refused, 2 usage, 3 the fleet could not be reached.
    """
    with errors_told(), opened_fleet(domain, config) as session:
        require_terminal(yes=yes)
        seen = _looked_at(session)
        kid = _named(kid, [*seen.refused_since], domain, config)
        if kid not in seen.refused_since:
            complain(
                f"{kid} is not refused, so there is nothing to lift.",
                "`jwks-guard status` lists the keys that are.",
            )
            raise typer.Exit(1)
        if not yes:
            print_target(seen, kid, Console(stderr=True, highlight=False))
        require_consent("trust", kid, yes=yes)
        seen = _lift(session, kid, reason)
    refusing = [state.name for state in seen.live if kid in state.refused]
    lifted = [state.name for state in seen.live if kid not in state.refused]
    silent = [state.name for state in seen.silent]
    if as_json:
        document = {"issuer": seen.issuer, "kid": kid, "lifted": lifted, "refusing": refusing}
        typer.echo(json.dumps({**document, "silent": silent}, indent=2))
    else:
        print_lift(kid, seen, Console(highlight=False))
    raise typer.Exit(0 if lifted and not refusing and not silent else 1)


def _looked(session: FleetSession) -> Seen:
    """What the fleet shows; nothing where its instances can't be told apart.

    That keeps nobody from distrusting a key on those that can be reached.
    """
    try:
        return _looked_at(session)
    except ConfigurationError:
        return Seen(session.fleet.issuer, time.time(), (), {})


def _looked_at(session: FleetSession) -> Seen:
    """What the fleet shows; the error says that nobody was told."""
    try:
        return session.look()
    except DistrustNotSharedError as error:
        error.add_note("No instance was told: nothing was done.")
        raise


def _in_use(seen: Seen, kid: str) -> bool:
    """Whether an instance has accepted a token of `kid` in the last minute."""
    usages = [state.usage[kid] for state in seen.states if kid in state.usage]
    return any(seen.at - (usage.last_seen or 0.0) < _USE_SECONDS for usage in usages)


def _named(text: str, kids: Sequence[str], domain: str | None, config: Path | None) -> str:
    """The kid that `text` names; `text` itself if no key begins with it."""
    kid = matching(text, kids)
    if kid is not None or text not in STATES:
        return text if kid is None else kid
    with opened(domain, None, config, quiet=True) as session:
        return session.run(whole_kid(session.client, text))


def _lift(session: FleetSession, kid: str, reason: str) -> Seen:
    """Lift the distrust of `kid`; gives what is seen then, also where some were not reached."""
    try:
        session.run(session.fleet.reinstate(kid, reason=reason, actor=default_actor()))
    except DistrustNotSharedError as error:
        with suppress(DistrustNotSharedError):
            seen = session.look()
            if kid not in seen.distrusted:
                complain(str(error))
                return seen
        raise
    return session.run(_lifted(session.fleet, kid))


async def _lifted(fleet: ConfiguredFleet, kid: str) -> Seen:
    """What is seen when no live instance refuses `kid`, or when that takes too long."""
    until = time.monotonic() + ACKNOWLEDGE_SECONDS
    while True:
        seen = await looked(fleet)
        if not any(kid in state.refused for state in seen.live) or time.monotonic() >= until:
            return seen
        await asyncio.sleep(_LOOK_SECONDS)


def _all_refuse(refusals: Sequence[Refusal]) -> bool:
    return all(each.error is None and each.since is not None for each in refusals)
