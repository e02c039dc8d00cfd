"""Exchanging with Redis when somebody calls and every few seconds, whatever fails."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from jwks_guard.base.clock import Clock
from jwks_guard.fleet.members import Members
from jwks_guard.fleet.redis_link import RedisLink, answered
from jwks_guard.fleet.redis_records import REFRESH

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

_RETRY_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
"""Between two exchanges at least, however many wake-up calls come."""
_LONGEST_PAUSE_SECONDS = 0.5
_MAX_CALLS = 500
_REFRESH_PAUSE_SECONDS = 5.0


class Watch:
    """Has `exchange` called for `members`; what fails is handed to `cut_off`, and tried again."""

    def __init__(
        self,
        members: Members,
        exchange: Callable[[], Awaitable[None]],
        cut_off: Callable[[BaseException], None],
        poll_interval: float,
        clock: Clock,
    ) -> None:
        self._members = members
        self._exchange = exchange
        self._cut_off = cut_off
        self._poll_interval = poll_interval
        self._clock = clock
        self._refreshed_at = -math.inf

    async def run(self, channel: str, link: RedisLink) -> None:
        """Exchange when woken on `channel`, for as long as there are members."""
        while self._goes_on():
            try:
                async with link.redis.pubsub() as pubsub:
                    await answered(pubsub.subscribe(channel))
                    await answered(self._exchange())
                    while self._goes_on():
                        await self._wake_up(pubsub)
                        began = time.monotonic()
                        await answered(self._exchange())
                        await asyncio.sleep(_pause_after(time.monotonic() - began))
            except Exception as error:  # noqa: BLE001 - nothing ends the watch
                self._cut_off(error)
            # Not all at once, when Redis is back.
            await asyncio.sleep(_RETRY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
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
        now = self._clock.monotonic()
        asked = message.get("data") == REFRESH
        if asked and now - self._refreshed_at >= _REFRESH_PAUSE_SECONDS:
            self._refreshed_at = now
            self._members.refresh_soon()


def _pause_after(exchange_seconds: float) -> float:
    """So long that exchanges, even of very many decisions, leave most of the loop to others."""
    return min(max(_PAUSE_SECONDS, 4 * exchange_seconds), _LONGEST_PAUSE_SECONDS)
