"""RevocationWatcher: has verifiers refuse what was revoked elsewhere, in the dashboard say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Self

from jwks_guard.admin.journal import AdminEvent, Intent, Journal
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.rotation import require_fleet
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.telling import told
from jwks_guard.base.arguments import require_seconds
from jwks_guard.errors import ConfigurationError, ManagementAPIError

logger = logging.getLogger("jwks_guard")


class RevocationWatcher:
    """Looks at the tenant's list of keys again and again, and tells `fleet` which ones are revoked.

    Arguments:
        keys: the client of the tenant's Management API; it needs read:signing_keys only.
        fleet: whoever refuses tokens: a verifier, several, or a fleet.
        interval: between two looks, in seconds; each is one request of the tenant's rate limit.
        on_event: called with each AdminEvent; must return quickly.

    Use it with `async with`; or call `tick` from a scheduler of your own. A look that fails changes
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
        """Why the last look failed; None when it did not."""
        self._keys = keys
        self._fleet = require_fleet(fleet)
        self._interval = interval
        self._journal = Journal(None, on_event, keys.clock)
        self._told: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def tick(self) -> tuple[str, ...]:
        """Look once; gives the kids that everybody was told of just now.

        A kid that somebody could not be told of is told again the next time. Raises what
        SigningKeysClient.list raises.
        """
        revoked = [key.kid for key in await self._keys.list() if key.revoked]
        self._told.intersection_update(revoked)
        new = []
        for kid in revoked:
            if kid not in self._told and await self._tell(kid):
                self._told.add(kid)
                new.append(kid)
        return tuple(new)

    async def _tell(self, kid: str) -> bool:
        intent = Intent(
            action="revoke",
            tenant=self._keys.base_url,
            actor="RevocationWatcher",
            kid=kid,
            reason="the tenant lists it as revoked",
        )
        refusals = await told(self._fleet, intent, self._journal)
        return all(refusal.since is not None and refusal.error is None for refusal in refusals)

    async def _watch(self) -> None:
        while True:
            try:
                await self.tick()
                self.error = None
            except ManagementAPIError as error:
                self.error = str(error)
                logger.warning("the tenant's keys could not be looked at: %s", error)
            except Exception:
                logger.exception("looking at the tenant's keys failed unexpectedly")
            await self._keys.sleep(self._interval)
