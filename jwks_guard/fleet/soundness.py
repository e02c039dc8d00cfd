"""What is taken from outside of the process: decisions and states that can be what they say.

What can't is passed over: it neither lifts a decision nor adds trust.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from jwks_guard.distrust.state import MAX_NUMBER, Decision, Distrust, Name, State
from jwks_guard.jose.header import is_kid
from jwks_guard.readiness.clients import MAX_CHARS, MAX_CLIENTS
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER, KeyUsage

MAX_DECISIONS = 10_000
"""More keys than a fleet distrusts in its life."""
MAX_ENTRIES_PER_KEY = 5000
"""More than the processes that ever decide about one key, and the keys seen under its kid."""
MAX_ENTRIES = 100_000
"""More than those of all keys together: what is forged must not fill the memory."""
MAX_REASON_CHARS = 1000
MAX_BY_CHARS = 200
MAX_STATE_BYTES = 1_048_576
_MAX_COUNT = 2**53
"""More than any instance counts; sums of larger numbers are no floats any more."""
is_thumbprint = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
is_replica = re.compile(r"[0-9a-f]{32}").fullmatch
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for bytes that are not of the wanted type."""
_state = msgspec.json.Decoder(InstanceState)


class TooManyError(OSError):
    """With these decisions there would be more than a fleet ever makes; none of them was taken."""


def sound(name: Name, flag: Distrust) -> Distrust | None:
    """The part of `flag` that others take; None where nothing is left.

    Long reasons are shortened. A kid that no token can name, what is no replica and what is no
    thumbprint are left out.
    """
    issuer, kid = name
    if not issuer or not is_kid(kid):
        return None
    made, lifted = _sound_decisions(flag.made), _sound_decisions(flag.lifted)
    thumbprints = frozenset(filter(is_thumbprint, flag.thumbprints))
    return Distrust(made, lifted, thumbprints) if made or lifted or thumbprints else None


def _sound_decisions(decisions: Mapping[str, Decision]) -> dict[str, Decision]:
    return {
        replica: Decision(
            decision.number,
            decision.reason[:MAX_REASON_CHARS],
            decision.at if 0.0 <= decision.at < NEVER else 0.0,
            decision.by[:MAX_BY_CHARS],
        )
        for replica, decision in decisions.items()
        if is_replica(replica) and 0 < decision.number <= MAX_NUMBER
    }


def encoded_state(state: InstanceState) -> bytes:
    """A state as JSON, short enough to be read: without the clients' names if they are too many.

    Of too many refused keys the earliest are left out, which then count as not acknowledged.
    """
    encoded = msgspec.json.encode(state)
    if len(encoded) > MAX_STATE_BYTES:
        state = replace(state, usage={kid: each.nameless for kid, each in state.usage.items()})
        encoded = msgspec.json.encode(state)
    while len(encoded) > MAX_STATE_BYTES and state.refused:
        latest = sorted(state.refused.items(), key=lambda item: item[1])
        refused = dict(latest[len(latest) // 2 + 1 :])
        state = replace(state, refused=refused)
        encoded = msgspec.json.encode(state)
    return encoded


def states_in(values: Iterable[bytes | None], issuer: str) -> tuple[InstanceState, ...]:
    """The states of that issuer among `values`; what is none is passed over."""
    states = []
    for value in values:
        try:
            if value is not None and len(value) <= MAX_STATE_BYTES:
                states.append(_state.decode(value))
        except DECODE_ERRORS:
            continue
    return tuple(state for state in states if state.issuer == issuer and _is_plausible(state))


def _is_plausible(state: InstanceState) -> bool:
    """Whether its words can be printed on a terminal, and its instants be read as dates."""
    instants = [state.started_at, state.reported_at, *state.refused.values()]
    instants += [at for at in (state.confirmed_at, state.trusted_until) if at is not None]
    for usage in state.usage.values():
        instants += [*usage.reach, usage.last_seen or 0.0]
    words = f"{state.name}{state.last_error or ''}{state.version or ''}"
    possible = all(0 <= at <= NEVER for at in instants) and words.isprintable()
    return possible and all(map(_is_countable, state.usage.values()))


def _is_countable(usage: KeyUsage) -> bool:
    """Whether its counts can be added and written, and its clients' names be such as are kept."""
    counts = [usage.accepted, usage.rejected, usage.recent, usage.other_clients]
    counts += [each.accepted for each in usage.clients]
    names = {name for each in usage.clients for name in (each.client, each.organization) if name}
    return (
        all(0 <= count <= _MAX_COUNT for count in counts)
        and len(usage.clients) <= MAX_CLIENTS
        and all(len(name) <= MAX_CHARS and name.isprintable() for name in names)
    )


def silent_state(
    instance: str, host: str, issuer: str, at: float, error: str | None = None
) -> InstanceState:
    """The state of an instance that shows none since `at`: it confirms no key."""
    return InstanceState(
        instance=instance,
        host=host,
        issuer=issuer,
        started_at=at,
        reported_at=at,
        status="unavailable",
        confirmed_at=None,
        trusted_until=None,
        kids=(),
        last_error=error,
    )


def require_few(before: State, after: State) -> None:
    """Raise TooManyError where `after` has more than a fleet ever makes, and more than `before`.

    What is merged stays for good: a limit for one message alone would let it grow without end.
    """
    changed = (flag for name, flag in after.flags.items() if before.flags.get(name) is not flag)
    if len(after.flags) > max(MAX_DECISIONS, len(before.flags)):
        raise TooManyError(f"with what it holds there would be more than {MAX_DECISIONS} decisions")
    if any(flag.entries > MAX_ENTRIES_PER_KEY for flag in changed):
        raise TooManyError(f"about one key there would be more than {MAX_ENTRIES_PER_KEY} entries")
    if after.entries > max(MAX_ENTRIES, before.entries):
        raise TooManyError(f"with what is known there would be more than {MAX_ENTRIES} entries")
