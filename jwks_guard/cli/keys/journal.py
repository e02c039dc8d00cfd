"""The journal of the `keys` commands: its path, and what an earlier run left unfinished."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.base import files
from jwks_guard.base.settings_reader import PREFIX
from jwks_guard.cli.configuration import default_journal
from jwks_guard.cli.keys.session import Session, complain
from jwks_guard.errors import ConfigurationError

JournalOption = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        envvar=PREFIX + "JOURNAL",
        metavar="FILE",
        help="Records each step; the next run finishes what a crash cuts off.",
        show_default="~/.local/state/jwks-guard/journal.jsonl",
    ),
]


def journal_of(session: Session, named: Path | None) -> Path:
    """The path of the journal, which may not be usable."""
    return named or session.configuration.journal or default_journal(os.environ)


def usable(path: Path, *, emergency: bool) -> Path | None:
    """The journal, ready to be written; None if an emergency has to go on without it.

    Raises ConfigurationError if it can't be written and there is no emergency.
    """
    try:
        if path == default_journal(os.environ):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.append_durably(path, b"", after_torn=True)
    except (OSError, ValueError) as error:
        problem = f"The journal {path} can't be written ({error})."
    else:
        return path
    if not emergency:
        raise ConfigurationError(
            f"{problem} Nothing was done. Make it writable, or name another one by --journal."
        )
    complain(f"{problem} The command goes on without it: its steps are recorded nowhere.")
    return None


def left_in(path: Path | None, session: Session) -> list[Intent]:
    """The operations at this tenant that a crash has cut off, oldest first."""

    async def read() -> list[Intent]:
        async with journal.under_way.operation() as operation:
            return await journal.cut_off(session.client.base_url, operation)

    journal = Journal(path, None, time)
    return session.run(read())


def begun_in(path: Path | None, session: Session) -> list[Intent]:
    """The operations at this tenant that have not ended, also those that another process does."""
    return session.run(Journal(path, None, time).unfinished(session.client.base_url))
