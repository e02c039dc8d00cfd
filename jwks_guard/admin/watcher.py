"""RevocationWatcher: makes verifiers refuse keys that were revoked elsewhere (the dashboard)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Self

from jwks_guard.admin.journal import AdminEvent, Intent, Journal
from jwks_guard.admin.refusals import distrust_everywhere
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.rotation import require_fleet
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.base.arguments import require_seconds
from jwks_guard.errors import ConfigurationError, ManagementAPIError
from jwks_guard.readiness.state import Refusal

logger = logging.getLogger("jwks_guard")


class RevocationWatcher:
    """Reads the tenant's list of keys at an interval, and makes `fleet` refuse the revoked ones.

    Arguments:
        keys: the client of the tenant's Management API; it needs read:signing_keys only.
        fleet: a verifier, a fleet, or several of them.
        interval: seconds between two reads; each is one request of the tenant's rate limit.
        on_event: called with each AdminEvent; must return quickly.

    Use it with `async with`, or call `tick` from your own scheduler. A read that fails changes
    nothing and is logged.

    """

    def __init__(
        self,
        keys: SigningKeysClient,
        fleet: Revocable | Iterable[Revocable],
        *,
        interval: float = 60.0,
        on_event: Callable[[AdminEvent], object] | None = None,
    ) -> None:
        if not isinstance(keys, SigningKeysClient):
            raise ConfigurationError("keys must be a SigningKeysClient.")
        require_seconds("interval", interval)
        self.error: str | None = None
        """Why the last read failed; None if it did not."""
        self._keys = keys
        self._fleet = require_fleet(fleet)
        self._interval = interval
        self._journal = Journal(None, on_event, keys.clock)
        self._refused: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def tick(self) -> tuple[str, ...]:
        """Read the list once; returns the revoked kids that `fleet` was made to refuse by that.

        A kid that a member does not refuse yet is tried again at the next tick. Raises what
        SigningKeysClient.list raises.
        """
        revoked = [key.kid for key in await self._keys.list() if key.revoked]
        self._refused.intersection_update(revoked)
        new = []
        for kid in revoked:
            if kid in self._refused:
                continue
            refusals = await self._distrust(kid)
            if all(refusal.since is not None and refusal.error is None for refusal in refusals):
                self._refused.add(kid)
                new += [kid] if refusals else []
        return tuple(new)

    async def _distrust(self, kid: str) -> tuple[Refusal, ...]:
        intent = Intent(
            action="revoke",
            tenant=self._keys.base_url,
            actor="RevocationWatcher",
            kid=kid,
            reason="the tenant lists it as revoked",
        )
        # One that stands is not made again: each run of a watcher would add to it.
        return await distrust_everywhere(self._fleet, intent, self._journal, repeat=False)

    async def _watch(self) -> None:
        while True:
            try:
                await self.tick()
                self.error = None
            except ManagementAPIError as error:
                self.error = str(error)
                logger.warning("the tenant's keys could not be read: %s", error)
            except Exception:
                logger.exception("reading the tenant's keys failed unexpectedly")
            await self._keys.sleep(self._interval)
