"""RedisFleet: decisions and states of many processes in one Redis.

Redis is told everything by everybody and trusted by nobody: instances merge what they read into
what they know, and write back what is missing there. So a lost message, a flush, a restart without
data or a partition costs time, never a decision.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from functools import partial
from typing import Self, TypeVar

from redis.exceptions import RedisError

from jwks_guard.base.arguments import require_issuer, require_seconds, require_text
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.errors import ConfigurationError, DistrustNotSharedError, JWKSGuardError
from jwks_guard.fleet.commands import FleetCommands
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import MAX_LIFT_VERSION, decisions_in, facts_of
from jwks_guard.fleet.redis_exchange import Exchanged
from jwks_guard.fleet.redis_link import RedisLink, answered, connected
from jwks_guard.fleet.redis_records import REFRESH, RedisRecords
from jwks_guard.fleet.redis_watch import Watch
from jwks_guard.keys.distrust import FleetMember, Name, Tombstones
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import Reach

CUT_OFF_REFRESH_SECONDS = 10.0
"""While Redis can't be reached, keys are refreshed this often."""
MAX_POLL_SECONDS = 5.0
_REFRESH_SECONDS = 1.0
_WARN_PAUSE_SECONDS = 60.0
"""Between two warnings of the same cause, where Redis is heard in between."""
_FAILURES = (RedisError, OSError, TimeoutError)
_T = TypeVar("_T")


class RedisFleet(FleetCommands):
    """Shares through the Redis at `url`; give it to verifiers as `fleet`.

    An instance that ended without leaving is shown as silent for a day, and keeps a key from being
    ready to revoke: it may be cut off and still serve tokens. `dismiss` one that is known to be
    dead.

    Arguments:
        url: redis://, rediss:// (TLS) or unix://, with user name and password where needed.
        issuer: whose keys its own methods mean; not needed beside verifiers of one issuer.
        prefix: what the names of its keys and of its channel begin with.
        require_fleet: a verifier does not start while Redis can't be reached.
        poll_interval: everything is read anew at least this often, in seconds; 5 at the most.
        clock: anything with time() and monotonic().

    """

    def __init__(
        self,
        url: str,
        *,
        issuer: str | None = None,
        prefix: str = "jwks-guard",
        require_fleet: bool = False,
        poll_interval: float = 2.0,
        clock: Clock = time,
    ) -> None:
        require_text("url", url)
        require_text("prefix", prefix)
        require_seconds("poll_interval", poll_interval)
        if poll_interval > MAX_POLL_SECONDS:
            raise ConfigurationError(f"poll_interval must be {MAX_POLL_SECONDS:.0f} s at the most.")
        if issuer is not None:
            require_issuer(issuer)
        self.error: str | None = "Redis was not asked yet"
        self.clock = clock
        super().__init__(issuer)
        self._url = url
        self._prefix = prefix
        self._id = secrets.token_hex(4)  # there may be one for each event loop of a process
        self._require = require_fleet
        self._members = Members()
        self._exchanged = Exchanged(self._members, issuer)
        self._link: RedisLink | None = None
        self._leaving = 0
        self._warned = ("", -math.inf)
        self._watch = Watch(self._members, self._exchange, self._cut_off, poll_interval, clock)
        connected(url)  # that it can't be read shows here

    def __repr__(self) -> str:
        return f"RedisFleet(prefix={self._prefix!r})"

    @property
    def issuer(self) -> str:
        """Whose tokens its instances refuse."""
        return self._issuer or self._members.issuer()

    async def join(self, member: FleetMember) -> None:
        """Take part from now on; `member` goes by the fleet's decisions when this returns.

        Raises ConfigurationError with `require_fleet` when Redis can't be reached.
        """
        link = self._linked()
        self._members.add(member)
        try:
            await answered(self._exchange())
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it answers, tokens are verified
            self._cut_off(error)
            if self._require:
                await self.leave(member)
                raise ConfigurationError(
                    f"{self.error}. It is required (require_fleet=True): start it, or mend its URL."
                ) from None
        link.watch(partial(self._watch.run, self._records().channel))

    async def leave(self, member: FleetMember) -> None:
        """Take part no longer; the last one closes the connections."""
        last = self._members.states(self.clock.time())
        self._members.discard(member)
        link = self._link
        if link is None or not link.here():
            return
        self._leaving += 1
        try:
            with suppress(Exception):  # what is shown ends by itself
                await answered(self._say_goodbye(link, last))
        finally:
            self._leaving -= 1
        if not self._members and not self._leaving and self._link is link:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of a fleet without verifiers."""
        link, self._link = self._link, None
        if link is not None and link.here():
            await link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def share(self) -> None:
        """Have Redis know what the members know; raises DistrustNotSharedError."""
        if self._members:
            await self._told(self._exchange())

    async def dismiss(self, instance: str) -> int:
        """Forget an instance that has ended without leaving; gives how many states it had.

        One that still runs shows itself anew. Raises DistrustNotSharedError.
        """
        return await self._told(self._records().dismiss(instance))

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        """Have the others lift these decisions; raises DistrustNotSharedError."""
        if max(lifts.values()) > MAX_LIFT_VERSION:
            raise DistrustNotSharedError(
                "This decision can't be lifted any more: its version is the last one. Remove it "
                "from the fleet's Redis and from every snapshot."
            )
        await self._told(self._records().write(facts_of(Tombstones(lifted=lifts))))

    # --- as one thing ---

    async def _known(self) -> Tombstones:
        known = self._members.known()
        try:
            theirs = decisions_in(await self._told(self._records().facts()))
        except DistrustNotSharedError:
            if not self._members:
                raise
            return known  # they are told in any case; `_decide` then says what it could not do
        return known.merged(theirs.stones).without(theirs.lifts)

    async def _decide(self, decisions: Tombstones) -> None:
        if decisions.lifted:
            await self.share_lifts(decisions.lifted, "")
        self._members.decide(decisions)  # of what is to be refused the members hear first
        if decisions.entries:
            await self._told(self._records().write(facts_of(decisions)))
            await self.share()
        await self._members.saved()

    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        return await self._told(self._records().states(issuer or self.issuer))

    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        return await self._told(self._records().reach(issuer or self.issuer, kid))

    async def _ask_to_refresh(self) -> None:
        await self._told(self._records().wake(REFRESH))
        await asyncio.sleep(_REFRESH_SECONDS)

    async def _told(self, step: Awaitable[_T]) -> _T:
        try:
            return await answered(step)
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - a server may answer anything
            self._cut_off(error)
            here = "is distrusted here stays so and is shared once Redis answers"
            failure = DistrustNotSharedError(
                f"{self.error}. What {here}; to lift something, or to see what the others do, "
                "repeat the call."
                if self._members
                else f"{self.error}. Nobody was told or asked anything: repeat the call."
            )
            failure.here = bool(self._members)
            raise failure from None

    # --- one exchange ---

    async def _exchange(self) -> None:
        """Read, merge, write back what Redis lacks, and show the members' states."""
        link, members, records = self._linked(), self._members, self._records()
        async with link.exchanging:
            await self._exchanged.again(records)
            now = self.clock.time()
            await records.show(members.states(now), now)
        self._heard()

    async def _say_goodbye(self, link: RedisLink, last: list[InstanceState]) -> None:
        async with link.exchanging:  # one that is on its way would show it again
            left = {member.issuer for member in self._members}
            await self._records().leave(last, left)

    # --- whether it is heard ---

    def _heard(self) -> None:
        if self.error is not None:
            self.error = None
            self._members.hurry(None)

    def _cut_off(self, error: BaseException) -> None:
        why = str(error) or type(error).__name__
        now = self.clock.monotonic()
        again = why == self._warned[0] and now - self._warned[1] < _WARN_PAUSE_SECONDS
        if self.error is None and not again:
            self._warned = (why, now)
            surprise = None if isinstance(error, _FAILURES) else error
            logger.warning("the fleet's Redis can't be reached: %s", why, exc_info=surprise)
        self.error = f"The fleet's Redis can't be reached ({why})"
        self._members.hurry(CUT_OFF_REFRESH_SECONDS)

    # --- connections ---

    def _linked(self) -> RedisLink:
        """The connections of this process and event loop."""
        link = self._link
        if link is None or not link.here():
            if link is not None and link.in_use():
                raise ConfigurationError(
                    "This fleet runs on another event loop. Make one RedisFleet for each loop."
                )
            link = self._link = RedisLink(self._url, before=link)
        return link

    def _records(self) -> RedisRecords:
        return RedisRecords(self._linked().redis, self._prefix, self._id)
