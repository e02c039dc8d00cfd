"""One revocation: the tenant and the verifiers in the right order, then the JWK Set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from jwks_guard.admin.attempts import Attempts
from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.receipts import RevocationReceipt, last_expiry
from jwks_guard.admin.refusals import distrust_everywhere
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SETTLE_SECONDS, SigningKeysClient
from jwks_guard.errors import (
    ManagementAPIError,
    RateLimitedError,
    RevocationRefusedError,
    UnavailableError,
)
from jwks_guard.readiness.state import Refusal
from jwks_guard.readiness.verdict import RevocationReadiness

_REFUSED = "Verifiers refuse the key already, except those that an event `not_told` names."


@dataclass(frozen=True, slots=True)
class Revocation:
    """Carries out intents to revoke; the arguments are those of KeyRotation."""

    keys: SigningKeysClient
    fleet: tuple[Revocable, ...]
    journal: Journal
    token_lifetime: timedelta | None
    jwks_uri: str | None
    confirm_within: float

    async def carry_out(
        self, intent: Intent, key: SigningKey, readiness: RevocationReadiness | None = None
    ) -> RevocationReceipt:
        """Finish `intent`, of which an earlier run may have done a part; `key` is as read just now.

        `readiness` is the verdict before it, if there was one.
        """
        refusals = await self._refused(intent) if intent.emergency else ()
        expires = last_expiry(key, self.token_lifetime, readiness)
        warnings = await self._warned(intent, expires)
        key = await self.acknowledged(intent, key)
        acknowledged_at = self.journal.now()
        await self.journal.tell(intent, "acknowledged")
        if not intent.emergency:
            refusals = await self._refused(intent)
        receipt = RevocationReceipt(
            kid=key.kid,
            reason=intent.reason,
            emergency=intent.emergency,
            acknowledged_at=acknowledged_at,
            inferred=key.inferred,
            left_jwks_at=await self.left_jwks(intent),
            refusals=refusals,
            tokens_expire_by=expires,
            warnings=warnings if self.journal.error is None else (*warnings, self.journal.error),
        )
        if receipt.refused_everywhere:
            await self.journal.tell(intent, "finished")
        return receipt

    async def _warned(self, intent: Intent, expires: datetime | None) -> tuple[str, ...]:
        """The warning, if a planned revocation refuses tokens that are still valid."""
        if intent.emergency or expires is None or expires <= self.journal.now():
            return ()
        warning = (
            f"Clients may hold valid tokens of {intent.kid} until "
            f"{expires:%Y-%m-%d %H:%M:%S} UTC: they are refused from now on."
        )
        await self.journal.tell(intent, "warned", "warning", warning)
        return (warning,)

    async def acknowledged(self, intent: Intent, key: SigningKey) -> SigningKey:
        """The key, once the tenant has revoked it; raises what SigningKeysClient.revoke raises."""
        if key.revoked:
            return replace(key, inferred=True)
        try:
            revoked = await self._revoked(intent)
        except (UnavailableError, RateLimitedError, RevocationRefusedError) as error:
            await self.journal.tell(intent, "unanswered", "warning", str(error))
            error.add_note(
                (f"{_REFUSED} " if intent.emergency else "")
                + f"It is not known to be revoked at the tenant: call {_again(intent)} until it is."
            )
            raise
        except ManagementAPIError as error:
            note = f"The tenant refused to revoke {key.kid}, so it is still published."
            if intent.emergency:
                note += (
                    f" {_REFUSED} If that is a mistake, call "
                    f"`reinstate({key.kid!r}, reason=...)`; if not, remove the cause and call "
                    f"{_again(intent)}."
                )
            error.add_note(note)
            await self.journal.tell(intent, "failed", "failed", f"{error} {note}")
            raise
        return replace(key, revoked=True, inferred=revoked.inferred)

    async def _revoked(self, intent: Intent) -> SigningKey:
        """Revoke the key; right after a rotation, repeat it until the tenant no longer refuses."""
        seconds = SETTLE_SECONDS if intent.action == "rotate_and_revoke" else 0.0
        async for _ in Attempts.within(seconds, self.keys.clock, self.keys.sleep):
            try:
                return await self.keys.revoke(intent.kid)
            except (RevocationRefusedError, ManagementAPIError) as error:
                if not _may_pass(error):
                    raise
                refusal = error
        raise refusal

    async def _refused(self, intent: Intent) -> tuple[Refusal, ...]:
        return await distrust_everywhere(self.fleet, intent, self.journal)

    async def left_jwks(self, intent: Intent) -> datetime | None:
        """When the JWK Set was first seen without the key; None when that took too long."""
        async for _ in Attempts.within(self.confirm_within, self.keys.clock, self.keys.sleep):
            try:
                if intent.kid not in await self.keys.published_kids(self.jwks_uri):
                    await self.journal.tell(intent, "left_jwks")
                    return self.journal.now()
                problem = "the key set still lists the key"
            except UnavailableError as error:
                problem = str(error)
        await self.journal.tell(intent, "still_in_jwks", "warning", problem)
        return None


def _may_pass(error: RevocationRefusedError | ManagementAPIError) -> bool:
    """Whether this may be an answer about a key that was current a moment ago."""
    if isinstance(error, RevocationRefusedError):
        return True
    return type(error) is ManagementAPIError and error.status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
    )


def _again(intent: Intent) -> str:
    """The call to repeat: unlike `rotate_and_revoke()`, it never rotates."""
    emergency = ", emergency=True" if intent.emergency else ""
    return f"`revoke({intent.kid!r}{emergency})`"
