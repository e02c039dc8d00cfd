"""KeyRotation: rotate and revoke in the order that breaks nothing, and tell whoever must know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from inspect import iscoroutinefunction

from jwks_guard.admin.journal import Action, AdminEvent, Intent, Journal, default_actor
from jwks_guard.admin.receipts import (
    CERTIFICATES,
    RevocationReceipt,
    RotationReceipt,
    expiry_of,
)
from jwks_guard.admin.revocation import Revocation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.steps import only
from jwks_guard.admin.telling import lacking
from jwks_guard.errors import (
    ConfigurationError,
    ManagementAPIError,
    NotFoundError,
    RotationRefusedError,
    RotationUncertainError,
)
from jwks_guard.keys.arguments import require_jwks_uri, require_seconds, require_text
from jwks_guard.readiness import Revocable

_DEFAULT_REASON = "revoked at the tenant"


class KeyRotation:
    """Rotates and revokes a tenant's signing keys, and tells `fleet` which key to refuse.

    Arguments:
        keys: the client of the tenant's Management API.
        fleet: whoever refuses tokens: a verifier, or several.
        token_lifetime: of the tenant's access tokens, at the longest; lets receipts say until when
            tokens of a previous key live.
        journal_path: a file of JSON lines, only ever appended to (mode 0600): every step with time,
            actor and result. What a crash left unfinished in it, the next operation finishes
            first; so it is for one process at a time.
        on_event: called with each AdminEvent; must return quickly.
        actor: who does this, for the journal; by default user@host of this process.
        jwks_uri: where the tenant's keys are published; by default on the client's domain.
        confirm_within: for how long a revoked key is looked for in the JWK Set, in seconds.

    """

    def __init__(
        self,
        keys: SigningKeysClient,
        fleet: Revocable | Iterable[Revocable] = (),
        *,
        token_lifetime: timedelta | None = None,
        journal_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[AdminEvent], object] | None = None,
        actor: str | None = None,
        jwks_uri: str | None = None,
        confirm_within: float = 120.0,
    ) -> None:
        if not isinstance(keys, SigningKeysClient):
            raise ConfigurationError("keys must be a SigningKeysClient.")
        refusing = tuple(fleet) if isinstance(fleet, Iterable) else (fleet,)
        if not all(iscoroutinefunction(getattr(each, "distrust", None)) for each in refusing):
            raise ConfigurationError(
                "fleet must be a TokenVerifier or several, on this event loop or another. In code "
                "without one, make a TokenVerifier beside the SyncTokenVerifier: what it is told "
                "to distrust, every verifier of the process refuses."
            )
        if token_lifetime is not None and not isinstance(token_lifetime, timedelta):
            raise ConfigurationError("token_lifetime must be a timedelta.")
        if actor is not None:
            require_text("actor", actor)
        require_jwks_uri(jwks_uri)
        require_seconds("confirm_within", confirm_within)
        self._keys = keys
        self._fleet = refusing
        self._token_lifetime = token_lifetime
        self._journal = Journal(journal_path, on_event, keys.clock)
        self._actor = actor or default_actor()
        self._revocation = Revocation(
            keys, self._fleet, self._journal, token_lifetime, jwks_uri, confirm_within
        )

    async def rotate(self, *, reason: str = "planned rotation") -> RotationReceipt:
        """Make the next key current, once every verifier holds it.

        Raises RotationRefusedError when one does not, although it was asked to refresh; and what
        SigningKeysClient.rotate raises.
        """
        await self.resume()
        keys = await self._keys.list()
        await self.require_prepared(keys)
        intent = self._intent("rotate", only(keys, "current").kid, reason)
        await self._journal.begin(intent)
        receipt = await self._rotated(intent, keys)
        await self._journal.tell(intent, "finished")
        return receipt

    async def require_prepared(self, keys: Iterable[SigningKey]) -> None:
        """Raise RotationRefusedError unless every verifier trusts the next one of `keys`."""
        kid = only(keys, "next").kid
        if not (without := await lacking(self._fleet, kid)):
            return
        error = RotationRefusedError(
            f"The next key, {kid}, is not trusted by {', '.join(without)}, although asked to "
            "refresh: its first tokens would have to wait for a fetch, or be refused. See there "
            "what `health()` says. Nothing was done."
        )
        error.kid, error.lacking = kid, without
        raise error

    async def revoke(
        self, kid: str, *, reason: str = _DEFAULT_REASON, emergency: bool = False
    ) -> RevocationReceipt:
        """Withdraw a previously used key for good, and have it refused everywhere.

        Planned, the tenant comes first, and verifiers are told once it has acknowledged. In an
        `emergency` they are told first: if the tenant then refuses for good, the key stays refused
        here until `reinstate`. A planned one first finishes what a crash left in the journal.
        Raises RevocationRefusedError for the current and the next key, and what
        SigningKeysClient.revoke raises.
        """
        require_text("reason", reason)
        if not emergency:
            await self.resume()
        key = await self._revocable(kid, emergency=emergency)
        intent = self._intent("revoke", kid, reason, emergency=emergency)
        await self._journal.begin(intent)
        return await self._revocation.carry_out(intent, key)

    async def rotate_and_revoke(
        self, kid: str | None = None, *, reason: str = "the key has leaked"
    ) -> RevocationReceipt:
        """For a leaked key: rotate, have it refused everywhere, revoke it at the tenant.

        `kid` is the leaked key; when it is not current any more, there is no rotation. Without it
        the current key is meant. Where an earlier run was cut off, this finishes that one and does
        nothing else.
        """
        require_text("reason", reason)
        for intent, receipt in await self._resumed():
            if intent.action == "rotate_and_revoke":
                return receipt
        keys = await self._keys.list()
        current = only(keys, "current")
        if kid is not None and kid != current.kid:
            return await self.revoke(kid, reason=reason, emergency=True)
        intent = self._intent("rotate_and_revoke", current.kid, reason, emergency=True)
        await self._journal.begin(intent)
        rotation = await self._rotated(intent, keys)
        leaked = replace(current, current=False, current_until=rotation.rotated_at)
        return replace(await self._revocation.carry_out(intent, leaked), rotation=rotation)

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Have `kid` accepted again, where it is still published: nothing else ever lifts that."""
        intent = self._intent("reinstate", kid, reason)
        await self._journal.begin(intent)
        for each in self._fleet:
            await each.reinstate(kid, reason=reason)
        await self._journal.tell(intent, "finished")

    async def resume(self) -> list[RevocationReceipt]:
        """Finish what a crash left unfinished in the journal; gives what that brought about.

        A planned revocation that never reached the tenant is abandoned, and so is an emergency
        whose rotation did not happen: ask for it again.
        """
        return [receipt for _, receipt in await self._resumed()]

    async def _resumed(self) -> list[tuple[Intent, RevocationReceipt]]:
        receipts = []
        for intent in await self._journal.unfinished(self._keys.base_url):
            try:
                key = await self._keys.get(intent.kid)
            except NotFoundError:  # who forgot a key has revoked it
                key = SigningKey(kid=intent.kid, revoked=True)
            if key.revoked or (intent.emergency and key.state == "previously used"):
                receipts.append((intent, await self._revocation.carry_out(intent, key)))
            else:
                why = f"the key is {key.state}: nothing was revoked"
                await self._journal.tell(intent, "abandoned", "warning", why)
        return receipts

    async def _revocable(self, kid: str, *, emergency: bool) -> SigningKey:
        """The key, if it may be revoked."""
        try:
            return await self._keys.revocable(kid)
        except ManagementAPIError as error:
            if emergency:
                error.add_note(
                    "Nobody refuses the key yet. `verifier.distrust(kid, reason=...)` does it "
                    "without the Management API; for the current key that refuses every token."
                )
            raise

    async def _rotated(self, intent: Intent, keys: list[SigningKey]) -> RotationReceipt:
        certificates = {kind: self._keys.base_url + path for kind, path in CERTIFICATES.items()}
        warning = saml_warning(certificates)
        await self._journal.tell(intent, "warned", "warning", warning)
        try:
            new = await self._keys.rotate()
        except RotationUncertainError as error:
            await self._journal.tell(intent, "uncertain", "failed", str(error))
            if intent.emergency:
                error.add_note(
                    f"Nobody refuses {intent.kid} yet. Once it reads as previously used, call "
                    f"rotate_and_revoke({intent.kid!r}) again: it will not rotate then."
                )
            raise
        except ManagementAPIError as error:
            await self._journal.tell(intent, "failed", "failed", str(error))
            raise
        now, current = self._journal.now(), only(keys, "next")
        await self._journal.tell(intent, "rotated", detail=f"current is {current.kid}")
        return RotationReceipt(
            rotated_at=now,
            previous=only(keys, "current"),
            current=current,
            next=new,
            inferred=new.inferred,
            tokens_expire_by=expiry_of(now, self._token_lifetime),
            warnings=(warning,),
            certificates=certificates,
        )

    def _intent(self, action: Action, kid: str, reason: str, *, emergency: bool = False) -> Intent:
        require_text("kid", kid)
        require_text("reason", reason)
        return Intent(
            action=action,
            tenant=self._keys.base_url,
            actor=self._actor,
            kid=kid,
            reason=reason,
            emergency=emergency,
        )


def saml_warning(certificates: Mapping[str, str]) -> str:
    """What rotating does to those who trust the tenant's certificate and not its JWK Set."""
    return (
        "SAML and WS-Fed parties that check this tenant's signature break at the rotation, and not "
        "at the revocation, until they have the new certificate: now it is the next key's (`cert`, "
        f"in `keys show KID --json`), afterwards it is at {', '.join(certificates.values())}."
    )
