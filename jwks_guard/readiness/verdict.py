"""Whether a key may be revoked now: a verdict from what every instance shows (pure).

What nobody has shown can't be seen: idle clients hold tokens too, and a restart erases what an
instance had counted. So time has to pass that nothing can replace: the lifetime of the tokens, and
a quiet period in which every instance was watched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from jwks_guard.base.durations import span
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Observed
from jwks_guard.readiness.usage import NEVER, RECENT, KeyUsage

Verdict = Literal["yes", "no", "unknown"]
_LASTING = frozenset(
    ["key_is_current", "key_is_next", "token_lifetime_unknown", "rotation_time_unknown", "no_fleet"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What the tenant says of its keys; instants in seconds since the epoch.

    `state` is that of the key in question, `current_until` when it stopped signing; `current_kid`
    is the key that signs now, since `current_since`.
    """

    kid: str
    state: Literal["next", "current", "previously used", "revoked"]
    current_until: float | None
    current_kid: str
    current_since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessSettings:
    """What a verdict is measured by; durations in seconds.

    Arguments:
        token_lifetime: the longest lifetime of the tenant's access tokens; without it there is no
            verdict of "yes". One that was seen to be longer, of whatever key, counts instead.
        quiet_period: for so long every instance must have been watched without accepting the key.
        expected_instances: how many have to report.
        has_fleet: whether there is a fleet in which instances can report.
        report_within: an instance that was silent for longer does not count as watched.

    """

    token_lifetime: float | None = None
    quiet_period: float = 600.0
    expected_instances: int = 1
    has_fleet: bool = True
    report_within: float = LIVE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """One reason against revoking; `message` can be understood alone.

    `verdict` is "no" for what is known to break, "unknown" for what can't be told. `until` is when
    it passes by itself, where that is known, in seconds since the epoch.
    """

    code: str
    verdict: Literal["no", "unknown"]
    message: str
    instance: str | None = None
    until: float | None = None

    @property
    def lasts(self) -> bool:
        """Whether it stays until somebody does something at the tenant or to the settings."""
        return self.code in _LASTING


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationReadiness:
    """The verdict on revoking `kid` at `assessed_at`, with everything that speaks against it.

    `earliest_safe_time` is when the last token of the key has expired, as far as can be known: both
    in seconds since the epoch. `revoked`: it is already, and nothing speaks against that.
    """

    kid: str
    verdict: Verdict
    assessed_at: float
    earliest_safe_time: float | None
    blockers: tuple[Blocker, ...]
    instances: tuple[InstanceState, ...]
    revoked: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON-compatible data."""
        verdict = {name: getattr(self, name) for name in self.__slots__}
        verdict["blockers"] = [asdict(blocker) for blocker in self.blockers]
        verdict["instances"] = [state.to_dict() for state in self.instances]
        return verdict


def revocation_readiness(
    facts: KeyFacts, observed: Observed, settings: ReadinessSettings, now: float
) -> RevocationReadiness:
    """Whether the key may be revoked at `now` (seconds since the epoch) and nobody needs it."""
    safe_from = earliest_safe_time(facts, observed, settings)
    longest = _longest_lifetime(observed)
    states = sorted(observed.states, key=lambda state: state.name)
    revoked = facts.state == "revoked"
    blockers = [
        *_by_the_tenant(facts, safe_from, longest, settings, now),
        *_by_their_number(states, settings, now),
        *(b for state in states for b in _by_instance(facts, state, settings, now)),
    ]
    blockers = [] if revoked else blockers
    verdicts = {blocker.verdict for blocker in blockers}
    verdict: Verdict = "no" if "no" in verdicts else "unknown" if verdicts else "yes"
    return RevocationReadiness(
        kid=facts.kid,
        verdict=verdict,
        assessed_at=now,
        earliest_safe_time=safe_from,
        blockers=tuple(blockers),
        instances=tuple(states),
        revoked=revoked,
    )


def earliest_safe_time(
    facts: KeyFacts, observed: Observed, settings: ReadinessSettings
) -> float | None:
    """When the last token of the key has expired; None when that can't be known."""
    seen = [observed.latest_expiry or 0.0, *(_expiry(s, facts.kid) for s in observed.states)]
    if settings.token_lifetime is None or facts.current_until is None:
        return None
    lifetime = max(settings.token_lifetime, _longest_lifetime(observed))
    return max(facts.current_until + lifetime, *seen)


def _by_the_tenant(
    facts: KeyFacts,
    safe_from: float | None,
    longest: float,
    settings: ReadinessSettings,
    now: float,
) -> Iterator[Blocker]:
    seen = f" Some were seen that live for {span(longest)}." if longest else ""
    if facts.state in ("current", "next"):
        yield Blocker(
            code=f"key_is_{facts.state}",
            verdict="no",
            message=f"{facts.kid} is the tenant's {facts.state} key. Rotate first.",
        )
    elif settings.token_lifetime is None:
        yield Blocker(
            code="token_lifetime_unknown",
            verdict="unknown",
            message="The lifetime of the tenant's access tokens is not set (token_lifetime; in the "
            "environment JWKS_GUARD_TOKEN_LIFETIME_SECONDS), so it can't be told when the last "
            f"one expires.{seen}",
        )
    elif safe_from is None:
        yield Blocker(
            code="rotation_time_unknown",
            verdict="unknown",
            message=f"The tenant does not say until when {facts.kid} was current.",
        )
    elif not safe_from <= now:
        valid = (
            "never expire" if safe_from >= NEVER else f"be valid until {_moment(safe_from, now)}"
        )
        yield Blocker(
            code="tokens_unexpired",
            verdict="no",
            message=f"Tokens of {facts.kid}, also those never used here, may {valid}."
            f"{seen if longest > settings.token_lifetime else ''}",
            until=safe_from,
        )


def _by_their_number(
    states: Sequence[InstanceState], settings: ReadinessSettings, now: float
) -> Iterator[Blocker]:
    if not settings.has_fleet:
        yield Blocker(
            code="no_fleet",
            verdict="unknown",
            message="No fleet is configured, so no instance shows whether it still needs the key. "
            "Name the fleet of the instances (JWKS_GUARD_FLEET; in code KeyRotation's fleet).",
        )
        return
    reporting = len(reporting_in(states, settings.report_within, now))
    if reporting < settings.expected_instances:
        many = f"{reporting or 'No'} instance{'s report' if reporting > 1 else ' reports'}"
        look = "" if reporting else " Look whether fleet, prefix and issuer are the instances' own."
        yield Blocker(
            code="instances_missing",
            verdict="unknown",
            message=f"{many}, of {settings.expected_instances} expected.{look}",
        )


def reporting_in(states: Iterable[InstanceState], within: float, now: float) -> frozenset[str]:
    """The instances that showed themselves lately, by a clock that goes with ours."""
    return frozenset(s.instance for s in states if abs(now - s.reported_at) <= within)


def _by_instance(
    facts: KeyFacts, state: InstanceState, settings: ReadinessSettings, now: float
) -> Iterator[Blocker]:
    if not reporting_in([state], settings.report_within, now):
        yield _of(state, "instance_silent", "unknown", _silence(state, now))
        yield from _by_its_usage(facts, state, settings, now)
        return
    watched = state.reported_at - state.started_at
    if not watched >= settings.quiet_period:
        until = state.started_at + settings.quiet_period
        yield _of(
            state,
            "instance_watched_too_short",
            "unknown",
            f"has been watched for {span(watched)}; the quiet period is "
            f"{span(settings.quiet_period)}.",
            until,
        )
    yield from _by_its_keys(facts, state, now)
    yield from _by_its_usage(facts, state, settings, now)


def _silence(state: InstanceState, now: float) -> str:
    silent, why = now - state.reported_at, f" ({state.last_error})" if state.last_error else ""
    if silent < 0:
        return f"reports with a clock that is {span(-silent)} ahead."
    if not state.reported_at:
        return f"was never heard of{why}. It may accept tokens: start it, or take its URL out."
    return (
        f"has not reported for {span(silent)}{why}. It may be cut off and still accept tokens; "
        f"if it has ended for good, dismiss it: jwks-guard watch --dismiss {state.instance}"
    )


def _by_its_keys(facts: KeyFacts, state: InstanceState, now: float) -> Iterator[Blocker]:
    until = state.trusted_until
    error = state.last_error or "it does not say why"
    if until is None or not until > now or state.status == "unavailable":
        trusts = "holds none" if until is None else f"trusts them until {_clock(until)}"
        text = f"may hold stale keys: it is {state.status} and {trusts} ({error})."
        yield _of(state, "keys_stale", "unknown", text)
    elif state.status != "ok":
        text = f"is degraded, and may not hear of a revocation: {error}."
        yield _of(state, "instance_degraded", "unknown", text)
    confirmed = state.confirmed_at is not None and (
        facts.current_since is None or state.confirmed_at >= facts.current_since
    )
    if facts.current_kid not in state.kids or not confirmed:
        yield _of(
            state,
            "current_key_unconfirmed",
            "no",
            f"has not confirmed the current key, {facts.current_kid}, since the rotation.",
        )


def _by_its_usage(
    facts: KeyFacts, state: InstanceState, settings: ReadinessSettings, now: float
) -> Iterator[Blocker]:
    usage = state.usage.get(facts.kid)
    if usage is None or usage.last_seen is None:
        return
    quiet = now - usage.last_seen
    if not quiet >= settings.quiet_period:
        ends = _expiry(state, facts.kid)
        many = f"{usage.recent} token{'' if usage.recent == 1 else 's'}"
        last = ""
        if ends > now:
            expires = "never expires" if ends >= NEVER else f"expires {_moment(ends, now)}"
            last = f"; the last of these tokens {expires}"
        yield _of(
            state,
            "key_in_use",
            "no",
            f"accepted {many} of {facts.kid} in the last {RECENT}, the latest "
            f"{span(quiet)} ago, within the quiet period of {span(settings.quiet_period)}{last}.",
            usage.last_seen + settings.quiet_period,
        )


def _of(
    state: InstanceState,
    code: str,
    verdict: Literal["no", "unknown"],
    text: str,
    until: float | None = None,
) -> Blocker:
    message = f"{state.name} {text}"
    return Blocker(
        code=code, verdict=verdict, message=message, instance=state.instance, until=until
    )


def _longest_lifetime(observed: Observed) -> float:
    """The longest that was seen of any key's tokens: those of the others show the setting too."""
    usages = [usage for state in observed.states for usage in state.usage.values()]
    seen = [observed.longest_lifetime, *(usage.longest_lifetime for usage in usages)]
    return max(lifetime or 0.0 for lifetime in seen)


def _expiry(state: InstanceState, kid: str) -> float:
    usage: Mapping[str, KeyUsage] = state.usage
    found = usage.get(kid)
    return (found.latest_expiry or 0.0) if found is not None else 0.0


def _moment(timestamp: float, now: float) -> str:
    return f"{_clock(timestamp)}, in {span(timestamp - now)}"


def _clock(timestamp: float) -> str:
    """A date, whatever the number: beyond those that have one, the first or the last that has."""
    dated = timestamp if 0.0 <= timestamp < NEVER else 0.0 if timestamp < 0.0 else NEVER - 1.0
    return f"{datetime.fromtimestamp(dated, UTC):%Y-%m-%d %H:%M:%S} UTC"
