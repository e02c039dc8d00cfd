"""One instance of the fleet behind its URL: what is exchanged with it, and what it showed last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import Distrust, Flags, Name, State
from jwks_guard.fleet.http_endpoint import Endpoint, EndpointError
from jwks_guard.fleet.http_messages import (
    Exchange,
    ExchangeAnswer,
    MessageError,
    StateAnswer,
    decoded,
    merged_parts,
    parts_of,
    reaches_in,
)
from jwks_guard.fleet.slices import lacking
from jwks_guard.fleet.soundness import TooManyError, silent_state, states_in
from jwks_guard.readiness.state import InstanceState, Refusal, combined
from jwks_guard.readiness.usage import Reach

REFRESH_SECONDS = 6.0
"""Longer than an instance takes to fetch its keys, or to fail at it."""
_FAILURES = (EndpointError, MessageError, TooManyError)


class Outcome(NamedTuple):
    """How an exchange ended: the instance that holds what we do, if one does, and what is wrong."""

    instance: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Ours:
    """This side of an exchange with all instances: they are to hold `state` and `offer`.

    Decisions about keys of `issuers` are exchanged. `offer` is not yet in effect in this process,
    so it is not made to this very process. `turn` has one instance at a time take the event loop
    for thousands of decisions.
    """

    register: Register
    state: State
    issuers: frozenset[str]
    offer: Flags
    turn: asyncio.Lock


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """What an instance held at a `version`, about keys of `asked`; `issuers` are its own.

    It was merged into `register`.
    """

    register: Register
    instance: str
    version: str
    asked: frozenset[str]
    issuers: frozenset[str]
    flags: dict[Name, Distrust]


class Peer:
    """The instance behind `endpoint`.

    `error` says what was wrong the last time. `reaches` tells how far tokens reach, as it said.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.error: str | None = "it was not asked yet"
        self.reaches: Mapping[Name, Reach] = {}
        self._shown: list[msgspec.Raw] = []
        self._held: _Held | None = None
        self._settled: tuple[_Held | None, State] | None = None

    # --- what it showed ---

    def state(self, issuer: str) -> InstanceState:
        """What it showed of `issuer` last; one that can't be asked now confirms no key."""
        state = self._known_state(issuer)
        if state is None:
            return silent_state("", self.endpoint.name, issuer, 0.0, self.error)
        if self.error is None:
            return state
        return replace(state, kids=(), status="unavailable", last_error=self.error)

    def refusal(self, issuer: str, kid: str) -> Refusal:
        """Whether it refuses `kid`, as it showed last."""
        state = self._known_state(issuer)
        since = None if state is None else state.refused.get(kid)
        error = self.error or (None if since else "it has not acknowledged the decision")
        at = None if since is None else datetime.fromtimestamp(since, UTC)
        return Refusal(self.endpoint.name if state is None else state.name, at, error)

    def _known_state(self, issuer: str) -> InstanceState | None:
        states = states_in((bytes(state) for state in self._shown), issuer)
        return combined(states) if states else None

    # --- what it is asked ---

    async def refresh(self) -> None:
        """Have it fetch its keys, and note what it shows then."""
        try:
            content = await self.endpoint.ask("POST", "/fleet/refresh", b"", REFRESH_SECONDS)
            answer = decoded(content, StateAnswer)
            self._shown, self.error = answer.states, self._problem(answer)
        except _FAILURES as error:
            self.error = self._named(str(error))

    async def exchange(self, ours: Ours) -> Outcome:
        """Merge what it holds, then have it hold what we do, and the offer."""
        try:
            answer = await self._told(ours, await self._lacking(ours))
            if parts := await self._lacking(ours):
                answer = await self._told(ours, parts)
            missing = parts and await self._lacking(ours)
        except _FAILURES as error:
            self.error = self._named(str(error))
            return Outcome(None, self.error)
        self.error = self._problem(answer)
        if missing and self.error is None:
            self.error = self._named("it was sent the decisions and does not hold them")
        return Outcome(None if missing else answer.instance, self.error)

    async def _lacking(self, ours: Ours) -> dict[Name, Distrust]:
        """What it lacks, as far as is known; of one that was never heard of, all but the offer."""
        held, state = self._held, ours.state
        if held is not None and held.instance == ours.register.instance:
            return {}
        if not ours.offer and self._settled == (held, state):
            return {}
        async with ours.turn:
            if held is None:
                parts = await lacking(state.flags, {}, ours.issuers)
            else:
                wanted = state.merged(ours.offer).flags
                parts = await lacking(wanted, held.flags, ours.issuers & held.issuers)
        if not ours.offer and not parts:
            self._settled = held, state
        return parts

    async def _told(self, ours: Ours, parts: Flags) -> ExchangeAnswer:
        """Send `parts`, and merge what it holds."""
        held = self._held
        if held and (held.register is not ours.register or held.asked != ours.issuers):
            held = None
        message = Exchange(known=held.version if held else None, parts=await parts_of(parts))
        body = msgspec.json.encode(message)
        content = await self.endpoint.ask("POST", "/fleet/exchange", body)
        answer = decoded(content, ExchangeAnswer)
        self._shown = answer.states
        self.reaches = reaches_in(answer, ours.issuers)
        if ours.issuers.isdisjoint(answer.issuers):
            raise EndpointError(f"it verifies no tokens of {' or '.join(sorted(ours.issuers))}")
        if held is None or answer.version != held.version:
            self._held = await self._read(ours, answer, held)
        return answer

    async def _read(self, ours: Ours, answer: ExchangeAnswer, before: _Held | None) -> _Held:
        """Merge what it holds; `before` is what it held at the version that was told to it."""
        if answer.since is not None and (before is None or before.version != answer.since):
            raise MessageError("it left out what it holds")
        # What this very process holds needs no reading.
        news = answer.parts if answer.instance != ours.register.instance else []
        async with ours.turn:
            flags = await merged_parts(news, ours.register, ours.issuers)
        if before is not None and answer.since is not None:
            flags = {**before.flags, **flags}
        issuers = frozenset(answer.issuers)
        return _Held(ours.register, answer.instance, answer.version, ours.issuers, issuers, flags)

    def _problem(self, answer: StateAnswer) -> str | None:
        """What is wrong with an instance that gave a good answer."""
        unstored = answer.error and self._named(f"it holds the decisions, but {answer.error}")
        return self.endpoint.several or unstored

    def _named(self, why: str) -> str:
        return f"{self.endpoint.url}: {why}"
