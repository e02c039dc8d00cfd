"""Connections to Redis that belong to one process and one event loop, and lead to its primary."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as NoConnectionError,
)

from jwks_guard.fleet.redis_url import ANSWER_SECONDS, Node, RedisURL

_MOVED = re.compile(r"\bMOVED \d+ (\S*):(\d+)")
_T = TypeVar("_T")
_left_behind: list[RedisLink] = []
"""Links of a parent process: a connection that is collected here would be closed there too."""


async def answered(step: Awaitable[_T]) -> _T:
    """What `step` gives; raises TimeoutError when Redis takes too long."""
    async with asyncio.timeout(2 * ANSWER_SECONDS):
        return await step


def _moved_to(error: BaseException) -> Node | None:
    """The node of a cluster that has the keys, where another one was asked."""
    if isinstance(error, MovedError):
        return error.host, error.port
    # An older redis-py leaves a node's answer as it is.
    found = _MOVED.search(str(error)) if isinstance(error, ResponseError) else None
    return (found[1], int(found[2])) if found else None


class RedisLink:
    """Clients for one event loop; `before` is the link that this one replaces.

    All keys of a fleet lie in one hash slot, so in a cluster too there is one node that has them:
    any other one names it (MOVED). A node that fails, or takes no writes, is followed by the next
    one of the URL, or by the one that Sentinel names.
    """

    def __init__(self, url: RedisURL, *, before: RedisLink | None = None) -> None:
        self._url = url
        self._sentinel = url.sentinel()
        self._turn = 0
        self._primary: Node | None = None if self._sentinel else url.nodes[0]
        self._clients: dict[Node | None, Redis] = {}
        self._lock = asyncio.Lock()
        self._pid = os.getpid()
        if before is not None and before._pid != self._pid:
            _left_behind.append(before)

    async def primary(self) -> Redis:
        """A client of the node that takes writes, as far as is known."""
        if self._sentinel is not None and self._primary is None:
            await self._ask_sentinel()
        node = self._primary
        if node not in self._clients:
            self._clients[node] = self._url.client(node)
        return self._clients[node]

    async def exchange(self, step: Callable[[Redis], Awaitable[_T]]) -> _T:
        """Run `step`, one at a time.

        Sentinel is asked first: an old primary that was cut off from it goes on taking writes.
        """
        async with self._lock:
            if self._primary is not None:
                with suppress(Exception):  # what it said last counts, while that node answers
                    await self._ask_sentinel()
            return await self._on_the_primary(step, self._disconnect)

    async def ask(self, step: Callable[[Redis], Awaitable[_T]]) -> _T:
        """Run `step`, also while there is an exchange."""
        return await self._on_the_primary(step, self.disconnect)

    async def _on_the_primary(
        self, step: Callable[[Redis], Awaitable[_T]], disconnect: Callable[[], Awaitable[None]]
    ) -> _T:
        """What `step` gives; it is run again on another node, or on a new connection."""
        for left in reversed(range(1 + len(self._url.nodes))):
            redis: Redis | None = None
            try:
                redis = await self.primary()
                return await step(redis)
            except BaseException as error:
                self.turn_from(redis, error)
                await disconnect()  # before the next step takes one of the connections
                if not left or not self._is_tried_again(error):
                    raise
        raise AssertionError

    def turn_from(self, redis: Redis | None, error: BaseException) -> None:
        """Use another node from now on, if the one that has failed is still in use."""
        if redis is not self._clients.get(self._primary):
            return
        if (node := _moved_to(error)) is not None:
            here = self._primary or ("", 0)
            self._primary = node[0] or here[0], node[1]
        elif self._sentinel is not None:
            self._primary = None
        else:
            self._turn += 1
            self._primary = self._url.nodes[self._turn % len(self._url.nodes)]

    def _is_tried_again(self, error: BaseException) -> bool:
        """Whether another node, or a new connection, may do better at once."""
        if self._sentinel is None and len(self._url.nodes) > 1:
            return isinstance(error, RedisError | TimeoutError)
        stale = isinstance(error, ReadOnlyError | NoConnectionError) or _moved_to(error)
        return bool(stale) and not isinstance(error, AuthenticationError)

    async def _ask_sentinel(self) -> None:
        if self._sentinel is not None:
            host, port = await self._sentinel.discover_master(self._url.service or "")
            self._primary = str(host), int(port)

    async def disconnect(self) -> None:
        """Leave the idle connections behind, unless there is an exchange, which sees to that."""
        if not self._lock.locked():
            async with self._lock:
                await self._disconnect()

    async def _disconnect(self) -> None:
        """After a failover they may lead to a node that takes no writes."""
        for redis in self._everyone():
            with suppress(Exception):  # they are broken, then
                await redis.connection_pool.disconnect(inuse_connections=False)

    def _everyone(self) -> list[Redis]:
        sentinels = [] if self._sentinel is None else self._sentinel.sentinels
        return [*self._clients.values(), *sentinels]

    async def aclose(self) -> None:
        """Close the connections."""
        for redis in self._everyone():
            with suppress(Exception):
                await redis.aclose()
