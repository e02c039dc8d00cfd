"""Where the fleet's records lie in Redis, and how they are read and added."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, cast

from jwks_guard.fleet.members import Members
from jwks_guard.fleet.records import decisions_in, encoded_state, facts_of, states_in
from jwks_guard.instance import combined, this_instance
from jwks_guard.keys.distrust import Name, Tombstones
from jwks_guard.keys.peers import open_stores
from jwks_guard.readiness import InstanceState
from jwks_guard.usage import NEVER, Reach

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from jwks_guard.keys.store import KeyStore

STATE_SECONDS = 86_400.0
"""The last state of an instance that was killed, stands still or is cut off is shown for so long.

It may serve tokens all the while, so it must not drop out of sight.
"""
MAX_FACTS = 5000
"""More than any fleet decides in its life."""
MAX_INSTANCES = 10_000
_REACHES = ("expiries", "lifetimes")
DECIDED, REFRESH = b"decided", b"refresh"
"""What wakes the instances, and what asks them to refresh their keys as well."""


class RedisRecords:
    """The records under `prefix`; `fleet` tells the fleets of one process apart.

    `PREFIX:decisions` is a hash of facts, `PREFIX:state:...` has one process's state each,
    `PREFIX:instances` the names of these by when they were renewed, `PREFIX:expiries:ISSUER` the
    latest `exp` accepted of each kid, `PREFIX:lifetimes:ISSUER` the longest lifetime of its tokens.
    `PREFIX:wake` is the channel.
    """

    def __init__(self, redis: Redis, prefix: str, fleet: str) -> None:
        self.channel = f"{prefix}:wake"
        self._redis = redis
        self._prefix = prefix
        self._fleet = fleet
        self._decisions = f"{prefix}:decisions"
        self._instances = f"{prefix}:instances"

    async def facts(self) -> Mapping[bytes, bytes]:
        """Every fact; raises OSError when there are too many to be a fleet's, or other things."""
        if await self._redis.hlen(self._decisions) > MAX_FACTS:
            raise OSError(f"it holds more than {MAX_FACTS} decisions under {self._prefix!r}")
        facts: Any = await self._redis.hgetall(self._decisions)
        if not isinstance(facts, dict) or not _are_bytes(chain(facts, facts.values())):
            raise OSError(f"what it holds under {self._prefix!r} are no decisions")
        return cast("Mapping[bytes, bytes]", facts)

    async def write(self, facts: Mapping[bytes, bytes]) -> None:
        """Add facts, and wake everybody; what is there is never overwritten."""
        if not facts:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            for fact, why in facts.items():
                pipeline.hsetnx(self._decisions, fact, why)
            pipeline.publish(self.channel, DECIDED)
            await pipeline.execute()

    async def wake(self, call: bytes) -> None:
        """Publish `call` to every instance."""
        await self._redis.publish(self.channel, call)

    async def states(self, issuer: str) -> tuple[InstanceState, ...]:
        """What each process shows of that issuer."""
        names: Any = await self._redis.zrevrange(self._instances, 0, MAX_INSTANCES - 1)
        values: Any = await self._redis.mget(names) if names else []
        states = sorted(states_in(values, issuer), key=lambda state: state.instance)
        processes = groupby(states, key=lambda state: state.instance)
        return tuple(combined(list(group)) for _, group in processes)

    async def reach(self, issuer: str, kid: str) -> Reach:
        """How far the tokens of `kid` reach that were ever accepted."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for kind in _REACHES:
                pipeline.zscore(self._maxima(kind, issuer), kid)
            found: list[float | None] = await pipeline.execute()
        return Reach(*(max(0.0, min(NEVER, each or 0.0)) for each in found))  # of NaN: NEVER

    async def show(self, states: Iterable[InstanceState], now: float) -> None:
        """Renew this process's states; how far tokens reach never sinks."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in states:
                name = self._state(state.issuer)
                pipeline.set(name, encoded_state(state), px=int(STATE_SECONDS * 1000))
                pipeline.zadd(self._instances, {name: now})
                for kid, usage in state.usage.items():
                    for kind, far in zip(_REACHES, usage.reach, strict=True):
                        if far:
                            pipeline.zadd(self._maxima(kind, state.issuer), {kid: far}, gt=True)
            pipeline.zremrangebyscore(self._instances, 0, now - STATE_SECONDS)
            await pipeline.execute()

    async def forget(self, issuer: str) -> None:
        """Take this process's state of that issuer away."""
        name = self._state(issuer)
        await self._redis.delete(name)
        await self._redis.zrem(self._instances, name)

    def _maxima(self, kind: str, issuer: str) -> str:
        return f"{self._prefix}:{kind}:{issuer}"

    def _state(self, issuer: str) -> str:
        return f"{self._prefix}:state:{this_instance()}:{self._fleet}:{issuer}"


class Exchanged:
    """What `members` and Redis told each other the last time.

    Only decisions about `issuer` and the issuers of this process count. Nobody here verifies the
    others' tokens, and what instances took over from Redis and gave back could never be removed.
    """

    def __init__(self, members: Members, issuer: str | None) -> None:
        self._members = members
        self._issuer = issuer
        self._facts: Mapping[bytes, bytes] | None = None
        self._held: tuple[Tombstones, ...] = ()
        self._issuers: frozenset[str] = frozenset()

    async def again(self, records: RedisRecords) -> None:
        """Take over what is new in Redis, and give it what it lacks."""
        facts, issuers = await records.facts(), self._concerned()
        if self._is_the_same(facts, issuers):
            return
        self._members.take_over(decisions_in(facts).of(issuers))
        unshared, held = self._members.unshared(), self._all_held()
        known = facts_of(_about(self._members.known(), issuers, unshared))
        missing = {fact: why for fact, why in known.items() if fact not in facts}
        await records.write(missing)
        self._members.shared(unshared)
        self._facts, self._held, self._issuers = {**facts, **missing}, held, issuers

    def _is_the_same(self, facts: Mapping[bytes, bytes], issuers: frozenset[str]) -> bool:
        """Whether there is nothing to do; cheap, however many decisions there are."""
        held = {id(each) for each in self._all_held()}
        return (
            not self._members.unshared()
            and issuers == self._issuers
            and held == {id(each) for each in self._held}
            and facts == self._facts
        )

    def _all_held(self) -> tuple[Tombstones, ...]:
        return tuple(member.decisions.known for member in self._members)

    def _concerned(self) -> frozenset[str]:
        """Whose tokens are verified in this process, and whose keys the fleet's methods mean."""
        verified = {
            store.issuer
            for member in self._members
            for store in open_stores.besides(cast("KeyStore", member))
        }
        own = () if self._issuer is None else (self._issuer,)
        return frozenset((*verified, *own, *(member.issuer for member in self._members)))


def _are_bytes(values: Iterable[object]) -> bool:
    return all(isinstance(value, bytes) for value in values)


def _about(known: Tombstones, issuers: Collection[str], names: Collection[Name]) -> Tombstones:
    """What is known about keys of `issuers`, and about those of `names`."""
    return Tombstones(
        {n: stone for n, stone in known.entries.items() if n[0] in issuers or n in names},
        {n: version for n, version in known.lifted.items() if n[0] in issuers},
    )
