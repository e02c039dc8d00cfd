"""`jwks-guard tenant`: a local tenant to develop against."""

from __future__ import annotations

import json
import signal
from queue import SimpleQueue
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel

from jwks_guard.testing import LocalTenant

_NAMES = (
    "issuer",
    "jwks_uri",
    "audience",
    "management_audience",
    "client_id",
    "client_secret",
)
_ENVIRONMENT = {
    "JWKS_GUARD_DOMAIN": "issuer",
    "JWKS_GUARD_CLIENT_ID": "client_id",
    "JWKS_GUARD_CLIENT_SECRET": "client_secret",
}


def tenant(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    token_lifetime: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="For so long its access tokens live.")
    ] = 86_400,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when it is ready.")
    ] = False,
) -> None:
    """Serve a tenant that issues, rotates and revokes as Auth0 does, until Ctrl-C or SIGTERM."""
    # An Event would deadlock when the signal comes while `wait` holds its lock; `put` is reentrant.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.put(received))
    local = LocalTenant(host=host, port=port, token_lifetime=token_lifetime)
    try:
        local.start()
    except OSError as error:
        typer.echo(f"Can't listen on {host}:{port}: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    facts = {name: str(getattr(local, name)) for name in _NAMES}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _introduce(facts, token_lifetime)
    signals.get()
    local.stop()


def _introduce(facts: dict[str, str], token_lifetime: int) -> None:
    lines = [f"{name:<20} {value}" for name, value in facts.items()]
    request = (
        f"curl -s {facts['issuer']}oauth/token -d grant_type=client_credentials"
        f" -d client_id={facts['client_id']} -d client_secret={facts['client_secret']}"
        f" -d audience={facts['audience']}"
    )
    console = Console()
    console.print(Panel("\n".join(lines), title="Local tenant", expand=False), highlight=False)
    console.print("A token for the API, for example:", highlight=False)
    console.print(request, soft_wrap=True, highlight=False, markup=False)
    console.print("To try `jwks-guard keys list` on it:", highlight=False)
    for name, fact in _ENVIRONMENT.items():
        console.print(f"export {name}={facts[fact]}", soft_wrap=True, highlight=False)
    console.print(f"export JWKS_GUARD_TOKEN_LIFETIME_SECONDS={token_lifetime}", highlight=False)
    console.print("Ctrl-C ends it.", highlight=False)
