"""Connections to Redis that belong to one process and one event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypeVar
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
            raise ConfigurationError(f"url may have these options: {', '.join(sorted(_OPTIONS))}.")
        redis = Redis.from_url(
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
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
    """A client of the Redis at `url`; `before` is the link that it takes the place of."""

    def __init__(self, url: str, *, before: RedisLink | None = None) -> None:
        self.redis = connected(url)
        self.exchanging = asyncio.Lock()
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        if before is not None and before._pid != self._pid:
            _left_behind.append(before)

    def here(self) -> bool:
        """Whether they may be used by the caller."""
        return self._pid == os.getpid() and self._loop is asyncio.get_running_loop()

    def in_use(self) -> bool:
        """Whether another event loop of this process uses them."""
        return self._pid == os.getpid() and not self._loop.is_closed()

    def watch(self, watching: Callable[[Self], Coroutine[Any, Any, None]]) -> None:
        """Have `watching` run from now on, unless it does."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(watching(self))

    async def aclose(self) -> None:
        """Stop watching and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.redis.aclose()
