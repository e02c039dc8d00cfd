"""The timeline of an incident as a file, for the post-mortem: Markdown, or JSON if it is *.json."""

from __future__ import annotations

import html
import json
import os
import time
from datetime import timedelta
from pathlib import Path

from jwks_guard import __version__
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.base import files
from jwks_guard.cli.configuration import default_journal
from jwks_guard.cli.keys.session import complain
from jwks_guard.cli.keys.table import utc
from jwks_guard.cli.words import printable
from jwks_guard.errors import ConfigurationError


class TimelineFile:
    """A new file (mode 0600) that is rewritten with each step, so that no crash loses it."""

    def __init__(self, path: Path) -> None:
        """Make it; raises OSError, also where something is at `path` already."""
        files.require_support()
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, report: IncidentReport) -> None:
        """Replace its content."""
        json_wanted = self.path.suffix == ".json"
        text = json.dumps(document(report), indent=2) + "\n" if json_wanted else markdown(report)
        self.write_text(text)

    def write_text(self, text: str) -> None:
        """Replace its content by that text."""
        data = text.encode()
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def opened_timeline(named: Path | None, kid: str) -> TimelineFile | None:
    """The file that is `named`, or a new one beside the journal; None where that is not possible.

    Raises ConfigurationError for a named one that can't be made, before anything is done.
    """
    if named is not None:
        try:
            return TimelineFile(named)
        except OSError as error:
            raise ConfigurationError(
                f"--timeline {named}: no new file can be made there ({error}). Nothing was done; "
                "name another one."
            ) from None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    short = "".join(c if c.isalnum() else "-" for c in kid[:12])
    try:
        folder = default_journal(os.environ).parent / "incidents"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return TimelineFile(folder / f"{stamp}-{short}.md")
    except (OSError, ConfigurationError) as error:
        complain(f"No timeline can be written ({error}). The command goes on without it.")
        return None


def document(report: IncidentReport) -> dict[str, object]:
    """The report as JSON-compatible data, with the version that made it."""
    return {**report.to_dict(), "version": __version__}


def markdown(report: IncidentReport) -> str:
    """The report as a Markdown document."""
    state = "complete" if report.complete else "NOT complete"
    lines = [
        f"# A leaked key: `{_cell(report.kid)}`",
        "",
        f"- issuer: {_cell(report.issuer)}",
        f"- reason: {_cell(report.reason)}",
        f"- by: {_cell(report.actor)}",
        f"- began: {utc(report.began_at, 'milliseconds')} UTC",
        f"- result: {state}",
        f"- written by jwks-guard {__version__}",
        "",
        "## Timeline",
        "",
        "| began (UTC) | after | took | step | result | what |",
        "|---|---|---|---|---|---|",
    ]
    for step in report.steps:
        began = utc(report.began_at + timedelta(seconds=step.began), "milliseconds")
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
        f"| {utc(each.since, 'milliseconds') or 'not known'} | {_cell(each.who)} | "
        f"{_cell(each.error or '')} |"
        for each in report.refusals
    ]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Untrusted text for a table cell: no markup, no further column."""
    return html.escape(printable(text), quote=False).replace("|", "\\|").replace("`", "'")
