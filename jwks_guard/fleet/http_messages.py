"""What instances say to each other over HTTP, as JSON: decisions as facts, and states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from jwks_guard.fleet.records import Decisions, decisions_in, encoded_state
from jwks_guard.jose.header import is_kid
from jwks_guard.keys.distrust import Name
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER, Reach

INSTANCE_HEADER = "JWKS-Guard-Instance"
"""Every answer of a guarded route carries the random id of the process in it."""
MAX_POST_BYTES = 1_048_576
MAX_ANSWER_BYTES = 16_777_216
MAX_DECISIONS = 10_000
"""More than any fleet decides in its life."""
MAX_FACTS = 3 * MAX_DECISIONS
MAX_REACHES = 1000
_T = TypeVar("_T")
_BATCH_BYTES = MAX_POST_BYTES // 2
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class MessageError(ValueError):
    """The bytes are none of these messages; the text says so without quoting them."""


class Entry(msgspec.Struct, array_like=True):
    """One fact and why, each as in `records`."""

    fact: msgspec.Raw
    why: msgspec.Raw


class Facts(msgspec.Struct):
    """What somebody is to go by from now on."""

    facts: list[Entry]


class KnownAnswer(msgspec.Struct):
    """What an instance goes by, and how far tokens reach, as it knows, by issuer and kid."""

    facts: list[Entry]
    reaches: list[tuple[str, str, float, float]] = []


class StateAnswer(msgspec.Struct):
    """What an instance shows for each issuer; `error`: what it could not store of what it knows."""

    instance: str
    states: list[msgspec.Raw]
    error: str | None = None


_facts = msgspec.json.Decoder(Facts)
_known = msgspec.json.Decoder(KnownAnswer)
_state = msgspec.json.Decoder(StateAnswer)


def facts_in(body: bytes) -> dict[bytes, bytes]:
    """The facts of a message; raises MessageError."""
    return _mapping(_decoded(_facts, body).facts)


def known_in(body: bytes) -> tuple[dict[bytes, bytes], dict[Name, Reach]]:
    """The facts of an answer and how far tokens reach; raises MessageError."""
    answer = _decoded(_known, body)
    reaches = {
        (issuer, kid): Reach(expiry, lifetime)
        for issuer, kid, expiry, lifetime in answer.reaches
        if issuer and is_kid(kid) and 0 <= expiry <= NEVER and 0 <= lifetime <= NEVER
    }
    return _mapping(answer.facts), reaches


def decisions_of(issuers: Collection[str], facts: Mapping[bytes, bytes]) -> Decisions:
    """What the facts about keys of `issuers` come to."""
    told = decisions_in(facts)
    stones = tuple(stone for stone in told.stones if stone.issuer in issuers)
    lifts = {name: version for name, version in told.lifts.items() if name[0] in issuers}
    return Decisions(stones, lifts, told.unreadable)


def require_few(facts: Mapping[bytes, bytes], issuers: Collection[str]) -> None:
    """Raise MessageError where these are more than a fleet of `issuers` ever decides.

    With more of them taken over, nobody could be told anything any more.
    """
    if len(facts) > MAX_FACTS:
        raise MessageError(f"it holds more than {MAX_FACTS} facts")
    if len(facts) > MAX_DECISIONS:
        told = decisions_of(issuers, facts)
        if len({(s.issuer, s.kid) for s in told.stones} | told.lifts.keys()) > MAX_DECISIONS:
            raise MessageError(f"it holds more than {MAX_DECISIONS} decisions")


def state_in(body: bytes) -> StateAnswer:
    """What an instance shows; raises MessageError."""
    return _decoded(_state, body)


def known_answer(facts: Mapping[bytes, bytes], reaches: Mapping[Name, Reach]) -> bytes:
    """The answer with these facts, and how far tokens reach."""
    furthest = [(*name, *reach) for name, reach in reaches.items()]
    return msgspec.json.encode(KnownAnswer(_entries(facts.items()), furthest))


def state_answer(instance: str, states: Iterable[InstanceState], error: str | None) -> bytes:
    """The answer that shows these states."""
    shown = [msgspec.Raw(encoded_state(state)) for state in states]
    return msgspec.json.encode(StateAnswer(instance, shown, error))


def messages(facts: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """The facts, in as many messages as it takes."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for fact, why in facts.items():
        length = len(fact) + len(why)
        if part and size + length > _BATCH_BYTES:
            yield msgspec.json.encode(Facts(_entries(part)))
            part, size = [], 0
        part.append((fact, why))
        size += length
    if part:
        yield msgspec.json.encode(Facts(_entries(part)))


def furthest(one: Mapping[Name, Reach], other: Mapping[Name, Reach]) -> dict[Name, Reach]:
    """Of each kid what reaches further; of too many kids those whose tokens end last."""
    nothing = Reach()
    both = {
        name: one.get(name, nothing).joined(other.get(name, nothing)) for name in {*one, *other}
    }
    return dict(sorted(both.items(), key=lambda item: item[1])[-MAX_REACHES:])


def reaches_of(states: Iterable[InstanceState]) -> dict[Name, Reach]:
    """How far the tokens reach that each state shows, by kid."""
    shown = {
        (state.issuer, kid): usage.reach for state in states for kid, usage in state.usage.items()
    }
    return {name: reach for name, reach in shown.items() if any(reach)}


def _entries(facts: Iterable[tuple[bytes, bytes]]) -> list[Entry]:
    return [Entry(msgspec.Raw(fact), msgspec.Raw(why)) for fact, why in facts]


def _mapping(entries: Iterable[Entry]) -> dict[bytes, bytes]:
    return {bytes(entry.fact): bytes(entry.why) for entry in entries}


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except _DECODE_ERRORS:
        raise MessageError("it is none of the fleet's messages") from None
