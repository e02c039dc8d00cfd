"""A store's part in a fleet: joining, leaving and sharing, on the event loop it is bound to."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jwks_guard.errors import DistrustNotSharedError, KeysUnavailableError
from jwks_guard.keys.distrust import DistrustFeed, Name

if TYPE_CHECKING:
    from jwks_guard.keys.store import KeyStore
    from jwks_guard.readiness.state import Observed

LONGEST_STEP_SECONDS = 10.0
"""For so long another event loop is waited for, to share a decision."""
_T = TypeVar("_T")


class Membership:
    """The part of `store` in `fleet`. What fails raises DistrustNotSharedError."""

    def __init__(self, store: KeyStore, fleet: DistrustFeed) -> None:
        self._store = store
        self._fleet = fleet
        self._joining: asyncio.Task[None] | None = None

    def after_fork(self) -> None:
        """In a forked child: it has to join on its own."""
        self._joining = None

    async def take_part(self) -> None:
        """Return once the fleet's decisions are known here, whoever waits for them already.

        Until then the store is not bound, so that no request goes on without them.
        """
        loop, bound = asyncio.get_running_loop(), self._store.loop
        if bound is not None and bound is not loop and not bound.is_closed():
            return  # it is not ours to use: `bind` says so
        joining = self._joining
        if joining is None or joining.get_loop() is not loop or _failed(joining):
            # In an empty context, as what it begins outlives the request that happens to begin it.
            joining = contextvars.Context().run(loop.create_task, _join(self._fleet, self._store))
            self._joining = joining
        await asyncio.shield(joining)

    async def leave(self) -> None:
        """Take part no longer."""
        joining, self._joining = self._joining, None
        if joining is not None and joining.get_loop() is asyncio.get_running_loop():
            joining.cancel()
            await asyncio.wait({joining})
            await self._fleet.leave(self._store)

    async def share(self) -> None:
        """Have the fleet know what is distrusted here."""
        stones = self._store.decisions.unshared
        with suppress(KeysUnavailableError):  # the store is closed, or was meanwhile
            await self.exchange()
        left = self._store.decisions.unshared
        if any(left.get(name) is stone for name, stone in stones.items()):
            raise DistrustNotSharedError(
                "This verifier is closed, so the fleet was not told. What is distrusted here stays "
                "so: start the verifier, and repeat the call."
            )

    async def exchange(self) -> None:
        """Hear what the fleet knows, and have it know what is known here."""
        await self._on_its_loop(self._fleet.share)

    async def share_lifts(self, lifts: Mapping[Name, int], reason: str) -> None:
        """Have the fleet lift these decisions."""
        await self._on_its_loop(partial(self._fleet.share_lifts, lifts, reason))

    async def observe(self, kid: str) -> Observed:
        """What the fleet shows of `kid`."""
        return await self._on_its_loop(partial(self._fleet.observe, kid, self._store.issuer))

    async def _on_its_loop(self, step: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a step of the fleet on the event loop that the fleet and the store live on."""
        await self._store.adopt()
        loop = self._store.loop
        if loop is None or loop is asyncio.get_running_loop():
            return await step()
        there = asyncio.run_coroutine_threadsafe(step(), loop)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(there), LONGEST_STEP_SECONDS)
        except TimeoutError:  # that loop is stopped or blocked
            raise DistrustNotSharedError(
                "The event loop that shares decisions with the fleet does not run. What is "
                "distrusted here stays so."
            ) from None


async def _join(fleet: DistrustFeed, store: KeyStore) -> None:
    await fleet.join(store)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
