"""A fleet as one thing that can be told to refuse a key: what every kind of fleet has in common."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from jwks_guard.base.arguments import (
    require_issuer,
    require_kid,
    require_seconds,
    require_text,
)
from jwks_guard.base.clock import Clock
from jwks_guard.base.histogram import Durations
from jwks_guard.base.observer import Activity, observed
from jwks_guard.distrust.copies import Copies
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import NOTHING, Distrusted, Flags, Name
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    KeysUnavailableError,
    RevocationRefusedError,
)
from jwks_guard.fleet.members import Members
from jwks_guard.keys.home import Home
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Observed, Refusal
from jwks_guard.readiness.usage import Reach

ACKNOWLEDGE_SECONDS = 5.0
"""For so long the instances are waited for, to say that they refuse the key."""
CUT_OFF_REFRESH_SECONDS = 10.0
"""While others can't be reached, keys are fetched this often."""
MAX_POLL_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_NOBODY = Refusal("the fleet", None, "no instance shows itself; one that starts will hear of it")


class Exchanges:
    """How many exchanges this process has made, by outcome, and how long they took."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.counts = Counter(complete=0, failed=0)
        self.durations = Durations()

    def add(self, outcome: str, seconds: float) -> None:
        """Count one."""
        self.counts[outcome] += 1
        self.durations = self.durations.with_one(seconds)


class FleetKeys:
    """The keys that every live instance trusts, as of the last look."""

    def __init__(
        self, look: Callable[[], Awaitable[tuple[InstanceState, ...]]], clock: Clock
    ) -> None:
        self._look = look
        self._clock = clock
        self._states: tuple[InstanceState, ...] = ()
        self.kids: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Look at the instances anew; raises KeysUnavailableError when none reports."""
        self.kids, self._states = frozenset(), ()
        self._states = states = live(await self._look(), self._clock.time())
        if not states:
            raise KeysUnavailableError("No instance of the fleet reports.")
        self.kids = frozenset.intersection(*(frozenset(state.kids) for state in states))

    def without(self, kid: str) -> list[str]:
        """The names of the instances that did not trust `kid`."""
        return [state.name for state in self._states if kid not in state.kids]


class FleetCommands(ABC):
    """Commands for the whole fleet, and what it shows. A kind of fleet fills in how."""

    def __init__(self, issuer: str | None, poll_interval: float, clock: Clock) -> None:
        if issuer is not None:
            require_issuer(issuer)
        require_seconds("poll_interval", poll_interval)
        if poll_interval > MAX_POLL_SECONDS:
            raise ConfigurationError(f"poll_interval must be {MAX_POLL_SECONDS:.0f} s at the most.")
        self.clock = clock
        self.keys = FleetKeys(self._refreshed_states, clock)
        self._exchanges = Exchanges()
        self._members = Members(issuer)
        self._poll_interval = poll_interval
        self._reaches: Mapping[Name, Reach] = {}
        self._home = Home("fleet")
        self._watching: asyncio.Task[None] | None = None

    @property
    def exchange_counts(self) -> Mapping[str, int]:
        """How many exchanges of this process ended how."""
        return self._counted().counts

    @property
    def exchange_durations(self) -> Durations:
        """How long they took."""
        return self._counted().durations

    @property
    def reaches(self) -> Mapping[Name, Reach]:
        """How far tokens reach that instances ever accepted, where they tell each other."""
        return self._reaches

    @property
    def disagreement(self) -> str | None:
        """Whose decisions are ignored although they are exchanged; None where nobody's are."""
        return None

    @property
    def register(self) -> Register:
        """What this process distrusts by what it heard from the fleet, and by its own decisions."""
        return self._members.register

    @property
    def issuer(self) -> str:
        """The issuer whose tokens its instances refuse."""
        return self._members.issuer

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> list[Refusal]:
        """Have every instance refuse `kid`; gives which ones do, and since when.

        An instance that does not confirm it within 5 s, or does not report any more, is in the list
        with an error. Raises RevocationRefusedError where an instance trusts no other key and
        `force` is not given, and DistrustNotSharedError. `actor` is shown as who decided it: a
        person, or by default this process.
        """
        require_kid(kid)
        require_text("reason", reason)
        issuer, at = self.issuer, self.clock.time()
        if force:  # nothing is waited for before it is refused in this process
            self._members.register.distrust(issuer, kid, reason=reason, at=at, actor=actor)
        before: tuple[InstanceState, ...] = ()
        with suppress(DistrustNotSharedError):  # it keeps nobody from refusing who can be reached
            before = await self._states()
        if not force:
            if any(state.kids == (kid,) for state in live(before, at)):
                raise RevocationRefusedError(
                    "This is the only key that an instance trusts: without it every token would "
                    "be refused there. Rotate first, or pass force=True."
                )
            self._members.register.distrust(issuer, kid, reason=reason, at=at, actor=actor)
        # Of the fleet it is enough to reach some: the receipt names the others.
        await self._copies().spread(some=True)
        return await self._acknowledged(kid, before) or [_NOBODY]

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        """Lift the distrust of `kid` everywhere; `actor` as for `distrust`.

        Raises ConfigurationError for a kid that was never distrusted, and DistrustNotSharedError,
        which names the instances that were not reached.
        """
        at = self.clock.time()
        await self._copies().reinstate(kid, reason=reason, at=at, required=[self], actor=actor)

    async def is_distrusted(self, kid: str) -> bool:
        """Whether `kid` is distrusted in the fleet.

        Raises DistrustNotSharedError when it could not be asked, or told what is known here.
        """
        copies = self._copies()
        await copies.spread()
        return kid in copies.register.state.of(copies.issuer)

    async def distrusted(self) -> Mapping[str, Distrusted]:
        """The keys that are distrusted in the fleet by kid: who decided it, when and why.

        Of instances over HTTP, those that answer are asked. Raises DistrustNotSharedError when
        nothing could be asked.
        """
        copies = self._copies()
        await copies.spread(some=True)
        return copies.register.state.of(copies.issuer)

    async def observe(self, kid: str, issuer: str | None = None) -> Observed:
        """What the instances show of `kid` of that issuer, by default the fleet's own."""
        states, reach = await self._states(issuer), await self._reach(kid, issuer)
        return Observed(states, reach.expiry or None, reach.lifetime or None)

    async def aclose(self) -> None:
        """Stop exchanging, and close the connections."""
        if self._home.here:
            self._home.leave()
            watching, self._watching = self._watching, None
            if watching is not None:
                watching.cancel()
                await asyncio.wait({watching})

    def _counted(self) -> Exchanges:
        """The exchanges of this process: a forked child counts from 0."""
        if self._exchanges.process != os.getpid():
            self._exchanges = Exchanges()
        return self._exchanges

    @contextmanager
    def _exchanging(self) -> Iterator[Activity]:
        """Count an exchange by the outcome that is noted, and show it to the observer."""
        loop = asyncio.get_running_loop()
        activity, begun = Activity("exchange", type(self).__name__), loop.time()
        with observed(self._members.observer, activity):
            yield activity
        self._counted().add(activity.outcome, loop.time() - begun)

    def _copies(self) -> Copies:
        """The fleet itself, and the journals of its members; another verifier may have joined."""
        register = self._members.register
        return Copies(register, self.issuer, [*register.journals, self])

    def _settle(self) -> bool:
        """Belong to the running event loop; gives False where it did already.

        Raises ConfigurationError while it belongs to another one.
        """
        new = self._home.settle()
        if new:
            self._watching = None
        return new

    def _ensure_watching(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    def _unasked(self, why: str) -> DistrustNotSharedError:
        failure = DistrustNotSharedError(why)
        failure.here = bool(self._members)
        return failure

    async def _acknowledged(self, kid: str, before: Sequence[InstanceState]) -> list[Refusal]:
        """Wait until every live instance says that it refuses the key, or for long enough.

        One that has shown nothing since `before` says nothing about this decision.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + ACKNOWLEDGE_SECONDS
        old = {state.instance: state.reported_at for state in before}
        states = before
        while True:
            unseen = ""
            try:  # the decision is shared already: of a look that fails, another one is taken
                states = await self._states()
            except DistrustNotSharedError as error:
                unseen = str(error)
            now = self.clock.time()
            fresh = [s for s in states if s.reported_at != old.get(s.instance)]
            said = {state.instance for state in fresh if kid in state.refused}
            waiting = any(state.instance not in said for state in live(states, now))
            if not (waiting or unseen) or loop.time() >= until:
                if unseen and not states:
                    return [Refusal("the fleet", None, f"no instance could be asked: {unseen}")]
                return [_refusal(s, kid if s.instance in said else "", now) for s in states]
            await asyncio.sleep(_LOOK_SECONDS)

    @abstractmethod
    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what the others hold, then have them hold what the register does, and `offer`.

        Raises CopyError.
        """

    @abstractmethod
    async def _watch(self) -> None:
        """Exchange every few seconds, for as long as there are members."""

    @abstractmethod
    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        """What the live instances show."""

    @abstractmethod
    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        """How far the tokens of `kid` reach that any instance ever accepted."""

    @abstractmethod
    async def _refreshed_states(self) -> tuple[InstanceState, ...]:
        """What the live instances show once they have fetched the keys, or had the time to."""


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
