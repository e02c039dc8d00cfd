"""The timeline of an incident as a file, for the post-mortem: Markdown, or JSON if it is *.json."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from jwks_guard import __version__
from jwks_guard.admin.incident_record import document, markdown
from jwks_guard.admin.incident_report import IncidentReport
from jwks_guard.base import files
from jwks_guard.cli.configuration import default_journal
from jwks_guard.cli.keys.session import complain
from jwks_guard.errors import ConfigurationError

_MOST_AT_ONCE = 20


class TimelineFile:
    """A new file (mode 0600) that is rewritten with each step, so that no crash loses it.

    `complete` is False where its last content could not be written, which is said once.
    """

    def __init__(self, path: Path) -> None:
        """Make it; raises OSError, also where something is at `path` already."""
        files.require_support()
        self.path = path
        self.complete = True
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, report: IncidentReport) -> None:
        """Replace its content."""
        if self.path.suffix == ".json":
            self.write_text(json.dumps(document(report, __version__), indent=2) + "\n")
        else:
            self.write_text(markdown(report, __version__))

    def write_text(self, text: str) -> None:
        """Replace its content by that text; the disk may be full, which must stop nothing."""
        data, said = text.encode(), not self.complete
        try:
            written = os.pwrite(self._descriptor, data, 0)
            self.complete = written == len(data)
            os.ftruncate(self._descriptor, written)
            os.fsync(self._descriptor)
            why = "the disk is full"
        except OSError as error:
            self.complete, why = False, str(error)
        if not (self.complete or said):
            complain(f"The timeline {self.path} can't be written ({why}). The command goes on.")

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


def _new(folder: Path, name: str) -> TimelineFile:
    """The file of that name; with a number where another incident began in the same second."""
    for number in range(1, _MOST_AT_ONCE):
        with suppress(FileExistsError):
            return TimelineFile(folder / (f"{name}.md" if number == 1 else f"{name}-{number}.md"))
    return TimelineFile(folder / f"{name}-{_MOST_AT_ONCE}.md")


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
        return _new(folder, f"{stamp}-{short}")
    except (OSError, ConfigurationError) as error:
        complain(f"No timeline can be written ({error}). The command goes on without it.")
        return None
