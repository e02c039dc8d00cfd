"""What instances say to each other over HTTP, as JSON: decisions, states, how far tokens reach.

An instance sends an `Exchange` and reads an `ExchangeAnswer`. What it sends, the other one holds
when it answers. The answer has what the other one holds, less what is known of it already.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from jwks_guard.distrust.parts import decoded_part, encoded_part
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import NOTHING, Distrust, Flags, Name, State, merge_into
from jwks_guard.fleet.slices import merge, slices
from jwks_guard.fleet.soundness import (
    DECODE_ERRORS,
    MAX_DECISIONS,
    TooManyError,
    encoded_state,
    sound,
)
from jwks_guard.jose.header import is_kid
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER, Reach

INSTANCE_HEADER = "JWKS-Guard-Instance"
"""Every answer of a guarded route carries the random id of the process in it."""
MAX_MESSAGE_BYTES = 16_777_216
MAX_REACHES = 1000
_REMEMBERED_VERSIONS = 16
_T = TypeVar("_T")


class MessageError(ValueError):
    """The bytes are none of these messages; the text says so without quoting them."""


class Exchange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the other instance lacks, as parts of the state; `known`: its version that was read."""

    known: str | None = None
    parts: list[msgspec.Raw] = []


class StateAnswer(msgspec.Struct, kw_only=True):
    """What an instance shows for each issuer; `error`: why it could not store what it holds."""

    instance: str
    states: list[msgspec.Raw]
    error: str | None = None


class ExchangeAnswer(StateAnswer, kw_only=True):
    """What an instance holds about keys of `issuers`, whose tokens it verifies.

    `parts` are the flags that are not those of the version `since`, or all if that is None.
    `reaches` tells how far tokens reach, as far as it has heard: issuer, kid, latest expiry and
    longest lifetime.
    """

    version: str
    issuers: list[str]
    since: str | None = None
    parts: list[msgspec.Raw] = []
    reaches: list[tuple[str, str, float, float]] = []


def decoded(body: bytes, message: type[_T]) -> _T:
    """The message of that kind in `body`; raises MessageError."""
    try:
        return msgspec.json.decode(body, type=message)
    except DECODE_ERRORS:
        raise MessageError("it is none of the fleet's messages") from None


def shown(states: Iterable[InstanceState]) -> list[msgspec.Raw]:
    """States as they are sent."""
    return [msgspec.Raw(encoded_state(state)) for state in states]


# --- decisions ---


async def parts_of(flags: Flags) -> list[msgspec.Raw]:
    """Flags as they are sent."""
    parts: list[msgspec.Raw] = []
    for part in slices(flags.items()):
        parts += [msgspec.Raw(encoded_part(name, flag)) for name, flag in part]
        await asyncio.sleep(0)
    return parts


async def merged_parts(
    parts: Sequence[msgspec.Raw], register: Register, issuers: Collection[str]
) -> dict[Name, Distrust]:
    """Merge those parts into `register` that are sound and about keys of `issuers`; gives them.

    Others are passed over. Raises TooManyError, and then nothing was merged.
    """
    if len(parts) > MAX_DECISIONS:
        raise TooManyError(f"it holds more than {MAX_DECISIONS} decisions")
    theirs: dict[Name, Distrust] = {}
    for part in slices(parts):
        for raw in part:
            with suppress(ValueError):
                name, flag = decoded_part(raw)
                if name[0] in issuers and (kept := sound(name, flag)) is not None:
                    merge_into(theirs, [(name, kept)])
        await asyncio.sleep(0)
    await merge(register, theirs, issuers)
    return theirs


class Holdings:
    """What a register holds, as it is sent: only what has changed since a version that is known."""

    def __init__(self) -> None:
        self._issuers: frozenset[str] = frozenset()
        self._states: dict[str, State] = {}
        self._version = ""
        self._parts: dict[str | None, list[msgspec.Raw]] = {}

    async def since(
        self, known: str | None, state: State, issuers: frozenset[str]
    ) -> tuple[str, str | None, list[msgspec.Raw]]:
        """The version of `state`, and the flags about `issuers` that are not those of `known`.

        In between it tells which version that was; None where these are all flags.
        """
        if self._issuers != issuers:
            self._issuers = issuers
            self._states.clear()
        if not self._states or self._states[self._version] is not state:
            self._version, self._parts = secrets.token_hex(16), {}
            self._states[self._version] = state
            if len(self._states) > _REMEMBERED_VERSIONS:
                del self._states[next(iter(self._states))]
        version, cached = self._version, self._parts
        if known == version:
            return version, version, []
        since = known if known in self._states else None
        if since not in cached:
            before = NOTHING if since is None else self._states[since].flags
            changed = {
                name: flag
                for name, flag in state.flags.items()
                if name[0] in issuers and before.get(name) is not flag
            }
            cached[since] = await parts_of(changed)
        return version, since, cached[since]


# --- how far tokens reach ---


def reaches_in(answer: ExchangeAnswer, issuers: Collection[str]) -> dict[Name, Reach]:
    """How far tokens of `issuers` reach, by key."""
    return {
        (issuer, kid): Reach(expiry, lifetime)
        for issuer, kid, expiry, lifetime in answer.reaches
        if issuer in issuers and is_kid(kid) and 0 <= expiry <= NEVER and 0 <= lifetime <= NEVER
    }


def furthest(*all_reaches: Mapping[Name, Reach]) -> dict[Name, Reach]:
    """Of each key what reaches further; of too many keys those whose tokens end last."""
    joined: dict[Name, Reach] = {}
    for reaches in all_reaches:
        for name, reach in reaches.items():
            joined[name] = joined.get(name, reach).joined(reach)
    if len(joined) <= MAX_REACHES:
        return joined
    return dict(sorted(joined.items(), key=lambda item: item[1])[-MAX_REACHES:])


def reaches_of(states: Iterable[InstanceState]) -> dict[Name, Reach]:
    """How far the tokens reach that each state shows, by key."""
    found = {
        (state.issuer, kid): usage.reach for state in states for kid, usage in state.usage.items()
    }
    return {name: reach for name, reach in found.items() if any(reach)}
