"""What an incident has come to so far: its steps, whose tokens it hits, who refuses the key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from jwks_guard.readiness.clients import ClientUsage
from jwks_guard.readiness.state import InstanceState, Refusal
from jwks_guard.readiness.usage import KeyUsage, total

StepName = Literal["blast radius", "tenant", "rotate", "refuse", "acknowledge", "revoke", "key set"]
Outcome = Literal["running", "ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step; `began` and `ended` are in seconds since the incident began.

    `ended` is None and `result` is "running" until it is over. `detail` is for people.
    """

    name: StepName
    began: float
    ended: float | None = None
    result: Outcome = "running"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """Whose tokens of the key were accepted in the last hour, before it was refused.

    `instances` have shown it; `latest_expiry`, in seconds since the epoch, is that of its tokens.
    """

    instances: int = 0
    clients: tuple[ClientUsage, ...] = ()
    others: int = 0
    latest_expiry: float | None = None

    @property
    def tokens(self) -> int:
        """How many were accepted."""
        return self.others + sum(each.accepted for each in self.clients)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentReport:
    """The evidence of an incident, as it is at one moment.

    `at_tenant`: whether the key has to be revoked at the tenant too. `unreached`: whether the
    tenant or the fleet could not be reached in a step. `operation`: its id in the journal.
    `uncertain`: whether a change was begun of which it is not known whether it was made.
    """

    kid: str
    issuer: str
    reason: str
    actor: str
    began_at: datetime
    at_tenant: bool
    steps: tuple[Step, ...]
    radius: BlastRadius | None
    refusals: tuple[Refusal, ...]
    unreached: bool = False
    operation: str = ""
    uncertain: bool = False

    @property
    def complete(self) -> bool:
        """Whether every instance refuses the key and the tenant has revoked and withdrawn it."""
        wanted = ("acknowledge", *(("revoke", "key set") if self.at_tenant else ()))
        results = {step.name: step.result for step in self.steps}
        return all(results.get(name) in ("ok", "skipped") for name in wanted)

    @property
    def nothing_done(self) -> bool:
        """Whether neither an instance nor the tenant has changed anything."""
        if self.uncertain:
            return False
        at_tenant = any(s.name in ("rotate", "revoke") and s.result == "ok" for s in self.steps)
        return not at_tenant and not any(each.since for each in self.refusals)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        return {
            "operation": self.operation,
            "kid": self.kid,
            "issuer": self.issuer,
            "reason": self.reason,
            "actor": self.actor,
            "began_at": self.began_at.isoformat(),
            "complete": self.complete,
            "steps": [asdict(step) for step in self.steps],
            "blast_radius": self.radius and {**asdict(self.radius), "tokens": self.radius.tokens},
            "refusals": [
                {
                    "instance": each.who,
                    "since": each.since and each.since.isoformat(),
                    "error": each.error,
                }
                for each in self.refusals
            ],
        }


def radius_of(kid: str, states: Iterable[InstanceState], expiry: float | None) -> BlastRadius:
    """The blast radius that `states` show; `expiry` is the latest that any instance ever saw."""
    states = tuple(states)
    usage = total(state.usage for state in states).get(kid, KeyUsage())
    latest = max(usage.latest_expiry or 0.0, expiry or 0.0)
    return BlastRadius(len(states), usage.clients, usage.other_clients, latest or None)


def refusals_in(kid: str, states: Iterable[InstanceState]) -> tuple[Refusal, ...]:
    """Which of the instances refuse the key since when, and which are not known to.

    One that shows a state for each of several issuers refuses it once all of them do.
    """
    since: dict[str, float | None] = {}
    for state in states:
        others, at = since.get(state.name, 0.0), state.refused.get(kid)
        since[state.name] = None if others is None or at is None else max(others, at)
    return tuple(
        Refusal(name, None, "it has not acknowledged the decision")
        if at is None
        else Refusal(name, datetime.fromtimestamp(at, UTC))
        for name, at in since.items()
    )


def updated(before: Iterable[Refusal], now: Iterable[Refusal]) -> tuple[Refusal, ...]:
    """What was said before, with what is shown `now` of those that did not refuse the key then.

    One that failed and shows nothing stays, and so does one that could not store the decision. Who
    is new is added while it does not refuse the key.
    """
    shown = {each.who: each for each in now}
    known = [shown.get(each.who, each) if each.since is None else each for each in before]
    named = {each.who for each in known}
    new = [each for each in shown.values() if each.since is None and each.who not in named]
    return (*known, *new)
