"""Consent to a change of a tenant's keys, and how its result is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from jwks_guard.admin.plans import Plan
from jwks_guard.cli.keys.plan import print_plan
from jwks_guard.errors import ConfigurationError

YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking; scripts need this.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would happen, and change nothing.")
]


@dataclass(frozen=True, slots=True)
class Consent:
    """How the user agrees to a plan; raises ConfigurationError if that is not possible."""

    yes: bool
    dry_run: bool
    as_json: bool

    def __post_init__(self) -> None:
        if not self.yes and not self.dry_run and not sys.stdin.isatty():
            raise ConfigurationError(
                "Standard input is not a terminal, so the command can't ask for consent: add --yes "
                "to do it without asking, or --dry-run to see the plan. Nothing was done."
            )

    def require(self, plan: Plan) -> None:
        """Show `plan`; return if the user agrees, else end the command."""
        if self.dry_run:
            self.answer(plan.to_dict(), lambda console: print_plan(plan, console))
            raise typer.Exit(0)
        if not (self.yes and self.as_json):
            console = Console(stderr=self.as_json, highlight=False)
            print_plan(plan, console)
            console.print()
        with nothing_done_if_aborted():
            if self.yes or not plan.question or typer.confirm(plan.question, err=True):
                return
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(1)

    def answer(self, document: dict[str, Any], printed: Callable[[Console], None]) -> None:
        """Print a result on standard output: as one JSON document, or for people."""
        if self.as_json:
            typer.echo(json.dumps(document, indent=2))
        else:
            printed(Console(highlight=False))


@contextmanager
def nothing_done_if_aborted() -> Iterator[None]:
    """End the command with these words where Ctrl-C or Ctrl-D answers the question."""
    try:
        yield
    except typer.Abort:
        typer.echo("\nNothing was done.", err=True)
        raise typer.Exit(1) from None
