"""A fleet as one thing that can be told to refuse a key: what every kind of fleet has in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

from jwks_guard.base.arguments import require_text
from jwks_guard.base.clock import Clock
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    KeysUnavailableError,
    RevocationRefusedError,
)
from jwks_guard.jose.header import MAX_KID_CHARS, is_kid
from jwks_guard.keys.distrust import Name, Tombstones
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import Reach

ACKNOWLEDGE_SECONDS = 5.0
"""For so long the instances are waited for, to say that they refuse the key."""
_LOOK_SECONDS = 0.02
_NOBODY = Refusal("the fleet", None, "no instance shows itself; one that starts will hear of it")


class FleetKeys:
    """The keys that every live instance trusts, as of the last look."""

    def __init__(
        self, look: Callable[[], Awaitable[tuple[InstanceState, ...]]], clock: Clock
    ) -> None:
        self._look = look
        self._clock = clock
        self.kids: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Look at the instances anew; raises KeysUnavailableError when none reports."""
        states = live(await self._look(), self._clock.time())
        if not states:
            self.kids = frozenset()
            raise KeysUnavailableError("No instance of the fleet reports.")
        self.kids = frozenset.intersection(*(frozenset(state.kids) for state in states))


class FleetCommands(ABC):
    """Tells the whole fleet, and says what it shows. A kind of fleet fills in how.

    `issuer` is whose keys; without it there is nothing to tell.
    """

    clock: Clock

    def __init__(self, issuer: str | None) -> None:
        self._issuer = issuer
        self.keys = FleetKeys(self._refreshed_states, self.clock)

    @property
    def issuer(self) -> str:
        """Whose tokens its instances refuse."""
        if self._issuer is None:
            raise ConfigurationError(
                "The fleet does not know whose keys are meant: give it `issuer`, the tokens' `iss`."
            )
        return self._issuer

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> list[Refusal]:
        """Have every instance refuse `kid`; gives who does, since when.

        An instance that does not say so within 5 s, or does not report any more, is in the list
        with an error. Raises RevocationRefusedError where an instance trusts no other key and
        `force` is not given, and DistrustNotSharedError.
        """
        _require_kid(kid)
        require_text("reason", reason)
        before, known = await asyncio.gather(self._states_before(), self._known())
        if not force and any(s.kids == (kid,) for s in live(before, self.clock.time())):
            raise RevocationRefusedError(
                "This is the only key that an instance trusts: without it every token would be "
                "refused there. Rotate first, or pass force=True."
            )
        name = (self.issuer, kid)
        stone = known.decided(name, reason, self.clock.time())
        await self._decide(Tombstones({name: stone}))
        return await self._acknowledged(kid, before) or [_NOBODY]

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift the distrust of `kid` everywhere; raises DistrustNotSharedError."""
        _require_kid(kid)
        require_text("reason", reason)
        name: Name = (self.issuer, kid)
        version = (await self._known()).next_lift(name)
        await self._decide(Tombstones(lifted={name: version}))

    async def observe(self, kid: str, issuer: str | None = None) -> Observed:
        """What the instances show of `kid` of that issuer, by default the fleet's own."""
        states, reach = await self._states(issuer), await self._reach(kid, issuer)
        return Observed(states, reach.expiry or None, reach.lifetime or None)

    async def _states_before(self) -> tuple[InstanceState, ...]:
        try:
            return await self._states()
        except DistrustNotSharedError:
            return ()  # what can't be asked must not keep those from refusing that can be told

    async def _acknowledged(self, kid: str, before: Sequence[InstanceState]) -> list[Refusal]:
        """Wait until every live instance says that it refuses the key, or for long enough.

        One that has shown nothing since `before` says nothing about this decision.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + ACKNOWLEDGE_SECONDS
        old = {state.instance: state.reported_at for state in before}
        while True:
            states, now = await self._states(), self.clock.time()
            fresh = [s for s in states if s.reported_at != old.get(s.instance)]
            said = {state.instance for state in fresh if kid in state.refused}
            waiting = any(state.instance not in said for state in live(states, now))
            if not waiting or loop.time() >= until:
                return [_refusal(s, kid if s.instance in said else "", now) for s in states]
            await asyncio.sleep(_LOOK_SECONDS)

    async def _refreshed_states(self) -> tuple[InstanceState, ...]:
        await self._ask_to_refresh()
        return await self._states()

    @abstractmethod
    async def _known(self) -> Tombstones:
        """What the fleet has decided so far."""

    @abstractmethod
    async def _decide(self, decisions: Tombstones) -> None:
        """Have the instances take these over; raises DistrustNotSharedError."""

    @abstractmethod
    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        """What the live instances show."""

    @abstractmethod
    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        """How far the tokens of `kid` reach that any instance ever accepted."""

    @abstractmethod
    async def _ask_to_refresh(self) -> None:
        """Have the instances fetch the keys; returns when they have had the time to."""


def _require_kid(kid: object) -> None:
    require_text("kid", kid)
    if not is_kid(kid):
        raise ConfigurationError(f"kid must be a string of 1 to {MAX_KID_CHARS} characters.")


def live(states: Iterable[InstanceState], now: float) -> tuple[InstanceState, ...]:
    """Those of `states` that reported lately."""
    return tuple(state for state in states if now - state.reported_at <= LIVE_SECONDS)


def _refusal(state: InstanceState, kid: str, now: float) -> Refusal:
    since = state.refused.get(kid)
    if since is None:
        silent = now - state.reported_at
        last = f"; it last reported {silent:.0f} s ago" if silent > LIVE_SECONDS else ""
        return Refusal(state.name, None, f"it has not acknowledged the decision{last}")
    return Refusal(state.name, datetime.fromtimestamp(since, UTC))
