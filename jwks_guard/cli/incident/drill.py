"""`jwks-guard incident --drill`: an incident on a local tenant, measured, as evidence."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import typer
from rich.console import Console
from rich.text import Text

from jwks_guard import __version__
from jwks_guard.admin import ClientCredentials, Incident, KeyRotation, SigningKeysClient
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.cli.incident.drill_stage import Answer, opened_stage
from jwks_guard.cli.incident.screen import Screen, step_line
from jwks_guard.cli.incident.timeline import TimelineFile, markdown, opened_timeline
from jwks_guard.cli.keys.session import complain, errors_told
from jwks_guard.cli.keys.table import print_prose, utc
from jwks_guard.cli.words import counted

_INSTANCES = 2
_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 0.5
_COLUMN = 50  # characters


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that was measured, and whether it is as it has to be."""

    name: str
    measured: str
    held: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a drill has measured, where, when, and with which versions."""

    at: datetime
    issuer: str
    instances: int
    measures: tuple[Measure, ...]
    report: IncidentReport
    software: str

    @property
    def held(self) -> bool:
        """Whether the incident was completed, and everything is as it has to be."""
        return self.report.complete and all(each.held for each in self.measures)

    @property
    def head(self) -> str:
        """When, where and with what, in words."""
        where = f"{counted(self.instances, 'instance')}, each a process, over HTTP; local tenant"
        return f"{utc(self.at, 'seconds')} UTC, {self.software}; {where}"


def drill(timeline: Path | None, *, as_json: bool) -> int:
    """Carry it out and print the evidence; gives the exit status."""
    console = Console(stderr=as_json, highlight=False)
    with errors_told():
        record = None if timeline is None else opened_timeline(timeline, "drill")
        try:
            evidence = asyncio.run(_measured(console))
        except TimeoutError:
            complain("The instances of the drill did not start in time. Nothing was measured.")
            return 1
        except KeyboardInterrupt:
            complain("Interrupted. The drill's tenant and instances have ended.")
            return 1
        if record is not None:
            _write(record, evidence)
    if as_json:
        typer.echo(json.dumps(_document(evidence), indent=2))
    else:
        print_evidence(evidence, console)
    return 0 if evidence.held else 1


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Print what was measured."""
    console.print(Text("\nEvidence", "bold"))
    print_prose(evidence.head, console, style="dim")
    for each in evidence.measures:
        mark = ("ok", "green") if each.held else ("NO", "bold red")
        name = f"  {each.name:<{_COLUMN}}  "
        console.print(Text.assemble("  ", mark, name, (each.measured, "cyan")))
    if evidence.held:
        console.print(Text("The drill was completed.", "bold green"))
    else:
        console.print(Text("Something is not as it has to be.", "bold red"))


async def _measured(console: Console) -> Evidence:
    console.print(Text("A drill: the current key of a local tenant has leaked.", "bold"))
    async with opened_stage(_INSTANCES) as stage:
        tenant = stage.tenant
        auth = ClientCredentials(tenant.client_id, tenant.client_secret)
        async with SigningKeysClient(tenant.issuer, auth=auth) as client:
            kid = tenant.key().kid
            incident = Incident(kid, KeyRotation(client, stage.fleet), reason="a drill")
            async with stage.used(kid):
                await asyncio.sleep(_BEFORE_SECONDS)
                moments = await _followed(incident, console)
                await asyncio.sleep(_AFTER_SECONDS)
    for each in Screen(incident.report).hits:
        console.print(each)
    return Evidence(
        datetime.now(UTC),
        tenant.issuer,
        len(stage.urls),
        tuple(measures_of(incident.report, stage.answers, *moments)),
        incident.report,
        f"jwks-guard {__version__}, Python {platform.python_version()}, {platform.system()}",
    )


async def _followed(incident: Incident, console: Console) -> tuple[float, float]:
    """When the decision was made to refuse the key, and when every instance had acknowledged it."""
    decided = acknowledged = perf_counter()
    async for step in incident.run():
        if step.ended is None:
            decided = perf_counter() if step.name == "refuse" else decided
        else:
            acknowledged = perf_counter() if step.name == "acknowledge" else acknowledged
            step_line(step, console)
    return decided, acknowledged


def measures_of(
    report: IncidentReport, answers: list[Answer], decided: float, acknowledged: float
) -> Iterator[Measure]:
    """What follows from the answers that clients got and from the steps."""
    leaked = [each for each in answers if each.leaked]
    before = sum(each.accepted and each.received < decided for each in leaked)
    last = max((each.received for each in leaked if each.accepted), default=decided)
    late = [each for each in leaked if each.sent > acknowledged]
    new = [each for each in answers if not each.leaked]
    steps = {step.name: step for step in report.steps}

    yield Measure("accepted with the leaked key before the decision", str(before), before > 0)
    yield Measure(
        "decision to the last acknowledgement",
        _seconds(acknowledged - decided),
        steps["acknowledge"].result == "ok",
    )
    yield Measure(
        "decision to the last token accepted anywhere",
        _seconds(max(0.0, last - decided)),
        last <= acknowledged,
    )
    accepted = sum(each.accepted for each in late)
    yield Measure(
        "accepted once all had acknowledged",
        f"{accepted} of {len(late)}",
        accepted == 0 < len(late),
    )
    for name, says in (
        ("rotate", "rotation at the tenant"),
        ("revoke", "revocation at the tenant"),
        ("key set", "revocation to the key set without the key"),
    ):
        step = steps.get(name)  # type: ignore[call-overload]
        took = None if step is None or step.ended is None else step.ended - step.began
        held = step is not None and step.result == "ok"
        yield Measure(says, "not done" if took is None else _seconds(took), held)
    refused = sum(not each.accepted for each in new)
    yield Measure(
        "refused with a token of the new key", f"{refused} of {len(new)}", refused == 0 < len(new)
    )
    yield Measure("the whole incident", _seconds(report.steps[-1].ended or 0.0), report.complete)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s"


def _document(evidence: Evidence) -> dict[str, object]:
    return {
        "at": evidence.at.isoformat(),
        "software": evidence.software,
        "instances": evidence.instances,
        "held": evidence.held,
        "measures": [asdict(each) for each in evidence.measures],
        "incident": evidence.report.to_dict(),
    }


def _write(record: TimelineFile, evidence: Evidence) -> None:
    if record.path.suffix == ".json":
        record.write_text(json.dumps(_document(evidence), indent=2) + "\n")
        return
    rows = [f"| {e.name} | {e.measured} | {'ok' if e.held else 'NO'} |" for e in evidence.measures]
    table = [
        "## Evidence of the drill",
        "",
        evidence.head,
        "",
        "| what | measured | |",
        "|---|---|---|",
    ]
    record.write_text("\n".join([markdown(evidence.report), *table, *rows, ""]))
