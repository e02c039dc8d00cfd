"""`jwks-guard watch`: what every instance of a fleet does with every key, as it happens."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from jwks_guard.admin.decisions import dismiss
from jwks_guard.cli.completion import in_fleet
from jwks_guard.cli.configuration import configured_fleet
from jwks_guard.cli.fleet.status_text import NO_INSTANCE
from jwks_guard.cli.fleet.tables import KidsTable, output
from jwks_guard.cli.keys.kids import matching
from jwks_guard.cli.keys.session import (
    UNREACHABLE,
    ConfigOption,
    DomainOption,
    JSONOption,
    errors_told,
)
from jwks_guard.cli.words import counted, date, printable
from jwks_guard.errors import ConfigurationError
from jwks_guard.fleet.settings import ConfiguredFleet
from jwks_guard.readiness.state import InstanceState

_LOOK_SECONDS = 1.0
_ANY_KID = "-"  # states do not depend on the kid
_ID_CHARS = 8
_NO_SUCH_INSTANCE = (
    "--dismiss: no single instance of the fleet has this id. Nothing was changed. Give the whole "
    f"id, or its first {_ID_CHARS} characters: `jwks-guard watch --once` shows them in brackets."
)


@dataclass(slots=True)
class View:
    """What was seen last, of whom, and why there is nothing newer, where that is so."""

    issuer: str
    at: float
    states: tuple[InstanceState, ...]
    error: str | None = None
    kid: str | None = None

    def __rich__(self) -> Group:
        """The table, with ages as they are at this moment."""
        now = time.time()
        when = date(now, now).partition(",")[0]
        head = f"{printable(self.issuer)}   {when}   {counted(len(self.states), 'instance')}"
        parts: list[RenderableType] = [Text(head, "bold")]
        if self.error is not None:
            parts.append(Text(printable(self.error), "bold red"))
        shown = self.shown
        if shown and not self.found:
            kid = printable(self.kid or "")
            parts.append(Text(f"No instance knows the key {kid}.", "bold yellow"))
        else:
            parts.append(KidsTable(shown, now) if shown else Text(NO_INSTANCE))
        return Group(*parts)

    @property
    def found(self) -> bool:
        """Whether an instance reports, and one knows the key that is asked for."""
        return any(self.kid is None or _shows_a_key(state) for state in self.shown)

    @property
    def shown(self) -> tuple[InstanceState, ...]:
        """The states; of one key alone if that is asked for."""
        return self.states if self.kid is None else tuple(_only(s, self.kid) for s in self.states)


def watch(
    kid: Annotated[
        str | None,
        typer.Argument(
            metavar="KID",
            help="Show this key alone: its ID, or its first 4 characters or more.",
            show_default=False,
            autocompletion=in_fleet,
        ),
    ] = None,
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

    Exit status: 0 shown, 1 no instance reports or knows KID, 2 usage, 3 the fleet could not be
    reached.
    """
    if as_json and not once:
        raise typer.BadParameter("it takes --once as well", param_hint="--json")
    console = output()
    with errors_told():
        fleet = configured_fleet({"domain": domain}, os.environ, config)
        if dismiss is not None:
            typer.echo(f"{printable(asyncio.run(_dismissed(fleet, dismiss)))} is forgotten.")
            return
        view = asyncio.run(_watched(fleet, console, kid, once=once or not console.is_terminal))
    if as_json:
        typer.echo(json.dumps(_document(view), indent=2))
    elif once or not console.is_terminal:
        console.print(view)
    raise typer.Exit(0 if view.found else 1)


async def _dismissed(fleet: ConfiguredFleet, named: str) -> str:
    """The name of the instance that was dismissed; raises ConfigurationError."""
    try:
        states, now = await _looked(fleet), time.time()
        found = [state for state in states if state.instance.startswith(named)]
        if len(named) < _ID_CHARS or len(found) != 1:
            raise ConfigurationError(_NO_SUCH_INSTANCE)
        return await dismiss((fleet,), found[0].instance, now)
    finally:
        await fleet.aclose()


async def _watched(
    fleet: ConfiguredFleet, console: Console, kid: str | None, *, once: bool
) -> View:
    """What was seen last: at once, or when Ctrl-C came."""
    try:
        view = View(fleet.issuer, time.time(), await _looked(fleet), kid=kid)
        if kid is not None:
            kids = {each for s in view.states for each in (*s.kids, *s.refused, *s.usage)}
            view.kid = matching(kid, kids) or kid
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
    states = [state.to_dict() for state in view.shown]
    return {"issuer": view.issuer, "at": view.at, "instances": states}


def _shows_a_key(state: InstanceState) -> bool:
    return bool(state.kids or state.refused or state.usage)


def _only(state: InstanceState, kid: str) -> InstanceState:
    """What the instance shows of that key."""
    return replace(
        state,
        kids=tuple(each for each in state.kids if each == kid),
        refused={each: at for each, at in state.refused.items() if each == kid},
        usage={each: usage for each, usage in state.usage.items() if each == kid},
    )
