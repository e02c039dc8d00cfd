"""A Picture, put together from what fleet and tenant answered last (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jwks_guard.admin.incident_report import BlastRadius
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.console.history import History
from jwks_guard.console.picture import (
    Action,
    Entry,
    InstanceRow,
    KeyRow,
    KeyState,
    Picture,
    Problem,
)
from jwks_guard.distrust.state import Distrusted
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Observed
from jwks_guard.readiness.usage import KeyUsage, Reach, total
from jwks_guard.readiness.verdict import RevocationReadiness

MAX_REFUSED = 50
"""The rows of keys that are refused and not listed, at most: a fleet may hold thousands."""
MAX_TRUSTED = 100
"""The rows of keys that are trusted and not listed, at most: one instance may show thousands."""
_ORDER: Sequence[KeyState] = ("next", "current", "previously used", "revoked", "not listed")
Verdict = Callable[[SigningKey, Observed], RevocationReadiness | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The last good answers.

    `keys` is None until the tenant has answered, and without one. `trusted_since` has for each
    instance the kids that it trusts, and since when that was seen.
    """

    issuer: str
    began: float
    tenant: str | None = None
    states: tuple[InstanceState, ...] = ()
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    decisions: Mapping[str, Distrusted] = field(default_factory=dict)
    keys: tuple[SigningKey, ...] | None = None
    trusted_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fleet_at: float | None = None
    tenant_at: float | None = None

    def showing(self, states: Iterable[InstanceState], now: float) -> Known:
        """With what the fleet's instances show at `now`."""
        first = self.fleet_at is None
        rows = tuple(sorted(states, key=lambda state: (state.name, state.instance)))
        since = {
            state.instance or state.host: _since(
                state,
                self.trusted_since.get(state.instance or state.host, {}),
                self.began if first else now,
            )
            for state in rows
        }
        return replace(self, states=rows, trusted_since=since, fleet_at=now)

    def instances(self, now: float) -> tuple[InstanceRow, ...]:
        """The row of each instance at `now`."""
        return tuple(
            InstanceRow(
                state=state,
                silent=abs(now - state.reported_at) > LIVE_SECONDS,
                trusted_since=self.trusted_since[state.instance or state.host],
            )
            for state in self.states
        )

    @property
    def refused_kids(self) -> frozenset[str]:
        """Every kid that somebody refuses."""
        revoked = [key.kid for key in self.keys or () if key.revoked]
        shown = [kid for state in self.states for kid in state.refused]
        return frozenset([*revoked, *self.decisions, *shown])

    def kids(self) -> tuple[list[str], int, int]:
        """The kids to show, and how many are left out of those only trusted and only refused.

        Left out are those that the fewest instances trust, and the earliest of those refused.
        """
        listed = dict.fromkeys(key.kid for key in self.keys or ())
        counted = Counter(kid for state in self.states for kid in dict.fromkeys(state.kids))
        trusted = [kid for kid, _ in counted.most_common() if kid not in listed]
        refused = {kid: decision.at for kid, decision in self.decisions.items()}
        for state in self.states:
            for kid, at in state.refused.items():
                refused[kid] = max(at, refused.get(kid, 0.0))
        others = [kid for kid in refused if kid not in listed and kid not in counted]
        others.sort(key=lambda kid: -refused[kid])
        shown = [*listed, *trusted[:MAX_TRUSTED], *others[:MAX_REFUSED]]
        return shown, len(trusted[MAX_TRUSTED:]), len(others[MAX_REFUSED:])


def assembled(
    known: Known,
    history: History,
    verdict: Verdict,
    entries: tuple[Entry, ...],
    problems: tuple[Problem, ...],
    now: float,
) -> Picture:
    """What the console shows at `now`, in seconds since the epoch."""
    # While the fleet does not answer, nobody is called silent for that.
    rows = known.instances(now if known.fleet_at is None else known.fleet_at)
    kids, more_trusted, more_refused = known.kids()
    keys = (_row(kid, known, rows, history, verdict, now) for kid in kids)
    return Picture(
        at=now,
        began=known.began,
        issuer=known.issuer,
        tenant=known.tenant,
        keys=tuple(sorted(keys, key=_rank)),
        instances=rows,
        more_trusted=more_trusted,
        more_refused=more_refused,
        refused_kids=known.refused_kids,
        entries=entries,
        problems=problems,
        fleet_at=known.fleet_at,
        tenant_at=known.tenant_at,
    )


def _row(
    kid: str,
    known: Known,
    rows: Sequence[InstanceRow],
    history: History,
    verdict: Verdict,
    now: float,
) -> KeyRow:
    key = next((each for each in known.keys or () if each.kid == kid), None)
    reporting = [row for row in rows if not row.silent]
    usages = [row.state.usage[kid] for row in rows if kid in row.state.usage]
    reach = known.reaches.get(kid, Reach())
    expiry = max([reach.expiry, *(usage.reach.expiry for usage in usages)])
    state: KeyState = "not listed" if key is None else key.state
    decision = known.decisions.get(kid)
    used = total({kid: usage} for usage in usages).get(kid, KeyUsage())
    readiness = None
    if key is not None and not key.revoked and known.fleet_at is not None:
        seen = Observed(known.states, reach.expiry or None, reach.lifetime or None)
        readiness = verdict(key, seen)
    row = KeyRow(
        kid=kid,
        state=state,
        per_minute=history.per_minute(kid, now),
        rate=history.rate(kid, now),
        last_seen=max((usage.last_seen or 0.0 for usage in usages), default=0.0) or None,
        latest_expiry=expiry or None,
        trusting=tuple(each for each in reporting if each.trusts(kid)),
        refusing=tuple(each for each in reporting if each.refuses(kid)),
        reporting=len(reporting),
        readiness=readiness,
        decision=decision,
        radius=BlastRadius(len(rows), used.clients, used.other_clients, expiry or None),
        actions=_actions(state, decided=decision is not None),
    )
    return row if key is None else _as_the_tenant_says(row, key)


def _as_the_tenant_says(row: KeyRow, key: SigningKey) -> KeyRow:
    dates = (key.current_since, key.current_until, key.revoked_at)
    since, until, revoked_at = (date.timestamp() if date else None for date in dates)
    return replace(
        row, fingerprint=key.fingerprint, since=since, until=until, revoked_at=revoked_at
    )


def _actions(state: KeyState, *, decided: bool) -> tuple[Action, ...]:
    """What makes sense for a key in that state."""
    if state == "revoked":  # nothing brings it back
        return () if decided else ("distrust",)
    decision: Action = "reinstate" if decided else "distrust"
    if state == "current":
        return ("rotate", "rotate-and-revoke", decision)
    return ("revoke", decision) if state == "previously used" else (decision,)


def _since(state: InstanceState, before: Mapping[str, float], now: float) -> Mapping[str, float]:
    return {kid: before.get(kid, now) for kid in state.kids}


def _rank(row: KeyRow) -> tuple[int, float, str]:
    """By state, and the latest first."""
    refused = [each.state.refused[row.kid] for each in row.refusing]
    decided = [] if row.decision is None else [row.decision.at]
    ends = (
        [row.revoked_at or row.until or 0.0] if row.state != "not listed" else [*refused, *decided]
    )
    return _ORDER.index(row.state), -max(ends, default=0.0), row.kid
