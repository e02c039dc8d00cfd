"""Attempts: do something again after a pause, for as long as there are pauses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from jwks_guard.base.clock import Clock

FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 4.0
Sleep = Callable[[float], Awaitable[object]]


@dataclass(slots=True)
class Attempts:
    """Attempts to iterate over with `async for`: the first at once, one more after each pause.

    `pauses` are in seconds; each is computed once the attempt before it has failed.
    """

    pauses: Iterator[float]
    sleep: Sleep
    _begun: bool = field(init=False, default=False)

    @classmethod
    def within(cls, seconds: float, clock: Clock, sleep: Sleep) -> Self:
        """Attempts for `seconds` from now on; the last one comes at their end."""
        return cls(_doubling(clock, clock.monotonic() + seconds), sleep)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        if self._begun:
            pause = next(self.pauses, None)
            if pause is None:
                raise StopAsyncIteration
            await self.sleep(pause)
        self._begun = True


def _doubling(clock: Clock, until: float) -> Iterator[float]:
    """Pauses that double, until the monotonic `clock` shows `until`."""
    pause = FIRST_PAUSE_SECONDS
    while (left := until - clock.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
