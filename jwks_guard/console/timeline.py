"""The timeline: what was done and what has changed, as lines for people (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from jwks_guard.admin.journal import AdminEvent
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.console.picture import Entry, InstanceRow, JournaledIncident
from jwks_guard.distrust.state import Distrusted

MAX_ENTRIES = 400
_ACTIONS = {
    "rotate": "Rotation",
    "revoke": "Revocation",
    "rotate_and_revoke": "Rotate and revoke",
    "distrust": "Distrust",
    "reinstate": "Reinstatement",
    "dismiss": "Dismissal of an instance",
}
_Change: TypeAlias = tuple[str, str]
"""What one instance did, and what several did."""
_APPEARED: _Change = ("appeared", "appeared")
_LEFT: _Change = ("has left", "have left")
_SILENT: _Change = ("fell silent", "fell silent")
_REPORTS: _Change = ("reports again", "report again")
_REFUSES: _Change = ("now refuses the key", "now refuse the key")
_TRUSTS: _Change = ("now trusts the key", "now trust the key")
_LACKS: _Change = ("no longer holds the key", "no longer hold the key")
_STEPS = {
    "intended": "begun",
    "blast_radius": "whose tokens were accepted",
    "warned": "warning",
    "forced": "forced although it was not ready",
    "rotated": "the tenant has rotated",
    "uncertain": "the tenant's answer was lost",
    "acknowledged": "the tenant has revoked the key",
    "unanswered": "the tenant did not answer",
    "refused_by": "a verifier refuses the key",
    "not_told": "a verifier was not reached",
    "not_refused": "the key is not refused yet",
    "not_revoked": "the tenant has not revoked the key",
    "left_jwks": "the key has left the key set",
    "still_in_jwks": "the key is still in the key set",
    "finished": "finished",
    "failed": "failed",
    "abandoned": "abandoned",
}


def merged(*sources: Iterable[Entry]) -> tuple[Entry, ...]:
    """The newest MAX_ENTRIES of all `sources`, newest first."""
    entries = [entry for source in sources for entry in source]
    # Of one moment, the step that was noted later stands above.
    entries.reverse()
    entries.sort(key=lambda entry: -entry.at)
    return tuple(entries[:MAX_ENTRIES])


def of_journal(events: Iterable[AdminEvent]) -> Iterator[Entry]:
    """An entry for each step of a rotation or revocation."""
    for event in events:
        intent = event.intent
        step = _STEPS.get(event.step, event.step)
        yield Entry(
            at=event.at.timestamp(),
            origin="journal",
            what=f"{_ACTIONS.get(intent.action, intent.action)}: {step}",
            kid=intent.kid,
            actor=intent.actor,
            reason=intent.reason if event.step == "intended" else None,
            detail=None if event.step == "intended" else event.detail or None,
            result=event.result,
        )


def incidents(events: Iterable[AdminEvent]) -> tuple[JournaledIncident, ...]:
    """The incidents among the steps in a journal, the latest first.

    One is known by its look at the blast radius, which no other operation takes.
    """
    steps: dict[str, list[AdminEvent]] = {}
    for event in events:
        steps.setdefault(event.intent.operation, []).append(event)
    told = [some for some in steps.values() if any(e.step == "blast_radius" for e in some)]
    return tuple(_incident(some) for some in reversed(told))


def _incident(steps: Sequence[AdminEvent]) -> JournaledIncident:
    intent = steps[0].intent
    return JournaledIncident(
        operation=intent.operation,
        kid=intent.kid,
        actor=intent.actor,
        reason=intent.reason,
        began=steps[0].at.timestamp(),
        finished=steps[-1].step == "finished",
        entries=merged(of_journal(steps)),
    )


def of_decisions(decisions: Mapping[str, Distrusted]) -> Iterator[Entry]:
    """An entry for each decision to distrust that stands."""
    for kid, decision in decisions.items():
        yield Entry(
            at=decision.at,
            origin="decision",
            what="Distrusted: every instance is to refuse the key",
            kid=kid,
            actor=decision.by or None,
            reason=decision.reason or None,
        )


def lifted(
    before: Mapping[str, Distrusted], after: Mapping[str, Distrusted], now: float
) -> Iterator[Entry]:
    """An entry for each decision that stands no longer."""
    for kid in before.keys() - after.keys():
        yield _seen(now, "The decision to distrust the key was lifted", kid)


def of_keys(
    before: Mapping[str, SigningKey], after: Mapping[str, SigningKey], now: float
) -> Iterator[Entry]:
    """An entry for each change in the tenant's list of keys."""
    for kid, key in after.items():
        old = before.get(kid)
        if old is None:
            yield _seen(now, f"The tenant lists a new key, as {_place(key.state)}", kid)
        elif old.state != key.state:
            yield _seen(now, f"The key became {_place(key.state)}; it was {old.state}", kid)
    for kid in before.keys() - after.keys():
        yield _seen(now, "The tenant lists the key no longer", kid)


def of_instances(
    before: Mapping[str, InstanceRow], after: Mapping[str, InstanceRow], now: float
) -> Iterator[Entry]:
    """An entry for each change of health, and one for all instances that changed in one way.

    Those are instances that came, left or fell silent, and that trust or refuse a key now.
    """
    alike: dict[tuple[_Change, str | None], list[str]] = {}
    for name, row in after.items():
        if (old := before.get(name)) is not None:
            yield from _of_status(old, row, now)
        for news in _changes(old, row):
            alike.setdefault(news, []).append(row.state.name)
    for name in before.keys() - after.keys():
        alike.setdefault((_LEFT, None), []).append(before[name].state.name)
    for (change, kid), names in alike.items():
        many = len(names)
        what = f"An instance {change[0]}" if many == 1 else f"{many} instances {change[1]}"
        yield _seen(now, what, kid, ", ".join(names), bad=change is _SILENT)


def _changes(old: InstanceRow | None, row: InstanceRow) -> Iterator[tuple[_Change, str | None]]:
    if old is None:
        yield _APPEARED, None
        return
    if row.silent != old.silent:
        yield _SILENT if row.silent else _REPORTS, None
    refused, kids, held = row.state.refused.keys(), set(row.state.kids), set(old.state.kids)
    yield from ((_REFUSES, kid) for kid in sorted(refused - old.state.refused.keys()))
    yield from ((_TRUSTS, kid) for kid in sorted(kids - held))
    yield from ((_LACKS, kid) for kid in sorted(held - kids - refused))


def _of_status(old: InstanceRow, row: InstanceRow, now: float) -> Iterator[Entry]:
    status, was = row.state.status, old.state.status
    if status != was:
        why = f": {row.state.last_error}" if row.state.last_error and status != "ok" else ""
        what = f"An instance is {status}; it was {was}"
        yield _seen(now, what, detail=f"{row.state.name}{why}", bad=status != "ok")


def _place(state: str) -> str:
    return state if state in ("previously used", "revoked") else f"the {state} key"


def _seen(
    now: float, what: str, kid: str | None = None, detail: str | None = None, *, bad: bool = False
) -> Entry:
    return Entry(
        at=now,
        origin="seen",
        what=what,
        kid=kid,
        detail=detail,
        result="warning" if bad else "ok",
    )
