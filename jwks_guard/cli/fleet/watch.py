"""`jwks-guard watch`: what every instance of a fleet does with every key, as it happens."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.cli.fleet.tables import KidsTable, output
from jwks_guard.cli.keys.session import (
    UNREACHABLE,
    ConfigOption,
    DomainOption,
    JSONOption,
    errors_told,
)
from jwks_guard.cli.words import date, printable
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.commands import live
from jwks_guard.fleet.settings import ConfiguredFleet
from jwks_guard.readiness.state import InstanceState

_LOOK_SECONDS = 1.0
_ANY_KID = "-"  # states do not depend on the kid
_ID_CHARS = 8
_NO_SUCH_INSTANCE = (
    "--dismiss: no single instance of the fleet has this id. Nothing was changed. Give the whole "
    f"id, or its first {_ID_CHARS} characters: `jwks-guard watch --once` shows them in brackets."
)


@runtime_checkable
class Dismissing(Protocol):
    """A fleet that remembers instances which are gone."""

    async def dismiss(self, instance: str) -> int:
        """Forget one; gives how many states it had."""
        ...


@dataclass(slots=True)
class View:
    """What was seen last, of whom, and why there is nothing newer, where that is so."""

    issuer: str
    at: float
    states: tuple[InstanceState, ...]
    error: str | None = None

    def __rich__(self) -> Group:
        """The table, with ages as they are at this moment."""
        now = time.time()
        when = date(now, now).partition(",")[0]
        head = f"{printable(self.issuer)}   {when}   instances: {len(self.states)}"
        parts: list[RenderableType] = [Text(head, "bold")]
        if self.error is not None:
            parts.append(Text(printable(self.error), "bold red"))
        parts.append(KidsTable(self.states, now) if self.states else Text("No instance reports."))
        return Group(*parts)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    dismiss: Annotated[
        str | None,
        typer.Option(
            "--dismiss",
            metavar="INSTANCE",
            help="Forget an instance that has ended for good: its id, or the first 8 characters.",
        ),
    ] = None,
    domain: DomainOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """Show every instance of the fleet and what it does with each key, anew every second.

    JWKS_GUARD_FLEET names the fleet, JWKS_GUARD_DOMAIN or JWKS_GUARD_ISSUER the issuer of the keys.
    Without a terminal it is shown once. Ctrl-C ends it.

    Exit status: 0 shown, 1 no instance reports, 2 usage, 3 the fleet could not be reached.
    """
    if as_json and not once:
        raise typer.BadParameter("it takes --once as well", param_hint="--json")
    console = output()
    with errors_told():
        fleet = configured_fleet({"domain": domain}, os.environ, config)
        if dismiss is not None:
            typer.echo(f"{printable(asyncio.run(_dismissed(fleet, dismiss)))} is forgotten.")
            return
        view = asyncio.run(_watched(fleet, console, once=once or not console.is_terminal))
    if as_json:
        typer.echo(json.dumps(_document(view), indent=2))
    elif once or not console.is_terminal:
        console.print(view)
    raise typer.Exit(0 if view.states else 1)


async def _dismissed(fleet: ConfiguredFleet, named: str) -> str:
    """The name of the instance that was dismissed; raises ConfigurationError."""
    try:
        states, now = await _looked(fleet), time.time()
        found = [state for state in states if state.instance.startswith(named)]
        if len(named) < _ID_CHARS or len(found) != 1:
            raise ConfigurationError(_NO_SUCH_INSTANCE)
        if live(found, now):
            raise ConfigurationError(f"--dismiss: {found[0].name} still reports. Stop it first.")
        if not isinstance(fleet, Dismissing):
            raise ConfigurationError("--dismiss: take its URL out of JWKS_GUARD_FLEET instead.")
        await fleet.dismiss(found[0].instance)
        return found[0].name
    finally:
        await fleet.aclose()


async def _watched(fleet: ConfiguredFleet, console: Console, *, once: bool) -> View:
    """What was seen last: at once, or when Ctrl-C came."""
    try:
        view = View(fleet.issuer, time.time(), await _looked(fleet))
        if not once:
            await _show(fleet, view, console)
        return view
    finally:
        await fleet.aclose()


async def _show(fleet: ConfiguredFleet, view: View, console: Console) -> None:
    with Live(view, console=console, refresh_per_second=2):
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                await _look_again(fleet, view)
        except asyncio.CancelledError:
            pass  # Ctrl-C: what was seen last stays on the terminal


async def _look_again(fleet: ConfiguredFleet, view: View) -> None:
    try:
        view.states, view.at, view.error = await _looked(fleet), time.time(), None
    except UNREACHABLE as error:
        view.error = str(error)


async def _looked(fleet: ConfiguredFleet) -> tuple[InstanceState, ...]:
    return (await fleet.observe(_ANY_KID)).states


def _document(view: View) -> dict[str, object]:
    states = [state.to_dict() for state in view.states]
    return {"issuer": view.issuer, "at": view.at, "instances": states}
