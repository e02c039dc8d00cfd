"""An incident on one screen: its steps, whose tokens it hits, and who refuses the key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jwks_guard.admin.incident_report import BlastRadius, IncidentReport, Outcome, Step
from jwks_guard.cli.keys.table import print_prose, utc
from jwks_guard.cli.words import counted, printable

_MARKS: dict[Outcome, tuple[str, str]] = {
    "running": ("..", "bold"),
    "ok": ("ok", "green"),
    "warning": ("??", "bold yellow"),
    "failed": ("NO", "bold red"),
    "skipped": ("--", "dim"),
}
_WIDTH = 100
_MOST_CLIENTS, _MOST_INSTANCES = 7, 5
_NAME = 13  # characters


@dataclass(frozen=True, slots=True)
class Screen:
    """What an incident has come to, to be printed or shown live."""

    report: IncidentReport

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The head, the steps, the blast radius and the instances."""
        report = self.report
        yield Text(printable(report.issuer), "bold", overflow="fold")
        yield Text(f"kid {printable(report.kid)}", overflow="fold")
        yield Text()
        steps = Table.grid(padding=(0, 2, 0, 0))
        steps.add_column()
        steps.add_column(min_width=_NAME)
        steps.add_column(justify="right", min_width=7)
        steps.add_column(overflow="fold", max_width=_WIDTH - _NAME - 19)
        for step in report.steps:
            mark, style = _MARKS[step.result]
            steps.add_row(Text(mark, style), step.name, _took(step), Text(printable(step.detail)))
        yield steps
        yield from self.hits

    @property
    def hits(self) -> Iterator[RenderableType]:
        """The blast radius and the instances, as far as they are known."""
        report = self.report
        if report.radius is not None:
            yield Text()
            yield RadiusTable(report.radius)
        if report.refusals:
            yield Text()
            yield from _instances(report)


@dataclass(frozen=True, slots=True)
class RadiusTable:
    """The accepted tokens of the last hour by client and organization, the most first."""

    radius: BlastRadius

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A heading, and a row for each client."""
        if not self.radius.instances:
            yield Text("No instance shows whose tokens of it were accepted.", "bold yellow")
            return
        clients, others = self.radius.clients, self.radius.others
        shown = clients[:_MOST_CLIENTS]
        others += sum(each.accepted for each in clients[_MOST_CLIENTS:])
        tokens = counted(self.radius.tokens, "token")
        yield Text(f"{tokens} of it accepted in the last hour", "bold")
        if not self.radius.tokens:
            return
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("tokens", justify="right")
        table.add_column("client", overflow="fold")
        table.add_column("organization", overflow="fold")
        for each in shown:
            table.add_row(str(each.accepted), _name(each.client), _name(each.organization))
        if others:
            table.add_row(str(others), Text("others", "dim"), "")
        yield Padding(table, (0, 0, 0, 2))


def step_line(step: Step, console: Console) -> None:
    """Print one step that has ended, for output that is no terminal."""
    mark, _ = _MARKS[step.result]
    head = f"{mark}  {step.name:<{_NAME}}  {_took(step):>7}  "
    print_prose(f"{head}{step.detail}", console, hanging=" " * len(head))


def print_conclusion(report: IncidentReport, again: str, console: Console) -> None:
    """Print whether all is done, and what is left to do."""
    if report.complete:
        refused = "refused everywhere, " if report.refusals else ""
        where = "revoked, and gone from the key set" if report.at_tenant else ""
        print_prose(
            f"{report.kid} is {refused}{where}".rstrip(", ") + ".", console, style="bold green"
        )
        if not report.at_tenant:
            print_prose("At the tenant nothing was changed: rotate and revoke it there.", console)
        return
    headline = "Nothing was done." if report.nothing_done else "Not everything is done or known."
    print_prose(headline, console, style="bold red" if report.nothing_done else "bold yellow")
    first = (
        "A change that was begun may still be made at the tenant. Wait a few minutes, look at "
        "`jwks-guard keys list`, and then run it again"
        if report.uncertain
        else "Remove the cause that a step names, and run it again"
    )
    print_prose(f"{first}: it does what is left, and never rotates twice.", console)
    console.print(Text(f"  {printable(again)}"), soft_wrap=True)


def _instances(report: IncidentReport) -> Iterator[Text]:
    refusing = [each for each in report.refusals if each.since is not None]
    missing = [each for each in report.refusals if each.since is None]
    total = counted(len(report.refusals), "instance")
    style = "bold yellow" if missing else "bold green"
    yield Text(f"{len(refusing)} of {total} refuse it", style)
    for each in [*missing, *refusing][:_MOST_INSTANCES]:
        since = f"{utc(each.since, 'milliseconds')} UTC" if each.since else f"{'NOT KNOWN':<27}"
        yield Text(f"  {since}  {printable(each.who)}", overflow="fold")
    if (more := len(report.refusals) - _MOST_INSTANCES) > 0:
        yield Text(f"  and {counted(more, 'more instance')}", "dim")


def _took(step: Step) -> str:
    """How long it took, or since when it runs."""
    if step.ended is None:
        return ""
    return f"{step.ended - step.began:.2f} s"


def _name(text: str | None) -> Text:
    return Text("-", "dim") if text is None else Text(printable(text))
