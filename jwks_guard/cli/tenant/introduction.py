"""What `jwks-guard tenant` says of itself: who it is, and the lines to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from rich.console import Console
from rich.panel import Panel

from jwks_guard.net.urls import refusal
from jwks_guard.testing.authority import LOOPBACK

_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound here
_ENVIRONMENT = {
    "JWKS_GUARD_DOMAIN": "issuer",
    "JWKS_GUARD_CLIENT_ID": "client_id",
    "JWKS_GUARD_CLIENT_SECRET": "client_secret",
}


def introduce(
    facts: Mapping[str, str], audiences: Sequence[str], *, token_lifetime: int, host: str
) -> None:
    """Print who the tenant is, and how to get a token and log in."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    lines = [f"{name:<20} {value}" for name, value in facts.items()]
    lines[3:3] = [f"{'':<20} {audience}" for audience in audiences[1:]]
    console.print(Panel("\n".join(lines), title="Local tenant", expand=False), soft_wrap=False)
    if "ca_file" in facts:
        console.print("Clients that call it need its certificate authority (Python, Node):")
        for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            console.print(f"export {name}={shlex.quote(facts['ca_file'])}")
    console.print("A token of a user, and one of the client, for example:")
    console.print(f"jwks-guard tenant token --url {facts['issuer']} --scope read:things")
    console.print(_machine_grant(facts))
    console.print("To log in by a browser (authorization code with PKCE, from localhost only):")
    console.print(f"authorizationUrl {facts['issuer']}authorize")
    console.print(f"tokenUrl         {facts['issuer']}oauth/token")
    console.print("To have an API accept its tokens (`TokenVerifier.from_env()`):")
    console.print(f"export JWKS_GUARD_ISSUER={facts['issuer']}")
    console.print(f"export JWKS_GUARD_AUDIENCE={shlex.quote(' '.join(audiences))}")
    named = urlsplit(facts["issuer"]).hostname
    if refusal(facts["issuer"], http_on_loopback=True) is None:
        console.print("To try `jwks-guard keys list` on it:")
        for variable, fact in _ENVIRONMENT.items():
            console.print(f"export {variable}={facts[fact]}")
        console.print(f"export JWKS_GUARD_TOKEN_LIFETIME_SECONDS={token_lifetime}")
    else:  # the Management API is asked over https alone
        console.print(f"export JWKS_GUARD_ALLOW_HTTP={named}")
    if named in _EVERY_ADDRESS:
        console.print(f"Other machines can't reach {named}: set --issuer to the URL that they use.")
    if host not in LOOPBACK:
        console.print(f"It listens on {host}: who reaches that gets a token, without a password.")
    console.print("Ctrl-C ends it.")


def _machine_grant(facts: Mapping[str, str]) -> str:
    trust = f" --cacert {shlex.quote(facts['ca_file'])}" if "ca_file" in facts else ""
    return (
        f"curl -s{trust} {facts['issuer']}oauth/token -d grant_type=client_credentials"
        f" -d client_id={facts['client_id']} -d client_secret={facts['client_secret']}"
        f" -d audience={facts['audience']}"
    )
