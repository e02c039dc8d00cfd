"""What a fleet is to a key store, and a key store to a fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from jwks_guard.base.histogram import Durations
from jwks_guard.base.observer import Observer
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.register import Register
from jwks_guard.distrust.state import NOTHING, Flags, Name
from jwks_guard.errors import ConfigurationError, DistrustNotSharedError, KeysUnavailableError
from jwks_guard.keys.health import HealthReport
from jwks_guard.keys.home import Home
from jwks_guard.readiness.state import Observed
from jwks_guard.readiness.usage import KeyUsage, Reach

LONGEST_STEP_SECONDS = 10.0
"""How long another event loop is waited for, to exchange decisions or to show the instances."""
_STOPPED = "the event loop that the fleet lives on does not run"


class Member(Protocol):
    """What a fleet needs of a key store; used on the event loop that the store is bound to."""

    issuer: str
    register: Register
    since: float
    """When it began to count what its verifiers do, in seconds since the epoch."""
    observer: Observer | None
    """Is told of exchanges."""

    @property
    def refused_since(self) -> dict[str, float]:
        """When this process began to refuse each distrusted kid, in epoch seconds; latest last."""
        ...

    def health(self) -> HealthReport:
        """The state of its keys."""
        ...

    def usage(self) -> Mapping[str, KeyUsage]:
        """What became of each kid's tokens."""
        ...

    def refresh_soon(self) -> None:
        """Have the keys fetched without waiting for it."""
        ...

    def limit_interval(self, seconds: float | None) -> None:
        """Fetch the keys at least every so many seconds; None: as configured."""
        ...


class Fleet(Protocol):
    """Copies decisions and instance states between processes.

    Its methods are called on the event loop that its members are bound to.
    """

    @property
    def error(self) -> str | None:
        """Why it can't copy anything at the moment; None when it can."""
        ...

    @property
    def reaches(self) -> Mapping[Name, Reach]:
        """How far tokens reach that others ever accepted, by issuer and kid, if that is heard."""
        ...

    @property
    def exchange_counts(self) -> Mapping[str, int]:
        """How many exchanges reached all that they had to ("complete"), and how many "failed"."""
        ...

    @property
    def exchange_durations(self) -> Durations:
        """How long they took."""
        ...

    async def join(self, member: Member) -> None:
        """Take part from now on; the register of `member` holds the fleet's decisions afterwards.

        Raises ConfigurationError when that is required and not possible.
        """
        ...

    async def leave(self, member: Member) -> None:
        """Take part no longer."""
        ...

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what the others hold, then have them hold what the register does, and `offer`.

        Raises CopyError.
        """
        ...

    async def observe(self, kid: str, issuer: str) -> Observed:
        """What every process shows of that issuer's `kid`; raises JWKSGuardError, never guesses."""
        ...


class FleetCopy:
    """A fleet that may be asked on any event loop: it is on `home`, once `settle` has returned."""

    def __init__(self, fleet: Fleet, home: Home, settle: Callable[[], Awaitable[None]]) -> None:
        self._fleet = fleet
        self._home = home
        self._settle = settle

    @property
    def identity(self) -> int:
        """The same number for all that reach the same fleet."""
        return id(self._fleet)

    @property
    def is_idle(self) -> bool:
        """Whether its event loop was closed, or did not begin."""
        return self._home.vacant

    def require_elsewhere(self) -> None:
        """Raise ConfigurationError on its event loop, which can't be blocked to wait for itself."""
        self._home.require_elsewhere()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Exchange on the home loop; raises CopyError."""
        try:
            await self._settle()
        except KeysUnavailableError:
            raise CopyError("this verifier is closed, so its fleet was not told") from None
        except ConfigurationError as error:
            raise CopyError(f"this verifier does not start: {error}") from None
        try:
            await self._home.run(partial(self._fleet.exchange, offer), LONGEST_STEP_SECONDS)
        except TimeoutError:
            raise CopyError(_STOPPED) from None

    async def observe(self, kid: str, issuer: str) -> Observed:
        """What every process shows of that issuer's `kid`; raises JWKSGuardError."""
        await self._settle()
        step = partial(self._fleet.observe, kid, issuer)
        try:
            return await self._home.run(step, LONGEST_STEP_SECONDS)
        except TimeoutError:
            raise DistrustNotSharedError(f"The fleet can't be asked: {_STOPPED}.") from None
