"""Everything that the console shows at one moment, as plain values (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jwks_guard.admin.incident_report import BlastRadius, IncidentReport
from jwks_guard.distrust.state import Distrusted
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.verdict import RevocationReadiness

KeyState = Literal["next", "current", "previously used", "revoked", "not listed"]
"""As the tenant says; "not listed" for a key that only instances or decisions name."""

Action = Literal["rotate", "rotate-and-revoke", "revoke", "distrust", "reinstate"]
"""What can be done about a key; its dialog is the page `/keys/KID/ACTION`."""

Origin = Literal["journal", "console", "decision", "seen"]
"""Where an Entry comes from: the rotation's journal, an action in this console, the fleet's
decisions, or a change that the gatherer has noticed."""

Source = Literal["fleet", "tenant", "journal"]
"""What the console asks."""

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A source that does not answer: `cause` is its error, `since` in seconds since the epoch."""

    source: Source
    cause: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """An instance that shows itself, or did; instants in seconds since the epoch.

    Arguments:
        state: what it showed last.
        silent: whether it has not reported for too long, or by a clock that is ahead: then it can't
            be told.
        trusted_since: the kids that it trusts, and since when the console has seen that: the
            picture's `began` where it was so from the beginning.

    """

    state: InstanceState
    silent: bool
    trusted_since: Mapping[str, float]

    @property
    def id(self) -> str:
        """What tells it from the others: one that was never heard of has no `instance`."""
        return self.state.instance or self.state.host

    def trusts(self, kid: str) -> bool:
        """Whether it accepts tokens of `kid`."""
        return kid in self.state.kids and kid not in self.state.refused

    def refuses(self, kid: str) -> bool:
        """Whether it refuses `kid` because of a decision."""
        return kid in self.state.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key; instants in seconds since the epoch.

    Arguments:
        kid: its key ID: untrusted text.
        state: its place in the rotation.
        fingerprint: the certificate's SHA-1, where the tenant tells it.
        since: when it became current.
        until: when it stopped being current.
        revoked_at: when the tenant revoked it.
        per_minute: how many of its tokens were accepted in each of the last minutes, the oldest
            first; None for a minute that was not observed.
        rate: how many were accepted in the last 60 seconds, about.
        last_seen: when a token of it was accepted last, as far as instances show.
        latest_expiry: when the last token that was accepted of it expires, as far as is known.
        trusting: the instances that trust it, without silent ones.
        refusing: the instances that refuse it, without silent ones.
        reporting: how many instances report.
        readiness: the verdict on revoking it; None where there is none: without a KeyRotation, for
            a revoked key, and until the first answer.
        decision: the decision to distrust it that stands.
        radius: whose tokens of it were accepted in the last hour.
        actions: what can be done about it now, by somebody with the role for it.

    """

    kid: str
    state: KeyState
    fingerprint: str | None = None
    since: float | None = None
    until: float | None = None
    revoked_at: float | None = None
    per_minute: tuple[int | None, ...] = ()
    rate: float = 0.0
    last_seen: float | None = None
    latest_expiry: float | None = None
    trusting: tuple[InstanceRow, ...] = ()
    refusing: tuple[InstanceRow, ...] = ()
    reporting: int = 0
    readiness: RevocationReadiness | None = None
    decision: Distrusted | None = None
    radius: BlastRadius = field(default_factory=BlastRadius)
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the timeline.

    `at` is in seconds since the epoch, `what` a short sentence, `detail` the whole text, `actor`
    who did it, `reason` why; `kid` is the key that it is about.
    """

    at: float
    origin: Origin
    what: str
    kid: str | None = None
    actor: str | None = None
    reason: str | None = None
    detail: str | None = None
    result: Result = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """An incident of this console; `fault` says why it ended in the middle, if it did."""

    report: IncidentReport
    running: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledIncident:
    """An incident of which only the journal tells: of another process, or of an earlier run.

    `entries` are its steps, the newest first; `finished`: whether it says that all was done.
    """

    operation: str
    kid: str
    actor: str
    reason: str
    began: float
    finished: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What all pages show at `at`, in seconds since the epoch.

    Arguments:
        at: when it was put together.
        began: when the console began to look.
        issuer: whose tokens the instances verify.
        tenant: the URL of the tenant's Management API; None without a KeyRotation.
        keys: every key, the next one first, revoked ones last.
        instances: every instance that is known, by name.
        more_trusted: how many trusted keys are left out of `keys`: those of the fewest instances.
        more_refused: how many refused keys are left out of `keys`, the earliest ones.
        refused_kids: every kid that a decision, an instance or the tenant refuses, without
            exception.
        entries: the timeline, the newest first.
        problems: the sources that do not answer; what they answered last is shown on.
        incidents: those of this console, the newest first.
        journaled: the latest incident that only the journal tells of.
        fleet_at: when the fleet answered last; None: never.
        tenant_at: when the Management API answered last; None: never, or there is none.

    """

    at: float
    began: float
    issuer: str
    tenant: str | None = None
    keys: tuple[KeyRow, ...] = ()
    instances: tuple[InstanceRow, ...] = ()
    more_trusted: int = 0
    more_refused: int = 0
    refused_kids: frozenset[str] = frozenset()
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    incidents: tuple[IncidentRow, ...] = ()
    journaled: JournaledIncident | None = None
    fleet_at: float | None = None
    tenant_at: float | None = None

    @property
    def running(self) -> IncidentRow | None:
        """The incident that runs in this console."""
        return next((row for row in self.incidents if row.running), None)

    def key(self, kid: str) -> KeyRow | None:
        """The row of that key, if there is one."""
        return next((row for row in self.keys if row.kid == kid), None)

    def knows(self, kid: str) -> bool:
        """Whether the tenant lists that key or an instance trusts it, shown or left out."""
        return self.key(kid) is not None or any(kid in row.state.kids for row in self.instances)

    def instance(self, instance: str) -> InstanceRow | None:
        """The row of that instance, if there is one."""
        return next((row for row in self.instances if row.state.instance == instance), None)

    @property
    def valid(self) -> Sequence[KeyRow]:
        """The rows of the "List of Valid Keys": those that the tenant has not revoked."""
        return [row for row in self.keys if not _is_gone(row)]

    @property
    def revoked(self) -> Sequence[KeyRow]:
        """The rows of the "List of Revoked Keys", and of keys neither listed nor trusted."""
        return [row for row in self.keys if _is_gone(row)]


def _is_gone(row: KeyRow) -> bool:
    return row.state == "revoked" or (row.state == "not listed" and not row.trusting)
