"""The record of an incident, for the post-mortem: as a Markdown document, or as JSON."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.base.text import printable


def document(report: IncidentReport, version: str) -> dict[str, object]:
    """The report as JSON-compatible data, with the `version` of this library that made it."""
    return {**report.to_dict(), "version": version}


def markdown(report: IncidentReport, version: str) -> str:
    """The report as a Markdown document, with the `version` of this library that made it."""
    state = "complete" if report.complete else "NOT complete"
    lines = [
        f"# A leaked key: `{_cell(report.kid)}`",
        "",
        f"- issuer: {_cell(report.issuer)}",
        f"- reason: {_cell(report.reason)}",
        f"- by: {_cell(report.actor)}",
        f"- began: {_utc(report.began_at)} UTC",
        f"- result: {state}",
        f"- written by jwks-guard {version}",
        "",
        "## Timeline",
        "",
        "| began (UTC) | after | took | step | result | what |",
        "|---|---|---|---|---|---|",
    ]
    for step in report.steps:
        began = _utc(report.began_at + timedelta(seconds=step.began))
        took = "" if step.ended is None else f"{step.ended - step.began:.3f} s"
        what = _cell(step.detail)
        lines.append(
            f"| {began} | {step.began:.3f} s | {took} | {step.name} | {step.result} | {what} |"
        )
    lines += ["", "## Blast radius: tokens accepted in the hour before it was refused", ""]
    if report.radius is None:
        lines.append("Not known.")
    else:
        lines += [
            f"{report.radius.tokens} in all, as {report.radius.instances} instances show.",
            "",
            "| tokens | client | organization |",
            "|---|---|---|",
            *(
                f"| {each.accepted} | {_cell(each.client or '-')} | "
                f"{_cell(each.organization or '-')} |"
                for each in report.radius.clients
            ),
            f"| {report.radius.others} | all others | |",
        ]
    lines += [
        "",
        "## Instances",
        "",
        "| refuses it since (UTC) | instance | error |",
        "|---|---|---|",
    ]
    lines += [
        f"| {_utc(each.since) or 'not known'} | {_cell(each.who)} | {_cell(each.error or '')} |"
        for each in report.refusals
    ]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Untrusted text for a table cell: no markup, no further column."""
    return html.escape(printable(text), quote=False).replace("|", "\\|").replace("`", "'")


def _utc(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")
