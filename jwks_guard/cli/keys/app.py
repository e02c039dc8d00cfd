"""`jwks-guard keys`: list, show, rotate and revoke a tenant's signing keys."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console

from jwks_guard.admin import SigningKey
from jwks_guard.cli.keys.changes import revoke, rotate, rotate_and_revoke
from jwks_guard.cli.keys.kids import whole_kid
from jwks_guard.cli.keys.session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    JSONOption,
    KIDArgument,
    complain,
    errors_told,
    opened,
)
from jwks_guard.cli.keys.table import print_key, print_table, sorted_keys

keys = typer.Typer(
    help="List, rotate and revoke a tenant's signing keys.",
    epilog=(
        "The tenant: JWKS_GUARD_DOMAIN, JWKS_GUARD_CLIENT_ID, and one of "
        "JWKS_GUARD_CLIENT_SECRET, JWKS_GUARD_CLIENT_SECRET_FILE, JWKS_GUARD_PRIVATE_KEY_FILE, "
        "JWKS_GUARD_TOKEN and JWKS_GUARD_TOKEN_FILE; with a custom domain "
        "JWKS_GUARD_MANAGEMENT_AUDIENCE and JWKS_GUARD_JWKS_URI. Its access tokens: "
        "JWKS_GUARD_TOKEN_LIFETIME_SECONDS.\n\n"
        "The fleet: JWKS_GUARD_FLEET (the URL of its Redis, or the URLs of its instances), "
        "JWKS_GUARD_FLEET_SECRET_FILE (for instances, and for a Redis with signed decisions), "
        "JWKS_GUARD_FLEET_PREFIX, JWKS_GUARD_ISSUER, JWKS_GUARD_EXPECTED_INSTANCES, "
        "JWKS_GUARD_QUIET_PERIOD_SECONDS.\n\n"
        "In the file of --config the names are in lower case and without JWKS_GUARD_, as in "
        "`client_id`.\n\n"
        "Exit status: 0 done, 1 refused or uncertain, 2 usage, 3 the tenant or the fleet could not "
        "be reached or asked."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


_SETTINGS = "Settings and exit status: `jwks-guard keys --help`."


@keys.command("list", epilog=_SETTINGS, short_help="Next, current, previously used, revoked.")
def list_keys(
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """List the tenant's keys: next, current, previously used, revoked."""
    with errors_told(), opened(domain, client_id, config, quiet=as_json) as session:
        found = sorted_keys(session.run(session.client.list()))
    if as_json:
        typer.echo(json.dumps([key.to_dict() for key in found], indent=2))
    else:
        print_table(found, Console(highlight=False))


@keys.command(epilog=_SETTINGS)
def show(
    kid: KIDArgument,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print its certificate, for SAML and WS-Fed parties.")
    ] = False,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Show everything that the tenant says about one key."""
    if pem and as_json:
        raise typer.BadParameter("it can't be combined with --json", param_hint="--pem")
    with errors_told(), opened(domain, client_id, config, quiet=as_json or pem) as session:
        kid = session.run(whole_kid(session.client, kid))
        key = session.run(session.client.get(kid))
    if as_json:
        typer.echo(json.dumps(key.to_dict(), indent=2))
    elif pem:
        typer.echo(_pem(key), nl=False)
    else:
        print_key(key, Console(highlight=False))


_rotates = "Make the next key current."
_revokes = "Revoke a previously used key for good."
_emergency = "The current key has leaked: rotate, and revoke it."
keys.command(epilog=_SETTINGS, short_help=_rotates)(rotate)
keys.command(epilog=_SETTINGS, short_help=_revokes)(revoke)
keys.command("rotate-and-revoke", epilog=_SETTINGS, short_help=_emergency)(rotate_and_revoke)


def _pem(key: SigningKey) -> str:
    """The certificate, parsed and encoded again: the tenant's own text reaches no terminal."""
    try:
        return key.certificate.public_bytes(Encoding.PEM).decode()
    except ValueError:
        complain(f"The tenant's certificate of {key.kid} can't be read; --json shows what it sent.")
        raise typer.Exit(1) from None
