"""`jwks-guard incident --drill`: an incident on a local tenant, measured, as evidence."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import typer
from rich.console import Console
from rich.text import Text

from jwks_guard import __version__
from jwks_guard.admin import Incident
from jwks_guard.admin.incident_record import markdown
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.cli.incident.drill_local import local_stage
from jwks_guard.cli.incident.drill_traffic import Answer, Stage
from jwks_guard.cli.incident.screen import Screen, step_line
from jwks_guard.cli.incident.timeline import TimelineFile, opened_timeline
from jwks_guard.cli.keys.session import complain, errors_told
from jwks_guard.cli.keys.table import print_prose, utc

_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 0.5
_NEW_SECONDS = 10.0
"""The tenant has that long to sign a first token by the new key."""
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
    place: str
    software: str
    measures: tuple[Measure, ...]
    report: IncidentReport

    @property
    def held(self) -> bool:
        """Whether the incident was completed, and everything is as it has to be."""
        return self.report.complete and all(each.held for each in self.measures)

    @property
    def head(self) -> str:
        """When, where and with what, in words."""
        return f"{utc(self.at, 'seconds')} UTC, {self.software}; {self.place}"


def local_drill(timeline: Path | None, *, as_json: bool) -> int:
    """Carry it out on this machine and print the evidence; gives the exit status."""
    console = Console(stderr=as_json, highlight=False)
    with errors_told():
        record = None if timeline is None else opened_timeline(timeline, "drill")
        try:
            evidence = asyncio.run(measured(local_stage(), console))
        except TimeoutError:
            complain("The instances of the drill did not start in time. Nothing was measured.")
            return 1
        except KeyboardInterrupt:
            complain("Interrupted. The drill's tenant and instances have ended.")
            return 1
    return concluded(evidence, record, console, as_json=as_json)


def concluded(
    evidence: Evidence, record: TimelineFile | None, console: Console, *, as_json: bool
) -> int:
    """Print the evidence and write it into the record; gives the exit status."""
    if record is not None:
        _write(record, evidence)
        record.close()
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


async def measured(opening: AbstractAsyncContextManager[Stage], console: Console) -> Evidence:
    """Carry out an incident there, under traffic, and measure it."""
    async with opening as stage:
        print_prose(f"A drill: {stage.kid} has leaked, the current key.", console, style="bold")
        incident = Incident(stage.kid, stage.rotation, reason="a drill")
        async with stage.traffic.flowing():
            await asyncio.sleep(_BEFORE_SECONDS)
            moments = await _followed(incident, console)
            await asyncio.sleep(_AFTER_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(stage.traffic.renewed.wait(), _NEW_SECONDS)
    for each in Screen(incident.report).hits:
        console.print(each)
    return Evidence(
        datetime.now(UTC),
        stage.place,
        f"jwks-guard {__version__}, Python {platform.python_version()}, {platform.system()}",
        tuple(measures_of(incident.report, stage.traffic.answers, *moments)),
        incident.report,
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
    report: IncidentReport, answers: Sequence[Answer], decided: float, acknowledged: float
) -> Iterator[Measure]:
    """What follows from the answers that clients got and from the steps."""
    leaked = [each for each in answers if each.leaked]
    before = sum(each.accepted and each.received < decided for each in leaked)
    last = max((each.received for each in leaked if each.accepted), default=decided)
    late = [each for each in leaked if each.sent > acknowledged]
    new = [each for each in answers if not each.leaked]
    accepted = sum(each.accepted for each in late)
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
        accepted == 0,  # an answer may be under way longer than the decision
    )
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
        "place": evidence.place,
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
    record.write_text("\n".join([markdown(evidence.report, __version__), *table, *rows, ""]))
