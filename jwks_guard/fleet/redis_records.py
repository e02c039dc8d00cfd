"""Where the fleet's records lie in Redis, and how they are read and added."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, cast

from jwks_guard.fleet.records import encoded_state, states_in
from jwks_guard.keys.instance import combined, this_instance
from jwks_guard.readiness.state import InstanceState
from jwks_guard.readiness.usage import NEVER, Reach

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

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


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the state of a process lies, of which issuer it is, and when it was renewed."""

    name: bytes
    instance: str
    issuer: str
    at: float


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
        self._state_name = re.compile(
            re.escape(f"{prefix}:state:".encode()) + rb"([0-9a-f]{32}):[0-9a-f]{8}:([ -~]+)"
        )

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
        """What each process shows of that issuer.

        One whose state is gone from Redis, or can't be read, is silent since it was shown last.
        """
        shown = [each for each in await self._index() if each.issuer == issuer]
        values: Any = await self._redis.mget([each.name for each in shown]) if shown else []
        states = [
            next(iter(states_in([value], issuer)), _silent(each))
            for each, value in zip(shown, values, strict=True)
        ]
        states.sort(key=lambda state: state.instance)
        processes = groupby(states, key=lambda state: state.instance)
        return tuple(combined(list(group)) for _, group in processes)

    async def dismiss(self, instance: str) -> int:
        """Take the states of a process away; gives how many there were."""
        names = [each.name for each in await self._index() if each.instance == instance]
        if names:
            await self._redis.delete(*names)
            await self._redis.zrem(self._instances, *names)
        return len(names)

    async def _index(self) -> list[_Shown]:
        """The states that were shown within a day."""
        entries: Any = await self._redis.zrevrange(
            self._instances, 0, MAX_INSTANCES - 1, withscores=True
        )
        found = ((self._state_name.fullmatch(name), name, at) for name, at in entries)
        return [
            _Shown(name, match[1].decode(), match[2].decode(), at)
            for match, name, at in found
            if match is not None and 0 <= at <= NEVER
        ]

    async def reach(self, issuer: str, kid: str) -> Reach:
        """How far the tokens of `kid` reach that were ever accepted."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for kind in _REACHES:
                pipeline.zscore(self._maxima(kind, issuer), kid)
            found: list[float | None] = await pipeline.execute()
        return Reach(*(max(0.0, min(NEVER, each or 0.0)) for each in found))  # of NaN: NEVER

    async def show(self, states: Iterable[InstanceState], now: float) -> None:
        """Renew this process's states; how far tokens reach never sinks."""
        states = tuple(states)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in states:
                name = self._state(state.issuer)
                pipeline.set(name, encoded_state(state), px=int(STATE_SECONDS * 1000))
                pipeline.zadd(self._instances, {name: now})
            self._keep_reaches(pipeline, states)
            pipeline.zremrangebyscore(self._instances, 0, now - STATE_SECONDS)
            await pipeline.execute()

    async def leave(self, states: Iterable[InstanceState], issuers: Collection[str]) -> None:
        """Keep how far the tokens of `states` reach, and take those of other issuers away."""
        states = tuple(states)
        async with self._redis.pipeline(transaction=False) as pipeline:
            self._keep_reaches(pipeline, states)
            for state in states:
                if state.issuer not in issuers:
                    pipeline.delete(self._state(state.issuer))
                    pipeline.zrem(self._instances, self._state(state.issuer))
            await pipeline.execute()

    def _keep_reaches(self, pipeline: Pipeline, states: Iterable[InstanceState]) -> None:
        for state in states:
            for kid, usage in state.usage.items():
                for kind, far in zip(_REACHES, usage.reach, strict=True):
                    if far:
                        pipeline.zadd(self._maxima(kind, state.issuer), {kid: far}, gt=True)

    def _maxima(self, kind: str, issuer: str) -> str:
        return f"{self._prefix}:{kind}:{issuer}"

    def _state(self, issuer: str) -> str:
        return f"{self._prefix}:state:{this_instance()}:{self._fleet}:{issuer}"


def _silent(shown: _Shown) -> InstanceState:
    return InstanceState(
        instance=shown.instance,
        host="unknown",
        issuer=shown.issuer,
        started_at=shown.at,
        reported_at=shown.at,
        status="unavailable",
        confirmed_at=None,
        trusted_until=None,
        kids=(),
    )


def _are_bytes(values: Iterable[object]) -> bool:
    return all(isinstance(value, bytes) for value in values)
