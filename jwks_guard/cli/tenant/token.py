"""`jwks-guard tenant token`: a token of the tenant that runs."""

from __future__ import annotations

import ssl
from typing import Annotated, Any

import httpx
import typer

from jwks_guard.cli.tenant.serve import DEFAULT_PORT
from jwks_guard.cli.words import printable
from jwks_guard.testing.profile import DEFAULT_SCOPE, DEFAULT_SUBJECT
from jwks_guard.testing.settings import ISSUE_PATH

_URL = f"http://127.0.0.1:{DEFAULT_PORT}/"
_TIMEOUT = 10.0  # s


def token(
    scope: Annotated[
        str, typer.Option(metavar="SCOPES", help="Scopes, separated by spaces; '' for none.")
    ] = DEFAULT_SCOPE,
    sub: Annotated[str, typer.Option(metavar="USER", help="The user.")] = DEFAULT_SUBJECT,
    audience: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The API it is for.", show_default="the tenant's first"),
    ] = None,
    permission: Annotated[
        list[str] | None,
        typer.Option(metavar="PERMISSION", help="A permission of the user; may be repeated."),
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="One that ended an hour ago.")] = False,
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where the tenant runs. For --tls, set SSL_CERT_FILE to its --ca-file.",
        ),
    ] = _URL,
) -> None:
    """Print an access token of the local tenant that runs.

    Exit status: 0 done, 2 usage, 3 no tenant could be reached.
    """
    wish = {
        "scope": scope,
        "sub": sub,
        "audience": audience,
        "permissions": permission,
        "expired": expired,
    }
    try:
        answer = _asked(url, wish)
    except httpx.InvalidURL as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    except httpx.HTTPError as error:
        raise _unreached(url, str(error) or type(error).__name__) from None
    typer.echo(_token(url, answer))


def _asked(url: str, wish: dict[str, Any]) -> httpx.Response:
    # Not by a proxy, and with the authorities of SSL_CERT_FILE, which OpenSSL itself reads.
    with httpx.Client(
        trust_env=False, verify=ssl.create_default_context(), timeout=_TIMEOUT
    ) as client:
        return client.post(url.rstrip("/") + ISSUE_PATH, json=wish)


def _token(url: str, answer: httpx.Response) -> str:
    try:
        said = answer.json()
        if answer.is_success:
            return str(said["token"])
        message = str(said["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"status {answer.status_code}, and not the form of a local tenant"
        raise _unreached(url, reason) from None
    typer.echo(f"The tenant refused: {printable(message)}", err=True)
    raise typer.Exit(2)


def _unreached(url: str, reason: str) -> typer.Exit:
    typer.echo(
        f"No local tenant answers at {url}: {reason.rstrip('.')}. Start one by `jwks-guard tenant`,"
        " or name its address by --url. If it runs with --tls, write https:// there, and set"
        " SSL_CERT_FILE to its --ca-file.",
        err=True,
    )
    return typer.Exit(3)
