"""RedisFleet: copies decisions and states between many processes through one Redis.

Instances merge what they read into what they know, and write back what is missing there. So a lost
message, a flush, a restart without data or a partition costs time, never a decision.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from redis.exceptions import RedisError

from jwks_guard.base.arguments import MIN_SECRET_CHARS, require_text
from jwks_guard.base.clock import Clock
from jwks_guard.base.events import logger
from jwks_guard.base.observer import Activity
from jwks_guard.distrust.copy import CopyError
from jwks_guard.distrust.state import NOTHING, Flags
from jwks_guard.errors import ConfigurationError, JWKSGuardError
from jwks_guard.fleet.commands import CUT_OFF_REFRESH_SECONDS, FleetCommands
from jwks_guard.fleet.redis_causes import cause_of
from jwks_guard.fleet.redis_decisions import REFRESH, RedisDecisions
from jwks_guard.fleet.redis_entries import Entries
from jwks_guard.fleet.redis_link import RedisLink, answered
from jwks_guard.fleet.redis_states import RedisStates
from jwks_guard.fleet.redis_url import parsed
from jwks_guard.keys.fleet import Member
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import Reach

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

LONGEST_EXCHANGE_SECONDS = 30.0
"""For all commands of one exchange, which may read thousands of decisions."""
_REFRESH_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
"""Between two exchanges at least, however many wake-up calls come."""
_LONGEST_PAUSE_SECONDS = 0.5
_MAX_CALLS = 500
_NOT_ASKED = "Redis was not asked yet"
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
        url: redis://, rediss:// (TLS) or unix://, with user name and password where needed. Of a
            cluster any node will do. Several nodes, of which one is the primary or knows it, are
            separated by commas. "redis+sentinel://host-1:26379,host-2:26379/service-name/0" (or
            rediss+sentinel) asks Sentinels for the primary; `sentinel_username` and
            `sentinel_password` are options of it.
        secret: what decisions in Redis are signed with (HMAC-SHA256), of 16 characters or more and
            the same for all instances. Entries without a valid signature are ignored and reported.
            To replace it, give both to each instance, then the new one alone. Without a secret,
            whatever can write to Redis can lift decisions.
        issuer: whose keys its own methods mean; not needed beside verifiers of one issuer.
        prefix: what the names of its keys and of its channel begin with, in braces: so they all
            lie in one hash slot of a cluster.
        require_fleet: a verifier does not start while Redis can't be reached.
        poll_interval: changes are looked for at least this often, in seconds; 5 at the most.
        clock: anything with time() and monotonic().

    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str] | None = None,
        issuer: str | None = None,
        prefix: str = "jwks-guard",
        require_fleet: bool = False,
        poll_interval: float = 2.0,
        clock: Clock = time,
    ) -> None:
        require_text("url", url)
        require_text("prefix", prefix)
        super().__init__(issuer, poll_interval, clock)
        self._url = parsed(url)
        self._prefix = f"{{{prefix}}}"
        self._id = secrets.token_hex(4)  # there may be one for each event loop of a process
        self._require = require_fleet
        self._entries = Entries(_secrets(secret))
        self._decisions = RedisDecisions(self._prefix, self._entries)
        self._link: RedisLink | None = None
        self._leaving = 0
        self._cause: str | None = _NOT_ASKED
        self._strange = 0  # entries, as the log says
        self._disagreed_at = -math.inf
        self._warned = ("", -math.inf)

    def __repr__(self) -> str:
        return f"RedisFleet(prefix={self._prefix!r})"

    @property
    def error(self) -> str | None:
        """Why decisions can't be exchanged, or are not ours; None while all is well."""
        return self.disagreement if self._cause is None else self._cause

    @property
    def disagreement(self) -> str | None:
        """Whose decisions are ignored because secrets differ; None where nobody's are."""
        if self._decisions.signed and not self._entries.signed:
            return (
                "The decisions in the fleet's Redis are signed, and this process has no secret: "
                "instances that have one ignore what is decided here. Give it the same secret; if "
                f"no instance has one any more, delete '{self._prefix}:decisions': it is written "
                "anew"
            )
        if self._decisions.refused and self._entries.signed:
            return (
                "Entries in the fleet's Redis without a valid signature are ignored "
                f"({len(self._decisions.refused)}): an instance has another secret, or none, or "
                "something else writes there. Give every instance the same secret, repeat what was "
                f"decided there, then delete '{self._prefix}:decisions': it is written anew"
            )
        return None

    async def join(self, member: Member) -> None:
        """Take part from now on; `member` knows the fleet's decisions when this returns.

        Raises ConfigurationError with `require_fleet` when Redis can't be reached.
        """
        self._linked()
        self._members.add(member)
        try:
            await self.exchange()
        except CopyError:
            if self._require:
                await self.leave(member)
                raise ConfigurationError(
                    f"{self._cause}. It is required (require_fleet=True), so nothing was started."
                ) from None
        self._ensure_watching()

    async def leave(self, member: Member) -> None:
        """Take part no longer; the last one closes the connections."""
        last = self._members.states(self.clock.time())
        self._members.discard(member)
        link = self._link
        if link is None or not self._home.here:
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
        """Stop exchanging, and close the connections."""
        if self._home.here:
            link, self._link = self._link, None
            await super().aclose()
            if link is not None:
                await link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def exchange(self, offer: Flags = NOTHING) -> None:
        """Merge what Redis holds, then have it hold what the register does, and `offer`.

        It has the members' states then, too. Raises CopyError.
        """
        link, members = self._linked(), self._members
        with self._exchanging() as activity:
            await self._exchange_over(link, offer, activity)
        if activity.error is not None:
            raise CopyError(str(activity.reason))
        if self._cause is not None:
            if self._cause != _NOT_ASKED:
                logger.warning("the fleet's Redis answers again")
            self._cause = None
            members.limit_interval(None)
        self._log_disagreement()

    def _log_disagreement(self) -> None:
        """Log who is ignored, at most once a minute: entries may come and go."""
        decisions = self._decisions
        strange = len(decisions.refused) if self._entries.signed else int(decisions.signed)
        now = self.clock.monotonic()
        if strange > self._strange and now - self._disagreed_at >= _WARN_PAUSE_SECONDS:
            logger.warning("%s", self.disagreement)
            self._strange, self._disagreed_at = strange, now
        self._strange = min(strange, self._strange)

    async def _exchange_over(self, link: RedisLink, offer: Flags, activity: Activity) -> None:
        try:
            async with asyncio.timeout(LONGEST_EXCHANGE_SECONDS):
                await link.exchange(partial(self._exchange, offer))
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - a server may answer anything
            self._cut_off(error)
            kind = "timeout" if isinstance(error, TimeoutError) else "redis"
            activity.ended("failed", kind, self._cause)
        else:
            activity.ended("complete")

    async def _exchange(self, offer: Flags, redis: Redis) -> None:
        members = self._members
        await self._decisions.exchange(redis, members.register, members.issuers, offer)
        now = self.clock.time()
        await answered(self._states_in(redis).show(members.states(now), now))

    async def dismiss(self, instance: str) -> int:
        """Forget an instance that has ended without leaving; gives how many states it had.

        One that still runs shows itself anew. Raises DistrustNotSharedError.
        """
        return await self._asked(lambda redis: self._states_in(redis).dismiss(instance))

    # --- as one thing ---

    async def _states(self, issuer: str | None = None) -> tuple[InstanceState, ...]:
        issuer = issuer or self.issuer
        return await self._asked(lambda redis: self._states_in(redis).states(issuer))

    async def _reach(self, kid: str, issuer: str | None = None) -> Reach:
        issuer = issuer or self.issuer
        return await self._asked(lambda redis: self._states_in(redis).reach(issuer, kid))

    async def _refreshed_states(self) -> tuple[InstanceState, ...]:
        await self._asked(lambda redis: redis.publish(self._decisions.channel, REFRESH))
        await asyncio.sleep(_REFRESH_SECONDS)
        return await self._states()

    async def _asked(self, step: Callable[[Redis], Awaitable[_T]]) -> _T:
        """What Redis answers; raises DistrustNotSharedError."""
        try:
            return await self._linked().ask(lambda redis: answered(step(redis)))
        except JWKSGuardError:
            raise
        except Exception as error:  # noqa: BLE001 - a server may answer anything
            self._cut_off(error)
            raise self._unasked(f"{self._cause}. What the instances trust is not known.") from None

    # --- exchanging when called, and every few seconds ---

    async def _watch(self) -> None:
        """Exchange when woken, for as long as there are members; what fails is tried again."""
        link = self._linked()
        while self._goes_on():
            redis: Redis | None = None
            try:
                redis = await link.primary()
                async with redis.pubsub() as pubsub:
                    await answered(pubsub.subscribe(self._decisions.channel))
                    await self.exchange()
                    while self._goes_on() and await link.primary() is redis:
                        await self._wake_up(pubsub)
                        began = time.monotonic()
                        await self.exchange()
                        await asyncio.sleep(_pause_after(time.monotonic() - began))
                continue  # there is another primary
            except CopyError:
                pass  # it is in `error`
            except Exception as error:  # noqa: BLE001 - nothing ends the watch
                self._cut_off(error)
                link.turn_from(redis, error)
            # Not all at once, when Redis is back.
            await asyncio.sleep(_RETRY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        await link.disconnect()

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
            if message.get("data") == REFRESH:
                for member in self._members:
                    member.refresh_soon()
            patience = 0.0

    async def _say_goodbye(self, link: RedisLink, last: list[InstanceState]) -> None:
        left = {member.issuer for member in self._members}
        # After an exchange that is on its way, which would show it again.
        await link.exchange(lambda redis: self._states_in(redis).leave(last, left))

    def _cut_off(self, error: BaseException) -> None:
        why = cause_of(error)
        now = self.clock.monotonic()
        again = why == self._warned[0] and now - self._warned[1] < _WARN_PAUSE_SECONDS
        if self._cause in (None, _NOT_ASKED) and not again:
            self._warned = (why, now)
            surprise = None if isinstance(error, _FAILURES) else error
            logger.warning("%s", why, exc_info=surprise)
        self._cause = why
        self._members.limit_interval(CUT_OFF_REFRESH_SECONDS)

    # --- connections ---

    def _linked(self) -> RedisLink:
        """The connections of this process and event loop."""
        new = self._settle()
        if self._link is None or new:
            self._link = RedisLink(self._url, before=self._link)
        return self._link

    def _states_in(self, redis: Redis) -> RedisStates:
        return RedisStates(redis, self._prefix, self._members.register.instance, self._id)


def _secrets(secret: object) -> Sequence[str]:
    if secret is None:
        return []
    given = [secret] if isinstance(secret, str) else secret
    if (
        isinstance(given, list | tuple)
        and len(given) in (1, 2)
        and all(isinstance(each, str) and each.isprintable() for each in given)
        and all(len(each) >= MIN_SECRET_CHARS for each in given)
    ):
        return given
    raise ConfigurationError(
        f"secret must be a string of {MIN_SECRET_CHARS} printable characters or more, or two of "
        "them while it is being replaced; `openssl rand -hex 32` makes one."
    )


def _pause_after(exchange_seconds: float) -> float:
    """So long that exchanges, even of very many decisions, leave most of the loop to others."""
    return min(max(_PAUSE_SECONDS, 4 * exchange_seconds), _LONGEST_PAUSE_SECONDS)
