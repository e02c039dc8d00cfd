"""`jwks-guard can-revoke`: whether a key can be revoked now, and what speaks against it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from jwks_guard.cli.fleet.readiness_wait import wait_until_ready
from jwks_guard.cli.fleet.tables import InstancesTable, output
from jwks_guard.cli.keys.kids import whole_kid
from jwks_guard.cli.keys.session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    JSONOption,
    RevocableKIDArgument,
    errors_told,
    opened,
)
from jwks_guard.cli.keys.table import print_prose
from jwks_guard.cli.words import date, printable
from jwks_guard.readiness.usage import NEVER
from jwks_guard.readiness.verdict import RevocationReadiness

_DURATION = re.compile(r"([0-9]{1,6})([smh])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
_VERDICTS = {
    "yes": ("can be revoked now: that refuses no valid token.", "bold green"),
    "no": ("can't be revoked yet: that would refuse tokens that are valid.", "bold red"),
    "unknown": (
        "should not be revoked yet: it is not known what that would break.",
        "bold yellow",
    ),
}


_REVOKED = ("is revoked already.", "bold green")


def duration(text: str) -> timedelta:
    """A time to wait, like 90s, 30m or 2h."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter("write a number and s, m or h, as in 90s, 30m or 2h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def can_revoke(
    kid: RevocableKIDArgument,
    wait: Annotated[
        timedelta | None,
        typer.Option(
            parser=duration, metavar="TIME", help="Ask again until it is yes, for 90s, 30m or 2h."
        ),
    ] = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Print whether a key can be revoked without refusing a valid token, and what blocks it.

    Every instance of the fleet (JWKS_GUARD_FLEET) shows what it does with the key's tokens. The
    tenant says which key is current: `jwks-guard keys --help` has its settings.

    Exit status: 0 yes, 1 no or unknown, 2 usage, 3 tenant or fleet could not be reached.
    """
    quiet = as_json or wait is not None
    with errors_told(), opened(domain, client_id, config, quiet=quiet) as session:
        kid = session.run(whole_kid(session.client, kid))
        rotation = session.rotation()
        if wait is None:
            readiness = session.run(rotation.revocation_readiness(kid))
        else:
            console = output(stderr=True)
            readiness = session.run(wait_until_ready(rotation, kid, wait, console, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(readiness.to_dict(), indent=2))
    else:
        print_readiness(readiness, output())
    raise typer.Exit(0 if readiness.verdict == "yes" else 1)


def print_readiness(readiness: RevocationReadiness, console: Console) -> None:
    """Print what each instance shows, what speaks against revoking, and the verdict."""
    now = readiness.assessed_at
    if readiness.instances:
        console.print(InstancesTable(readiness.instances, readiness.kid, now))
    else:
        console.print(Text("No instance reports.", "dim"))
    console.print()
    for blocker in readiness.blockers:
        print_prose(f"{blocker.verdict:<7}  {blocker.message}", console, "  ", " " * 11)
    if readiness.blockers:
        console.print()
    if (safe_from := readiness.earliest_safe_time) is not None and now < safe_from < NEVER:
        console.print(f"Its last token expires by {date(safe_from, now)}.")
    console.print(verdict_line(readiness))


def verdict_line(readiness: RevocationReadiness) -> Text:
    """The verdict, in one line."""
    says, style = _REVOKED if readiness.revoked else _VERDICTS[readiness.verdict]
    return Text(f"{readiness.verdict}: {printable(readiness.kid)} {says}", style)
