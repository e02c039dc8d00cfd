"""`jwks-guard incident`: refuse a leaked key everywhere, replace and revoke it, and keep record."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from jwks_guard import __version__
from jwks_guard.admin import Incident
from jwks_guard.admin.incident_record import document
from jwks_guard.admin.incident_report import Step
from jwks_guard.cli.completion import can_have_leaked
from jwks_guard.cli.configuration import default_journal
from jwks_guard.cli.fleet.consent import require_consent, require_terminal
from jwks_guard.cli.incident.drill import concluded, local_drill, measured
from jwks_guard.cli.incident.drill_staging import require_staging, staging_stage
from jwks_guard.cli.incident.screen import RadiusTable, Screen, print_conclusion, step_line
from jwks_guard.cli.incident.target import Target, opened_target
from jwks_guard.cli.incident.timeline import TimelineFile, opened_timeline
from jwks_guard.cli.keys.consent import YesOption
from jwks_guard.cli.keys.journal import JournalOption, journal_of, usable
from jwks_guard.cli.keys.kids import STATES
from jwks_guard.cli.keys.plan import print_plan
from jwks_guard.cli.keys.session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    JSONOption,
    complain,
    errors_told,
)
from jwks_guard.cli.keys.table import print_prose

_CHANGING = "with --yes write the kid: after a rotation, another key is the current one"


def incident(
    ctx: typer.Context,
    kid: Annotated[
        str | None,
        typer.Argument(
            metavar="KID",
            help="The leaked key: its ID, or its first 4 characters or more; current, next or "
            "previous. By default the current key, where the Management API is configured.",
            show_default=False,
            autocompletion=can_have_leaked,
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="Why, for the journal and the others on call."
        ),
    ] = "the key has leaked",
    refuse_first: Annotated[
        bool,
        typer.Option(
            "--refuse-first",
            help="Refuse the key before the tenant rotates, although that refuses every valid "
            "token if it is the current one.",
        ),
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(
            "--timeline",
            metavar="FILE",
            help="A new file for the record: Markdown, or JSON if it ends in .json.",
            show_default="in ~/.local/state/jwks-guard/incidents",
        ),
    ] = None,
    run_drill: Annotated[
        bool,
        typer.Option(
            "--drill",
            help="Do it on a local tenant with two guarded instances and traffic, and print the "
            "measured times. Nothing that is configured is touched.",
        ),
    ] = False,
    staging: Annotated[
        str | None,
        typer.Option(
            "--staging",
            metavar="HOST",
            help="Do the drill on the configured tenant, whose name this has to be: its current "
            "key is rotated and revoked for good.",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            metavar="URL",
            help="With --staging: what to ask with tokens of the key; for several, repeat it.",
            show_default=False,
        ),
    ] = None,
    yes: YesOption = False,
    journal: JournalOption = None,
    domain: DomainOption = None,
    client_id: ClientIDOption = None,
    config: ConfigOption = None,
    as_json: JSONOption = False,
) -> None:
    """A key has leaked: refuse it everywhere, rotate and revoke it, and show whom that hits.

    The current key is rotated first, and then refused by every instance at once; any other key is
    refused before the tenant is told. Without access to the Management API the key is refused, and
    that is all. A step that fails does not keep the next ones from their part. It can be repeated.

    The fleet is JWKS_GUARD_FLEET, with JWKS_GUARD_ISSUER or JWKS_GUARD_DOMAIN; `jwks-guard keys
    --help` has the settings of the tenant.

    Exit status: 0 all is done, 1 something is not done or not known, 2 usage, 3 neither the fleet
    nor the tenant could be reached.
    """
    if (staging is not None or probe) and not run_drill:
        raise typer.BadParameter("it takes --drill", param_hint="--staging, --probe")
    if run_drill and staging is None:
        raise typer.Exit(local_drill(timeline, as_json=as_json))
    with errors_told():
        if yes and (kid is None or kid in STATES) and staging is None:
            raise typer.BadParameter(_CHANGING, param_hint="KID")
        with opened_target(domain, client_id, config) as target:
            require_terminal(yes=yes)
            meant, kid = kid, target.kid(kid)
            if staging is not None:
                require_staging(target, staging, kid, probe or ())
            _agreed(target, kid, refuse_first=refuse_first, yes=yes, chosen=meant is None)
            record = opened_timeline(timeline, kid)
            if staging is not None:
                console = Console(stderr=as_json, highlight=False)
                stage = staging_stage(target, kid, probe or (), config, _journal(target, journal))
                evidence = target.run(measured(stage, console))
                raise typer.Exit(concluded(evidence, record, console, as_json=as_json))
            running = _incident(target, kid, reason, refuse_first, journal)
            target.run(_followed(running, record, as_json=as_json))
    report = running.report
    again = shlex.join(["jwks-guard", "incident", *_given(ctx), "--", kid])
    if as_json:
        path = None if record is None else str(record.path)
        typer.echo(json.dumps({**document(report, __version__), "timeline": path}, indent=2))
    else:
        console = Console(highlight=False)
        console.print()
        print_conclusion(report, again, console)
        if record is not None:
            where = f"The timeline is in {record.path}"
            missing = "" if record.complete else ", but its end could not be written"
            console.print(f"{where}{missing}", soft_wrap=True, markup=False)
    if report.complete:
        raise typer.Exit(0)
    raise typer.Exit(3 if report.nothing_done and report.unreached else 1)


def _given(ctx: typer.Context) -> Iterator[str]:
    """The options that say what it is about, as they were given; the environment is still there."""
    for name in ("domain", "client_id", "config", "journal", "refuse_first"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield f"--{name.replace('_', '-')}"
            if name != "refuse_first":
                yield str(ctx.params[name])


def _agreed(target: Target, kid: str, *, refuse_first: bool, yes: bool, chosen: bool) -> None:
    """Show whom it hits and what will happen; return if the user agrees, else end the command.

    `chosen` is whether the command took the current key, and the user named none.
    """
    plan = target.plan(kid, refuse_first=refuse_first)
    if yes:
        target.require_known(kid)
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"kid  {kid}", soft_wrap=True, markup=False)
    if chosen and (doubt := target.doubt()) is not None:
        print_prose(doubt, console, style="bold yellow")
    console.print(RadiusTable(target.radius(kid)))
    console.print()
    print_plan(plan, console)
    console.print()
    require_consent("go on with", kid, yes=yes)


def _incident(
    target: Target, kid: str, reason: str, refuse_first: bool, journal: Path | None
) -> Incident:
    kept = _journal(target, journal)
    rotation = target.rotation(kept)
    if rotation is not None:
        # If the tenant can't be asked, the user has agreed to refuse the key all the same.
        first = refuse_first or target.keys is None
        return Incident(kid, rotation, reason=reason, refuse_first=first)
    return Incident(kid, target.fleet or (), reason=reason, journal_path=kept)


def _journal(target: Target, named: Path | None) -> Path | None:
    session = target.session
    path = journal_of(session, named) if session else named or default_journal(os.environ)
    return usable(path, emergency=True)


async def _followed(running: Incident, record: TimelineFile | None, *, as_json: bool) -> None:
    """Carry it out; Ctrl-C ends it, with the record of what was done."""
    console = Console(stderr=as_json, highlight=False)

    def note() -> None:
        if record is not None:
            record.write(running.report)

    try:
        if as_json or not console.is_terminal:
            await _told(running, note, None if as_json else console)
        else:
            await _shown(running, note, console)
    except asyncio.CancelledError:
        complain("Interrupted. What was begun at the tenant may still be done there.")
    finally:
        note()
        if record is not None:
            record.close()


async def _told(running: Incident, note: Callable[[], None], console: Console | None) -> None:
    async for step in running.run():
        note()
        if console is not None and step.ended is not None:
            with suppress(OSError, SystemExit):  # nobody reads on, and Rich would end the command
                step_line(step, console)
    if console is not None:
        for each in Screen(running.report).hits:
            console.print(each)


async def _shown(running: Incident, note: Callable[[], None], console: Console) -> None:
    with Live(Screen(running.report), console=console, refresh_per_second=8) as live:

        def show(_: Step | None = None) -> None:
            note()
            live.update(Screen(running.report), refresh=True)

        try:
            async for step in running.run():
                show(step)
        finally:
            show()
