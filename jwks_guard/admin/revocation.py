"""One revocation, carried out: tenant and verifiers in the right order, then the JWK Set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.receipts import Refusal, RevocationReceipt, expiry_of
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.telling import told
from jwks_guard.errors import (
    ManagementAPIError,
    RateLimitedError,
    RevocationRefusedError,
    UnavailableError,
)
from jwks_guard.readiness import Revocable

_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Revocation:
    """Carries out intents to revoke; the arguments are those of KeyRotation."""

    keys: SigningKeysClient
    fleet: tuple[Revocable, ...]
    journal: Journal
    token_lifetime: timedelta | None
    jwks_uri: str | None
    confirm_within: float

    async def carry_out(self, intent: Intent, key: SigningKey) -> RevocationReceipt:
        """Do what is left to do of `intent`, where `key` is as the tenant has it now."""
        refusals = await self._told(intent) if intent.emergency else ()
        if not key.revoked:
            key = await self._acknowledged(intent, key)
        acknowledged_at = self.journal.now()
        await self.journal.tell(intent, "acknowledged")
        if not intent.emergency:
            refusals = await self._told(intent)
        receipt = RevocationReceipt(
            kid=key.kid,
            reason=intent.reason,
            emergency=intent.emergency,
            acknowledged_at=acknowledged_at,
            inferred=key.inferred,
            left_jwks_at=await self._left_jwks(intent),
            refusals=refusals,
            tokens_expire_by=expiry_of(key.current_until, self.token_lifetime),
        )
        if receipt.refused_everywhere:
            await self.journal.tell(intent, "finished")
        return receipt

    async def _acknowledged(self, intent: Intent, key: SigningKey) -> SigningKey:
        """The key as it is once the tenant has revoked it."""
        try:
            revoked = await self.keys.revoke(key.kid)
        except (UnavailableError, RateLimitedError) as error:
            await self.journal.tell(intent, "unanswered", "warning", str(error))
            error.add_note(
                ("Whoever was told refuses the key already. " if intent.emergency else "")
                + "It is not known to be revoked at the tenant: repeat the call, it is safe."
            )
            raise
        except (ManagementAPIError, RevocationRefusedError) as error:
            note = f"The tenant refused to revoke {key.kid}, so it is still published."
            if intent.emergency:
                note += (
                    " Tokens of it are refused here all the same; `reinstate(kid, reason=...)` "
                    "lifts that if it was a mistake."
                )
            error.add_note(note)
            await self.journal.tell(intent, "failed", "failed", f"{error} {note}")
            raise
        return replace(key, revoked=True, inferred=revoked.inferred)

    async def _told(self, intent: Intent) -> tuple[Refusal, ...]:
        return await told(self.fleet, intent, self.journal)

    async def _left_jwks(self, intent: Intent) -> datetime | None:
        """When the JWK Set was first seen without the key; None when that took too long."""
        clock = self.keys.clock
        until, pause = clock.monotonic() + self.confirm_within, 1.0
        while True:
            try:
                listed = intent.kid in await self.keys.published_kids(self.jwks_uri)
                problem = "the JWK Set still lists the key"
            except UnavailableError as error:
                listed, problem = True, str(error)
            if not listed:
                await self.journal.tell(intent, "left_jwks")
                return self.journal.now()
            left = until - clock.monotonic()
            if left <= 0:
                await self.journal.tell(intent, "still_in_jwks", "warning", problem)
                return None
            await self.keys.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
