"""Unfinished: operations that a crash cut off, found in the journal and finished."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.receipts import RevocationReceipt, RotationReceipt, rotation_receipt
from jwks_guard.admin.revocation import Revocation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.under_way import Operation
from jwks_guard.errors import (
    ConfigurationError,
    NotFoundError,
    RotationRefusedError,
    RotationUncertainError,
)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Reads `journal` and the tenant's keys, and finishes what is left by `revocation`."""

    keys: SigningKeysClient
    journal: Journal
    revocation: Revocation

    async def resume(self, operation: Operation) -> list[RevocationReceipt]:
        """Finish the revocations that are left, within `operation`; returns their receipts."""
        unfinished = await self.journal.cut_off(self.keys.base_url, operation)
        receipts = [await self._resumed(intent) for intent in unfinished]
        return [receipt for receipt in receipts if receipt is not None]

    async def _resumed(self, intent: Intent) -> RevocationReceipt | None:
        """The receipt of finishing `intent`; None if there was nothing to finish."""
        keys = SigningKeys(await self.keys.list())
        keys.require_complete()
        key = keys.get(intent.kid)
        if key is None:
            try:
                key = await self.keys.get(intent.kid)
            except NotFoundError:  # the tenant forgets revoked keys only
                key = SigningKey(kid=intent.kid, revoked=True)
        if key.revoked or (intent.emergency and key.state == "previously used"):
            return await self.revocation.carry_out(intent, key)
        why = f"the key is {key.state}: it was not revoked"
        if intent.emergency:
            await self.journal.tell(intent, "unanswered", "warning", f"{why}. Repeat the call.")
        else:
            await self.journal.tell(intent, "abandoned", "warning", why)
        return None

    async def rotation(self, keys: SigningKeys) -> RotationReceipt | None:
        """The receipt of a rotation that the journal has no end of, if it did happen.

        To be called while no other rotation runs.
        """
        tenant = self.keys.base_url
        for intent in await self.journal.unfinished(tenant, rotations=True):
            current = keys.current
            if current.kid == intent.kid:
                await self.journal.tell(intent, "abandoned", "warning", "the key is still current")
                raise RotationUncertainError(
                    f"An earlier rotation was cut off. {intent.kid} is still the current key, so "
                    "it seems not to have happened. Look at the keys in a few minutes: if "
                    f"{intent.kid} is still current, rotate again.",
                    before=keys,
                    after=keys,
                )
            await self.journal.tell(intent, "finished", detail="as read from the list of keys")
            return rotation_receipt(
                tenant,
                current.current_since or self.journal.now(),
                self.revocation.token_lifetime,
                previous=keys.get(intent.kid) or SigningKey(kid=intent.kid),
                current=current,
                new=replace(keys.next, inferred=True),
            )
        return None

    async def require_no_emergency(self) -> None:
        """Raise RotationRefusedError if an emergency was cut off: its key must be named."""
        try:
            unfinished = await self.journal.unfinished(self.keys.base_url)
        except ConfigurationError as error:
            error.add_note(
                "It may hold an earlier rotation. Name the leaked key, as in "
                "`rotate_and_revoke(kid)`: then the journal is not needed."
            )
            raise
        kids = [intent.kid for intent in unfinished if intent.action == "rotate_and_revoke"]
        if not kids:
            return
        refusal = RotationRefusedError(
            f"An earlier call for {kids[-1]} was not finished. Call "
            f"rotate_and_revoke({kids[-1]!r}) to finish it; if another key has leaked, name that."
        )
        refusal.kid = kids[-1]
        raise refusal
