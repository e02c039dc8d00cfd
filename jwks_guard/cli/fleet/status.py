"""`jwks-guard status`: what every instance trusts and refuses, since when and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console

from jwks_guard.cli.fleet.session import Seen, opened_fleet
from jwks_guard.cli.fleet.status_text import print_status
from jwks_guard.cli.keys.session import ConfigOption, DomainOption, JSONOption, errors_told


def status(
    domain: DomainOption = None, config: ConfigOption = None, as_json: JSONOption = False
) -> None:
    """Print what every instance of the fleet trusts and refuses, and who decided that and why.

    It needs the fleet (JWKS_GUARD_FLEET) and the issuer (JWKS_GUARD_DOMAIN or JWKS_GUARD_ISSUER),
    of whatever kind, and no access to the Management API.

    Exit status: 0 shown, 1 no instance reports, 2 usage, 3 the fleet could not be reached.
    """
    with errors_told(), opened_fleet(domain, config) as session:
        seen = session.look()
    if as_json:
        typer.echo(json.dumps(_document(seen), indent=2))
    else:
        print_status(seen, Console(highlight=False))
    raise typer.Exit(0 if seen.live else 1)


def _document(seen: Seen) -> dict[str, Any]:
    live = {state.instance for state in seen.live}
    return {
        "issuer": seen.issuer,
        "at": seen.at,
        "instances": [{**each.to_dict(), "live": each.instance in live} for each in seen.states],
        "distrusted": [
            {**asdict(each), "thumbprints": sorted(each.thumbprints)}
            for each in seen.distrusted.values()
        ],
    }
