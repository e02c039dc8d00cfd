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
    help="Verify a tenant's access tokens, and watch what a key rotation does to them.",
    no_args_is_help=True,
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


app.command()(demo)
app.command()(inspect)
app.command("can-revoke")(can_revoke)
app.command()(watch)
app.command()(status)
app.command()(console)
app.command()(distrust)
app.command()(reinstate)
app.command()(incident)
app.add_typer(tenant, name="tenant")
app.add_typer(keys, name="keys")
