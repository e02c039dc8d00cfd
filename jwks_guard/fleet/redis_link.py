"""Connections to Redis that belong to one process and one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from jwks_guard.errors import ConfigurationError

ANSWER_SECONDS = 1.0
_OPTIONS = frozenset(
    [
        *("client_name", "db", "protocol"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname"),
        *("ssl_keyfile", "ssl_min_version"),
    ]
)
"""Those that don't undo how long an answer is waited for, and when it is asked for again."""
_T = TypeVar("_T")
_left_behind: list[RedisLink] = []
"""Links of a parent process: a connection that is collected here would be closed there too."""


def connected(url: str) -> Redis:
    """A client of the Redis at `url`; raises ConfigurationError, which does not show the URL."""
    try:
        options = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
        if not options <= _OPTIONS:
            raise ConfigurationError(
                "url has an option that is not allowed. It may have these: "
                f"{', '.join(sorted(_OPTIONS))}."
            )
        redis = Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except ConfigurationError:
        raise
    except (ValueError, TypeError, AttributeError, RedisError):
        raise ConfigurationError(
            "url must be a Redis URL like 'rediss://user:password@host:6379/0', with every special "
            "character of the password percent-encoded."
        ) from None
    return redis


async def answered(step: Awaitable[_T]) -> _T:
    """What `step` gives; raises TimeoutError when Redis takes too long."""
    async with asyncio.timeout(2 * ANSWER_SECONDS):
        return await step


class RedisLink:
    """A client of the Redis at `url` for one event loop; `before` is the link that it replaces."""

    def __init__(self, url: str, *, before: RedisLink | None = None) -> None:
        self.redis = connected(url)
        self._lock = asyncio.Lock()
        self._pid = os.getpid()
        if before is not None and before._pid != self._pid:
            _left_behind.append(before)

    @asynccontextmanager
    async def exchanging(self) -> AsyncIterator[None]:
        """Have one exchange at a time; one that fails leaves the idle connections behind."""
        async with self._lock:
            try:
                yield
            except BaseException:
                await self._disconnect()  # before the next exchange takes one of them
                raise

    async def disconnect(self) -> None:
        """Leave the idle connections behind, unless there is an exchange, which sees to that."""
        if not self._lock.locked():
            async with self._lock:
                await self._disconnect()

    async def _disconnect(self) -> None:
        """After a failover they may lead to a node that takes no writes."""
        with suppress(Exception):  # they are broken, then
            await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close the connections."""
        with suppress(Exception):
            await self.redis.aclose()
