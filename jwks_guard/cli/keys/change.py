"""What the commands that change keys have in common: their options, consent, journal and end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any

import typer

from jwks_guard.admin import RevocationReceipt, RotationReceipt
from jwks_guard.cli.keys.consent import Consent, DryRunOption, YesOption
from jwks_guard.cli.keys.journal import JournalOption, journal_of, usable
from jwks_guard.cli.keys.receipts import print_receipt
from jwks_guard.cli.keys.session import (
    ClientIDOption,
    ConfigOption,
    DomainOption,
    JSONOption,
    Session,
    errors_told,
    opened,
)


@dataclass(frozen=True, slots=True)
class Change:
    """The session in which keys are changed, how the user agrees, and the journal that is named."""

    session: Session
    consent: Consent
    named: Path | None

    def journal(self, *, emergency: bool) -> Path | None:
        """The journal, ready to be written; None where an emergency goes on without it."""
        path = journal_of(self.session, self.named)
        return path if self.consent.dry_run else usable(path, emergency=emergency)


def changing(change: Callable[..., RotationReceipt | RevocationReceipt]) -> Callable[..., None]:
    """The command that makes `change`: with its own options, and those of every change.

    Its first argument is a Change. Typer reads the options from the signature.
    """

    def command(
        yes: YesOption = False,
        dry_run: DryRunOption = False,
        journal: JournalOption = None,
        domain: DomainOption = None,
        client_id: ClientIDOption = None,
        config: ConfigOption = None,
        as_json: JSONOption = False,
        **own: Any,
    ) -> None:
        with errors_told(), opened(domain, client_id, config, quiet=as_json) as session:
            consent = Consent(yes, dry_run, as_json)
            receipt = change(Change(session, consent, journal), **own)
        consent.answer(receipt.to_dict(), lambda console: print_receipt(receipt, console))
        if isinstance(receipt, RevocationReceipt) and not receipt.complete:
            raise typer.Exit(1)

    parameters = [*_parameters(change)[1:], *_parameters(command)[:-1]]
    command.__name__, command.__doc__ = change.__name__, change.__doc__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(command)["__signature__"] = Signature(parameters)
    return command


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    return list(signature(function, eval_str=True).parameters.values())
