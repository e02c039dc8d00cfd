"""What each process shows of itself in Redis, and how far the tokens of each key reach."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from jwks_guard.fleet.soundness import encoded_state, silent_state, states_in
from jwks_guard.readiness.state import InstanceState, combined
from jwks_guard.readiness.usage import NEVER, Reach

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

STATE_SECONDS = 86_400.0
"""The last state of an instance that was killed, stands still or is cut off is shown for so long.

It may serve tokens all the while, so it must not drop out of sight.
"""
MAX_INSTANCES = 10_000
_REACHES = ("expiries", "lifetimes")


class RedisStates:
    """The states under `prefix`; `instance` names this process, `fleet` its fleets.

    `PREFIX:state:...` has one process's state each, `PREFIX:instances` the names of these by when
    they were renewed, `PREFIX:expiries:ISSUER` the latest `exp` accepted of each kid, and
    `PREFIX:lifetimes:ISSUER` the longest lifetime of its tokens.
    """

    def __init__(self, redis: Redis, prefix: str, instance: str, fleet: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._own = f"{prefix}:state:{instance}:{fleet}"
        self._instances = f"{prefix}:instances"
        self._state_name = re.compile(
            re.escape(f"{prefix}:state:".encode()) + rb"([0-9a-f]{32}):[0-9a-f]{8}:([ -~]+)"
        )

    async def states(self, issuer: str) -> tuple[InstanceState, ...]:
        """What each process shows of that issuer.

        One whose state is gone from Redis, or can't be read, is silent since it was shown last.
        """
        shown = [each for each in await self._index() if each[1].issuer == issuer]
        values: Any = await self._redis.mget([name for name, _ in shown]) if shown else []
        states = [
            next(iter(states_in([value], issuer)), silent)
            for (_, silent), value in zip(shown, values, strict=True)
        ]
        states.sort(key=lambda state: state.instance)
        processes = groupby(states, key=lambda state: state.instance)
        return tuple(combined(list(group)) for _, group in processes)

    async def dismiss(self, instance: str) -> int:
        """Take the states of a process away; gives how many there were."""
        names = [name for name, silent in await self._index() if silent.instance == instance]
        if names:
            await self._redis.delete(*names)
            await self._redis.zrem(self._instances, *names)
        return len(names)

    async def _index(self) -> list[tuple[bytes, InstanceState]]:
        """The name of each state that was shown within a day, and what is known by it alone."""
        entries: Any = await self._redis.zrevrange(
            self._instances, 0, MAX_INSTANCES - 1, withscores=True
        )
        found = ((self._state_name.fullmatch(name), name, at) for name, at in entries)
        return [
            (name, silent_state(match[1].decode(), "unknown", match[2].decode(), at))
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
        return f"{self._own}:{issuer}"
