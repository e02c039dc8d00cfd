"""An incident's steps at the tenant: which key it is, rotate, revoke, and wait for the key set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from jwks_guard.admin.incident_report import Outcome
from jwks_guard.admin.journal import Intent
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.rotation import KeyRotation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.errors import (
    JWKSGuardError,
    NotFoundError,
    RotationRefusedError,
    RotationUncertainError,
    UnavailableError,
)

LOOK_SECONDS = 10.0
"""The time that one look at the fleet or the tenant has: the key is accepted all the while."""
Ended = tuple[Outcome, str]
"""How a step ended, and what is to be said about it."""
Do = Callable[[], Awaitable[Ended]]
_UNKNOWN = "The tenant does not know this key: compare the kid with the header of a token."
_NEXT = (
    "It is the next key. It has signed nothing yet, and the tenant revokes no next key. The next "
    "rotation makes it current: then rotate once more at once, and revoke it."
)


class TenantPart:
    """Carries out the part of `intent` at the tenant, by what `rotation` is made of."""

    def __init__(self, rotation: KeyRotation, intent: Intent) -> None:
        self._rotation = rotation
        self._intent = intent
        self._keys = SigningKeys()
        self._key: SigningKey | None = None
        self._rotated = False
        self.uncertain = False
        """Whether a change was begun of which it is not known whether the tenant has made it."""

    @property
    def state(self) -> str:
        """The state of the key; empty while that is not known."""
        return "" if self._key is None else self._key.state

    async def look(self) -> Ended:
        """Look which of the tenant's keys it is."""
        client, kid = self._rotation.keys, self._intent.kid
        async with asyncio.timeout(LOOK_SECONDS):
            self._keys = SigningKeys(await client.list())
            self._keys.require_complete()
            try:
                self._key = self._keys.get(kid) or await client.get(kid)
            except NotFoundError:
                self._key = SigningKey(kid=kid)  # no valid token is signed by it
                return "warning", _UNKNOWN
        if self.state == "revoked":
            return "ok", "The tenant has revoked it already."
        return "ok", f"It is the tenant's {self.state} key."

    async def rotate(self) -> Ended:
        """Make the next key current, unless another operation has done so meanwhile."""
        async with self._rotation.journal.under_way.rotation():
            await self.look()
            if self.state != "current":
                return "ok", f"{self._keys.current.kid} is the current key already."
            try:
                with self._changing():
                    receipt = await self._rotation.rotated(self._intent, self._keys)
            except RotationRefusedError:  # somebody elsewhere has done it at this very moment
                await self.look()
                if self.state == "current":
                    raise
                return "ok", f"{self._keys.current.kid} is the current key already."
        self._key = replace(receipt.previous, current=False, current_until=receipt.rotated_at)
        self._rotated = True
        return "ok", f"{receipt.current.kid} is the current key now."

    async def revoke(self) -> Ended:
        """Revoke the key, unless it is the current or the next one."""
        if self.state in ("current", "next"):
            why = _NEXT if self.state == "next" else "The tenant revokes no current key."
            await self._rotation.journal.tell(self._intent, "not_revoked", "failed", why)
            return "failed", why
        before, key = self.state, self._key
        if (
            key is None or not self._rotated
        ):  # right after a rotation it may still be called current
            key = await self._rotation.keys.revocable(self._intent.kid)
        intent = self._intent if self._rotated else replace(self._intent, action="revoke")
        with self._changing():
            self._key = await self._rotation.revocation.acknowledged(intent, key)
        await self._rotation.journal.tell(self._intent, "acknowledged")
        return "ok", f"The tenant has revoked it{' already' if before == 'revoked' else ''}."

    async def leave_key_set(self) -> Ended:
        """Wait until the key set does not list the key any more."""
        if self.state != "revoked":
            return "skipped", "The tenant has not revoked it, so it goes on listing it."
        if await self._rotation.revocation.left_jwks(self._intent) is None:
            return "warning", "The key set still lists it, or could not be read."
        return "ok", "The key set does not list it any more."

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Be uncertain of a change until the block ends, or its error says that none was made."""
        self.uncertain = True
        try:
            yield
        except JWKSGuardError as error:
            lost = isinstance(error, UnavailableError) and error.sent
            self.uncertain = lost or isinstance(error, RotationUncertainError)
            raise
        self.uncertain = False
