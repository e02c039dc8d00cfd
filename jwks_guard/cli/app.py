"""The commands of `jwks-guard`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from jwks_guard import __version__
from jwks_guard.cli.console.command import console
from jwks_guard.cli.demo.command import demo
from jwks_guard.cli.fleet.can_revoke import can_revoke
from jwks_guard.cli.fleet.decisions import distrust, reinstate
from jwks_guard.cli.fleet.status import status
from jwks_guard.cli.fleet.watch import watch
from jwks_guard.cli.incident.command import incident
from jwks_guard.cli.inspect.command import inspect
from jwks_guard.cli.keys.app import keys
from jwks_guard.cli.tenant.app import tenant

app = typer.Typer(
    help=(
        "See which signing keys a fleet of APIs trusts; rotate, revoke and distrust them.\n\n"
        "Settings are variables, JWKS_GUARD_..., or names in a TOML file that --config or "
        "JWKS_GUARD_CONFIG gives; the --help of each command lists those that it needs."
    ),
    epilog="Exit status: 0 yes, 1 no or unknown, 2 usage, 3 the other side can't be reached.",
    no_args_is_help=True,
    rich_markup_mode=None,  # whose panels break paragraphs, and show flags as if they took a value
    pretty_exceptions_enable=False,  # its tracebacks print local variables, tokens among them
)

_SILENT = logging.NullHandler()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jwks-guard {__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """Each command says in its own words what the library would log."""
    logging.getLogger("jwks_guard").addHandler(_SILENT)


app.command(short_help="Print which keys every instance trusts and refuses, and why.")(status)
app.command(short_help="Show every instance and key, live.")(watch)
app.command(short_help="A key has leaked: refuse it everywhere, rotate and revoke it.")(incident)
app.command(short_help="Have every instance refuse a key at once, and nothing else.")(distrust)
app.command(short_help="Lift the distrust of a key on every instance.")(reinstate)
app.command("can-revoke", short_help="Print whether revoking a key would refuse valid tokens.")(
    can_revoke
)
app.add_typer(keys, name="keys")
app.command(short_help="Serve the operator's web page.")(console)
app.command(short_help="Explain what is right and wrong with a token.")(inspect)
app.add_typer(
    tenant, name="tenant", short_help="Serve a local tenant that behaves as Auth0 does, for tests."
)
app.command(short_help="Show a rotation, a revocation and an outage on a local tenant.")(demo)
