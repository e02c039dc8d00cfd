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
from typing import TYPE_CHECKING, Self, TypeVar

from redis.exceptions import RedisError

from jwks_guard.errors import ConfigurationError, DistrustNotSharedError, JWKSGuardError
from jwks_guard.fleet.commands import FleetCommands
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import MAX_LIFT_VERSION, decisions_in, facts_of
from jwks_guard.fleet.redis_link import ANSWER_SECONDS, RedisLink, connected
from jwks_guard.fleet.redis_records import REFRESH, Exchanged, RedisRecords
from jwks_guard.keys.arguments import require_issuer, require_seconds, require_text
from jwks_guard.keys.distrust import FleetMember, Name, Tombstones
from jwks_guard.keys.events import logger
from jwks_guard.keys.freshness import Clock
from jwks_guard.readiness import InstanceState
from jwks_guard.usage import Reach

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

CUT_OFF_REFRESH_SECONDS = 10.0
"""While Redis can't be reached, keys are refreshed this often."""
MAX_POLL_SECONDS = 5.0
_RETRY_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
"""Between two exchanges at least, however many wake-up calls come."""
_LONGEST_PAUSE_SECONDS = 0.5
_MAX_CALLS = 500
_REFRESH_SECONDS = 1.0
_REFRESH_PAUSE_SECONDS = 5.0
_FAILURES = (RedisError, OSError, TimeoutError)
_T = TypeVar("_T")


class RedisFleet(FleetCommands):
    """Shares through the Redis at `url`; give it to verifiers as `fleet`.

    An instance that ended without leaving is shown as silent for a day, and keeps a key from being
    ready to revoke: it may be cut off and still serve tokens. One that is known to be dead is
    dismissed by deleting its key, `PREFIX:state:INSTANCE:...`, from Redis.

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
        self._poll_interval = poll_interval
        self._members = Members()
        self._exchanged = Exchanged(self._members, issuer)
        self._link: RedisLink | None = None
        self._leaving = 0
        self._refreshed_at = -math.inf
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
            await self._answered(self._exchange())
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it answers, tokens are verified
            self._cut_off(error)
            if self._require:
                await self.leave(member)
                raise ConfigurationError(
                    f"{self.error}. It is required (require_fleet=True): start it, or mend its URL."
                ) from None
        link.watch(self._watch)

    async def leave(self, member: FleetMember) -> None:
        """Take part no longer; the last one closes the connections."""
        self._members.discard(member)
        link = self._link
        if link is None or not link.here():
            return
        self._leaving += 1
        try:
            with suppress(Exception):  # what is shown ends by itself
                await self._answered(self._forget(link, member.issuer))
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
        await self._told(self._exchange())

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
            if self._members:
                await self._told(self._exchange())

    async def _states(self) -> tuple[InstanceState, ...]:
        return await self._told(self._records().states(self.issuer))

    async def _reach(self, kid: str) -> Reach:
        return await self._told(self._records().reach(self.issuer, kid))

    async def _ask_to_refresh(self) -> None:
        await self._told(self._records().wake(REFRESH))
        await asyncio.sleep(_REFRESH_SECONDS)

    async def _told(self, step: Awaitable[_T]) -> _T:
        try:
            return await self._answered(step)
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - a server may answer anything
            self._cut_off(error)
            here = "is distrusted here stays so and is shared once Redis answers"
            failure = DistrustNotSharedError(
                f"{self.error}. What {here}; to lift something, or to see what the others do, "
                "repeat the call."
                if self._members
                else f"{self.error}. Nobody was told anything: repeat the call."
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

    async def _forget(self, link: RedisLink, issuer: str) -> None:
        async with link.exchanging:  # one that is on its way would show it again
            if all(member.issuer != issuer for member in self._members):
                await self._records().forget(issuer)

    # --- the watch ---

    async def _watch(self, link: RedisLink) -> None:
        """Exchange when woken and every few seconds, for as long as there are members."""
        while self._goes_on():
            try:
                async with link.redis.pubsub() as pubsub:
                    await self._answered(pubsub.subscribe(self._records().channel))
                    await self._answered(self._exchange())
                    while self._goes_on():
                        await self._wake_up(pubsub)
                        began = time.monotonic()
                        await self._answered(self._exchange())
                        await asyncio.sleep(_pause_after(time.monotonic() - began))
            except Exception as error:  # noqa: BLE001 - nothing ends the watch
                self._cut_off(error)
            await asyncio.sleep(_RETRY_SECONDS)
        await link.redis.aclose()

    def _goes_on(self) -> bool:
        """Whether to watch on; what is awaited may take a cancellation for a timeout of its own."""
        task = asyncio.current_task()
        return bool(self._members) and task is not None and task.cancelling() == 0

    async def _wake_up(self, pubsub: PubSub) -> None:
        """Wait for a call, or for long enough; all that came by then count as one."""
        patience = self._poll_interval
        for _ in range(_MAX_CALLS):
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=patience)
            if message is None:
                return
            self._heed(message)
            patience = 0.0

    def _heed(self, message: Mapping[str, object]) -> None:
        """Refresh the keys when asked to, though not for each of many who ask."""
        now = self.clock.monotonic()
        asked = message.get("data") == REFRESH
        if asked and now - self._refreshed_at >= _REFRESH_PAUSE_SECONDS:
            self._refreshed_at = now
            self._members.refresh_soon()

    def _heard(self) -> None:
        if self.error is not None:
            self.error = None
            self._members.hurry(None)

    def _cut_off(self, error: BaseException) -> None:
        why = str(error) or type(error).__name__
        if self.error is None:
            surprise = None if isinstance(error, _FAILURES) else error
            logger.warning("the fleet's Redis can't be reached: %s", why, exc_info=surprise)
        self.error = f"The fleet's Redis can't be reached ({why})"
        self._members.hurry(CUT_OFF_REFRESH_SECONDS)

    async def _answered(self, step: Awaitable[_T]) -> _T:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            return await step

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


def _pause_after(exchange_seconds: float) -> float:
    """So long that exchanges, even of very many decisions, leave most of the loop to others."""
    return min(max(_PAUSE_SECONDS, 4 * exchange_seconds), _LONGEST_PAUSE_SECONDS)
