"""`jwks-guard tenant`: serve a local tenant until Ctrl-C or SIGTERM."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from jwks_guard.base.files import write_atomically
from jwks_guard.cli.tenant.introduction import introduce
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.profile import DEFAULT_AUDIENCE

DEFAULT_PORT = 8765
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_NAMES = (
    "issuer",
    "jwks_uri",
    "audience",
    "management_audience",
    "client_id",
    "client_secret",
)


def serve(
    context: typer.Context,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65_535, metavar="PORT", help="Port to listen on; 0 takes a free one."
        ),
    ] = DEFAULT_PORT,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. By default only this machine reaches it.",
        ),
    ] = "127.0.0.1",
    issuer: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="`iss` of its tokens, with a slash at the end. Set it if clients reach the tenant"
            " under another address.",
            show_default="its address",
        ),
    ] = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI",
            help="The API that tokens are for; may be repeated.",
            show_default=DEFAULT_AUDIENCE,
        ),
    ] = None,
    token_lifetime: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Lifetime of its access tokens.")
    ] = 86_400,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep its keys and its client here for the next start. Private keys lie in it.",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve https, by a certificate authority of its own.")
    ] = False,
    ca_file: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where --tls writes the authority's certificate."),
    ] = Path("jwks-guard-ca.pem"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when it is ready.")
    ] = False,
) -> None:
    """Serve a tenant that issues, rotates and revokes as Auth0 does, until Ctrl-C or SIGTERM.

    It is for tests: it gives a token for any user to anybody, without a password.
    """
    if context.invoked_subcommand is not None:
        return
    # An Event would deadlock when the signal comes while `wait` holds its lock; `put` is reentrant.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.put(received))
    try:
        local = LocalTenant(
            host=host,
            port=port,
            issuer=issuer,
            audience=audience or DEFAULT_AUDIENCE,
            token_lifetime=token_lifetime,
            state=state,
            tls=tls,
        )
        local.start()
    except ConfigurationError as error:
        raise _stopped(str(error)) from None
    except OSError as error:
        message = f"Can't listen on {host}:{port}: {error.strerror}. {_remedy(error)}"
        raise _stopped(message) from None
    if tls:
        _write_certificate(ca_file, local.ca_certificate)
    facts = {name: str(getattr(local, name)) for name in _NAMES}
    if tls:
        facts["ca_file"] = str(ca_file.absolute())
    if as_json:
        typer.echo(json.dumps({**facts, "audiences": local.audiences}))
    else:
        introduce(facts, local.audiences, token_lifetime=token_lifetime, host=host)
    signals.get()
    local.stop()


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "Name another port by --port."
    return "Name an address of this machine by --host, and a port that is allowed by --port."


def _write_certificate(path: Path, certificate: str) -> None:
    """Write it for all to read; a file that holds anything else is left as it is."""
    try:
        if path.exists() and not path.read_bytes().startswith(_CERTIFICATE.encode()):
            raise _stopped(f"--ca-file: {path} is no certificate. It was left as it is.")
        write_atomically(path, certificate.encode())
        path.chmod(0o644)
    except OSError as error:
        raise _stopped(f"--ca-file: {path} can't be written: {error.strerror}.") from None


def _stopped(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)
