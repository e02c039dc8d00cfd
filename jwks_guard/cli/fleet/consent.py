"""Consent to a decision about one key: its end is typed, so that no other one is meant."""

from __future__ import annotations

import sys

import typer

from jwks_guard.cli.keys.consent import nothing_done_if_aborted
from jwks_guard.cli.words import counted, printable
from jwks_guard.errors import ConfigurationError

_TYPED = 4  # characters


def require_terminal(*, yes: bool) -> None:
    """Raise ConfigurationError where nobody can be asked and `yes` is not given."""
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "Standard input is not a terminal, so the command can't ask for consent: add --yes to "
            "do it without asking. Nothing was done."
        )


def require_consent(verb: str, kid: str, *, yes: bool) -> None:
    """Return if the user types the end of `kid`, or `yes` is given; else end the command."""
    if yes:
        return
    end = printable(kid)[-_TYPED:]
    question = f"To {verb} it, type the last {counted(len(end), 'character')} of its kid"
    with nothing_done_if_aborted():
        typed: str = typer.prompt(question, default="", show_default=False, err=True)
    if typed.strip() == end.strip():
        return
    typer.echo("That is not how the kid ends. Nothing was done.", err=True)
    raise typer.Exit(1)
