"""What instances tell each other, as bytes: decisions as facts that only accumulate, and states.

A decision is never overwritten: each version of distrusting or lifting a kid is a fact of its own.
So two instances that write at the same time can't undo each other, whoever comes last, and what one
of them has not heard of yet it can't erase. What can't be read is passed over: it neither lifts a
tombstone nor adds trust.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from jwks_guard.jose.header import is_kid
from jwks_guard.keys.distrust import Name, Tombstone, Tombstones
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER

MAX_FACT_BYTES = 16_384
MAX_REASON_CHARS = 1000
MAX_STATE_BYTES = 1_048_576
MAX_DISTRUST_VERSION = 2**53
MAX_LIFT_VERSION = MAX_DISTRUST_VERSION - 1
"""Above any lift there is room for a decision to distrust, whoever wrote the lift."""
_is_thumbprint = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)

Fact = tuple[Literal["distrust", "lift", "key"], str, str, int | str]
"""What it is, the issuer and the kid it is about, and the version; of "key" a thumbprint."""


class _Because(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    at: float


_fact = msgspec.json.Decoder(Fact)
_because = msgspec.json.Decoder(_Because)
_state = msgspec.json.Decoder(InstanceState)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was decided: the tombstones, and at which version others were lifted."""

    stones: tuple[Tombstone, ...]
    lifts: Mapping[Name, int]
    unreadable: int = 0

    def of(self, issuers: Collection[str]) -> Decisions:
        """Those about keys of `issuers`."""
        return Decisions(
            tuple(stone for stone in self.stones if stone.issuer in issuers),
            {name: version for name, version in self.lifts.items() if name[0] in issuers},
            self.unreadable,
        )


def facts_of(decisions: Tombstones) -> dict[bytes, bytes]:
    """The decisions as facts: what each says, and why.

    Long reasons are shortened. What nobody would read is left out: a kid that no token can name,
    what is no thumbprint, and a lift above the last version.
    """
    facts: dict[bytes, bytes] = {}
    for (issuer, kid), stone in decisions.entries.items():
        if not is_kid(kid):
            continue
        because = msgspec.json.encode(_Because(stone.reason[:MAX_REASON_CHARS], stone.at))
        facts[_encoded("distrust", issuer, kid, stone.version)] = because
        for thumbprint in filter(_is_thumbprint, stone.thumbprints):
            facts[_encoded("key", issuer, kid, thumbprint)] = b"{}"
    for (issuer, kid), version in decisions.lifted.items():
        if is_kid(kid) and version <= MAX_LIFT_VERSION:
            facts[_encoded("lift", issuer, kid, version)] = b"{}"
    return facts


def decisions_in(facts: Mapping[bytes, bytes]) -> Decisions:
    """What facts from outside come to; for each kid the highest version counts."""
    distrusted: dict[Name, Tombstone] = {}
    lifted: dict[Name, int] = {}
    prints: dict[Name, set[str]] = {}
    unreadable = 0
    for encoded, value in facts.items():
        try:
            kind, issuer, kid, what = _parsed(encoded)
        except _DECODE_ERRORS:
            unreadable += 1
            continue
        name = (issuer, kid)
        if isinstance(what, str):
            prints.setdefault(name, set()).add(what)
        elif kind == "lift":
            lifted[name] = max(what, lifted.get(name, 0))
        else:
            stone = _stone(name, what, value)
            distrusted[name] = max(stone, distrusted.get(name, stone), key=_precedence)
    stones = tuple(
        replace(stone, thumbprints=frozenset(prints.get(name, ())))
        for name, stone in distrusted.items()
    )
    return Decisions(stones, lifted, unreadable)


def encoded_state(state: InstanceState) -> bytes:
    """A state as JSON, short enough to be read: of too many refused keys the earliest are left out.

    Those then count as not acknowledged.
    """
    encoded = msgspec.json.encode(state)
    while len(encoded) > MAX_STATE_BYTES and state.refused:
        latest = sorted(state.refused.items(), key=lambda item: item[1])
        state = replace(state, refused=dict(latest[len(latest) // 2 + 1 :]))
        encoded = msgspec.json.encode(state)
    return encoded


def states_in(values: Iterable[bytes | None], issuer: str) -> tuple[InstanceState, ...]:
    """The states of that issuer among `values`; what is none is passed over."""
    states = []
    for value in values:
        try:
            if value is not None and len(value) <= MAX_STATE_BYTES:
                states.append(_state.decode(value))
        except _DECODE_ERRORS:
            continue
    return tuple(state for state in states if state.issuer == issuer and _is_plausible(state))


def _is_plausible(state: InstanceState) -> bool:
    """Whether its words can be printed on a terminal, and its instants be read as dates."""
    instants = [state.started_at, state.reported_at, *state.refused.values()]
    instants += [at for at in (state.confirmed_at, state.trusted_until) if at is not None]
    for usage in state.usage.values():
        instants += [*usage.reach, usage.last_seen or 0.0]
    words = f"{state.name}{state.last_error or ''}"
    return all(0 <= at <= NEVER for at in instants) and words.isprintable()


def _stone(name: Name, version: int, value: bytes) -> Tombstone:
    try:
        if len(value) > MAX_FACT_BYTES:
            raise ValueError("a reason is too long")
        why = _because.decode(value)
    except _DECODE_ERRORS:
        # The decision is in the fact; damage to the reason must not lift it.
        why = _Because("the reason that the fleet has for it can't be read", 0.0)
    return Tombstone(*name, why.reason[:MAX_REASON_CHARS], why.at, frozenset(), version)


def _precedence(stone: Tombstone) -> tuple[int, float, str]:
    """Of several texts of one fact the earliest counts, in whatever order they come."""
    return stone.version, -stone.at, stone.reason


def _encoded(kind: str, issuer: str, kid: str, what: int | str) -> bytes:
    return msgspec.json.encode((kind, issuer, kid, what))


def _parsed(encoded: bytes) -> Fact:
    if len(encoded) > MAX_FACT_BYTES:
        raise ValueError("a fact is too long")
    fact: Fact = _fact.decode(encoded)
    kind, issuer, kid, what = fact
    if not issuer or not is_kid(kid):
        raise ValueError("a fact names no key")
    if isinstance(what, str) is not (kind == "key"):
        raise ValueError("a fact has no version")
    if isinstance(what, str) and not _is_thumbprint(what):
        raise ValueError("a fact has no thumbprint")
    newest = MAX_LIFT_VERSION if kind == "lift" else MAX_DISTRUST_VERSION
    if isinstance(what, int) and not 0 < what <= newest:
        raise ValueError("a fact has no version")
    return fact
