"""The session of a `keys` command: options, a client, progress, and exit statuses."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from jwks_guard.admin import AdminEvent, KeyRotation, SigningKeysClient
from jwks_guard.base.settings_reader import FILE_VARIABLE, PREFIX
from jwks_guard.cli.completion import any_key, previously_used
from jwks_guard.cli.configuration import Configuration, configured
from jwks_guard.cli.keys.table import print_prose
from jwks_guard.cli.words import printable
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    EnvironmentVariableError,
    JWKSGuardError,
    KeysUnavailableError,
    RateLimitedError,
    UnavailableError,
)
from jwks_guard.fleet.settings import ConfiguredFleet

DomainOption = Annotated[
    str | None,
    typer.Option(
        "--domain",
        envvar=PREFIX + "DOMAIN",
        metavar="HOST",
        help="The tenant, for example acme.eu.auth0.com.",
    ),
]
ClientIDOption = Annotated[
    str | None,
    typer.Option(
        "--client-id",
        envvar=PREFIX + "CLIENT_ID",
        metavar="ID",
        help="The machine-to-machine application.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=FILE_VARIABLE,
        metavar="FILE",
        help="TOML file with settings; the environment wins.",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_KID_HELP = (
    "The key's ID, or its first 4 characters or more if no other begins with them; or current, "
    "next or previous. After -- if it begins with a dash."
)
KIDArgument = Annotated[str, typer.Argument(metavar="KID", help=_KID_HELP, autocompletion=any_key)]
RevocableKIDArgument = Annotated[
    str, typer.Argument(metavar="KID", help=_KID_HELP, autocompletion=previously_used)
]

UNREACHABLE = (
    *(UnavailableError, RateLimitedError, DistrustNotSharedError, KeysUnavailableError),
    EnvironmentVariableError,
)
"""The tenant or the fleet does not answer now, or can't be asked from here."""
_T = TypeVar("_T")


@dataclass(slots=True)
class Session:
    """A client of the configured tenant and its fleet, on an event loop that runs in `run` only.

    Prompts belong between two calls of `run`: inside, Ctrl-C cancels a task instead of ending them.
    """

    configuration: Configuration
    quiet: bool
    _runner: asyncio.Runner
    client: SigningKeysClient = field(init=False)
    fleet: ConfiguredFleet | None = field(init=False)
    _stderr: Console = field(init=False)
    _status: Status | None = field(init=False, default=None)
    _last_step: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._stderr = Console(stderr=True, highlight=False)
        self.client = SigningKeysClient(
            self.configuration.domain, auth=self.configuration.auth, sleep=self._sleep
        )
        self.fleet = self.configuration.fleet()

    def rotation(self, journal: Path | None = None, confirm_within: float = 120.0) -> KeyRotation:
        """A KeyRotation for the tenant and the fleet."""
        return self.configuration.rotation(
            self.client,
            self.fleet,
            journal=journal,
            on_event=self.on_event,
            confirm_within=confirm_within,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        if self.fleet is not None:
            await self.fleet.aclose()

    def run(self, doing: Coroutine[Any, Any, _T], *again: str) -> _T:
        """Return the result of `doing`; a terminal shows the progress.

        `again` is the `keys` command that is safe to repeat if this is cut off.
        """
        try:
            return self._waited_for(doing)
        except KeyboardInterrupt:
            if not self._last_step:
                raise
            complain("Interrupted. It is not known what the tenant has done.", _what_now(again))
            raise typer.Exit(1) from None
        except JWKSGuardError as error:
            if self._last_step:
                error.add_note(_what_now(again))
            raise

    def _waited_for(self, doing: Coroutine[Any, Any, _T]) -> _T:
        if self.quiet or not self._stderr.is_terminal:
            return self._runner.run(doing)
        try:
            with self._stderr.status(Text("Asking the tenant...")) as self._status:
                return self._runner.run(doing)
        finally:
            self._status = None

    def on_event(self, event: AdminEvent) -> None:
        """Show the step of an operation."""
        self._last_step = event.step
        if event.step == "acknowledged":
            self._show(f"{event.intent.kid} is revoked; waiting until it has left the JWKS...")
        elif event.step == "rotated" and event.intent.emergency:
            self._show(f"Rotated; revoking {event.intent.kid}...")

    async def _sleep(self, seconds: float) -> None:
        if self._last_step != "acknowledged":
            self._show(f"No clear answer; looking again in {seconds:.1f} s...")
        await asyncio.sleep(seconds)

    def _show(self, text: str) -> None:
        if self._status is not None:
            self._status.update(Text(printable(text)))


@contextmanager
def opened(
    domain: str | None, client_id: str | None, file: Path | None, *, quiet: bool
) -> Iterator[Session]:
    """A session with the tenant that options, environment and file name.

    `quiet` shows no progress.
    """
    options = {"domain": domain, "client_id": client_id}
    ask = _secret if sys.stdin.isatty() else None
    configuration = configured(options, os.environ, file, ask)
    with asyncio.Runner() as runner:
        session = Session(configuration, quiet, runner)
        try:
            yield session
        finally:
            runner.run(session.aclose())


@contextmanager
def errors_told() -> Iterator[None]:
    """Print an error of the library, and end with its exit status."""
    try:
        yield
    except JWKSGuardError as error:
        complain(str(error), *getattr(error, "__notes__", ()))
        raise typer.Exit(_status_of(error)) from None


def complain(*paragraphs: str) -> None:
    """Print why something is not done to standard error."""
    console = Console(stderr=True, highlight=False)
    for number, paragraph in enumerate(paragraphs):
        text, style = printable(paragraph), "" if number else "bold red"
        if console.is_terminal:
            print_prose(
                text, console, hanging="    " if text.startswith("  - ") else "", style=style
            )
        else:
            console.print(Text(text, style), soft_wrap=True)


def _what_now(again: tuple[str, ...]) -> str:
    repeat = f" It is safe to repeat this: `jwks-guard keys {shlex.join(again)}`." if again else ""
    return f"`jwks-guard keys list` shows where the keys are now.{repeat}"


def _status_of(error: JWKSGuardError) -> int:
    if isinstance(error, UNREACHABLE):
        return 3
    return 2 if isinstance(error, ConfigurationError) else 1


def _secret(client_id: str) -> str:
    secret: str = typer.prompt(
        f"Client secret of {printable(client_id)}", hide_input=True, err=True
    )
    return secret
