"""KeyRotation: rotate and revoke in the order that breaks nothing, and tell whoever must know."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from inspect import iscoroutinefunction

from jwks_guard.admin.journal import Action, AdminEvent, Intent, Journal, default_actor
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.receipts import (
    RevocationReceipt,
    RotationReceipt,
    certificates_of,
    rotation_receipt,
    saml_warning,
)
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.revocation import Revocation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.telling import lacking, observed
from jwks_guard.admin.unfinished import Unfinished
from jwks_guard.admin.verdict import blockers_of, facts_of, not_ready, settings_of, unanswered
from jwks_guard.base.arguments import require_jwks_uri, require_seconds, require_text
from jwks_guard.errors import (
    ConfigurationError,
    DistrustNotSharedError,
    KeysUnavailableError,
    ManagementAPIError,
    RotationRefusedError,
    RotationUncertainError,
)
from jwks_guard.readiness.verdict import RevocationReadiness, reporting_in, revocation_readiness

_DEFAULT_REASON = "revoked at the tenant"


class KeyRotation:
    """Rotates and revokes a tenant's signing keys, and tells `fleet` which key to refuse.

    Arguments:
        keys: the client of the tenant's Management API.
        fleet: whoever refuses tokens: a verifier, or several.
        token_lifetime: of the tenant's access tokens, at the longest. Without it nobody can tell
            until when tokens of a previous key live, and no key is ever ready to be revoked.
        quiet_period: for so long every instance must have been watched, without accepting a token
            of the key, before that is revoked.
        expected_instances: how many instances have to report; by default as many as show
            themselves, and one of each of `fleet` that shows none.
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
        quiet_period: timedelta = timedelta(minutes=10),
        expected_instances: int | None = None,
        journal_path: str | os.PathLike[str] | None = None,
        on_event: Callable[[AdminEvent], object] | None = None,
        actor: str | None = None,
        jwks_uri: str | None = None,
        confirm_within: float = 120.0,
    ) -> None:
        if not isinstance(keys, SigningKeysClient):
            raise ConfigurationError("keys must be a SigningKeysClient.")
        refusing = require_fleet(fleet)
        if actor is not None:
            require_text("actor", actor)
        require_jwks_uri(jwks_uri)
        require_seconds("confirm_within", confirm_within)
        self._keys = keys
        self._fleet = refusing
        self._token_lifetime = token_lifetime
        self._journal = Journal(journal_path, on_event, keys.clock)
        self._actor = actor or default_actor()
        self._settings = settings_of(
            token_lifetime, quiet_period, 1 if expected_instances is None else expected_instances
        )
        self._counts_instances = expected_instances is None
        self._one_at_a_time = asyncio.Lock()  # but not for emergencies, which wait for nobody
        self._revocation = Revocation(
            keys, self._fleet, self._journal, token_lifetime, jwks_uri, confirm_within
        )
        self._unfinished = Unfinished(keys, self._journal, self._revocation)

    async def rotate(self, *, reason: str = "planned rotation") -> RotationReceipt:
        """Make the next key current, once every verifier holds it.

        Raises RotationRefusedError when one does not, although it was asked to refresh; and what
        SigningKeysClient.rotate raises. Where the journal shows that an earlier rotation was cut
        off, this does not rotate: it gives that one's receipt if it did happen, and raises
        RotationUncertainError, once, if it does not seem so.
        """
        async with self._one_at_a_time:
            await self._unfinished.resume()
            keys = SigningKeys(await self._keys.list())
            if (done := await self._unfinished.rotation(keys)) is not None:
                return done
            await self.require_prepared(keys)
            intent = self._intent("rotate", keys.current.kid, reason)
            await self._journal.begin(intent)
            receipt = await self._rotated(intent, keys)
            await self._journal.tell(intent, "finished")
            return receipt

    async def require_prepared(self, keys: Iterable[SigningKey]) -> None:
        """Raise RotationRefusedError unless every verifier trusts the next one of `keys`."""
        kid = SigningKeys(keys).next.kid
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
        self,
        kid: str,
        *,
        reason: str = _DEFAULT_REASON,
        emergency: bool = False,
        force: bool = False,
    ) -> RevocationReceipt:
        """Withdraw a previously used key for good, and have it refused everywhere.

        Planned, the tenant comes first, and verifiers are told once it has acknowledged. In an
        `emergency` they are told first: if the tenant then refuses for good, the key stays refused
        here until `reinstate`. A planned one first finishes what a crash left in the journal, and
        is refused unless the key is ready, by `revocation_readiness`: the error's `report` has the
        verdict. With `force` it is revoked all the same; that takes a reason, which is written
        down. Raises RevocationRefusedError for the current and the next key, which nothing forces,
        and what SigningKeysClient.revoke raises.
        """
        if force and reason == _DEFAULT_REASON:
            raise ConfigurationError("force takes a reason: write why it can't wait.")
        intent = self._intent("revoke", kid, reason, emergency=emergency)
        if emergency:
            return await self._revoked_in_emergency(intent)
        async with self._one_at_a_time:
            await self._unfinished.resume()
            key = await self._keys.revocable(kid)
            readiness = None if key.revoked else await self._readiness(kid, force=force)
            if readiness is not None and readiness.verdict != "yes" and not force:
                raise not_ready(readiness)
            await self._journal.begin(intent)
            if readiness is not None and readiness.verdict != "yes":
                await self._journal.tell(intent, "forced", "warning", blockers_of(readiness))
            receipt = await self._revocation.carry_out(intent, key, readiness)
            return replace(receipt, readiness=readiness)

    async def _readiness(self, kid: str, *, force: bool) -> RevocationReadiness:
        try:
            return await self.revocation_readiness(kid)
        except (ConfigurationError, DistrustNotSharedError, KeysUnavailableError) as error:
            if force:
                return unanswered(kid, error, self._keys.clock.time())
            error.add_note(
                "So it can't be told what revoking this key would break, and nothing was done. "
                "force=True, with a reason, does it all the same."
            )
            raise

    async def revocation_readiness(self, kid: str) -> RevocationReadiness:
        """Whether `kid` can be revoked now without refusing a valid token, and what speaks against.

        Raises NotFoundError and what SigningKeysClient.list raises.
        """
        keys = SigningKeys(await self._keys.list())
        key = keys.get(kid) or await self._keys.get(kid)
        seen, missing = await observed(self._fleet, kid)
        settings, now = self._settings, self._keys.clock.time()
        if self._counts_instances:
            reporting = len(reporting_in(seen.states, settings.report_within, now))
            settings = replace(settings, expected_instances=max(1, reporting + missing))
        return revocation_readiness(facts_of(key, keys), seen, settings, now)

    async def rotate_and_revoke(
        self, kid: str | None = None, *, reason: str = "the key has leaked"
    ) -> RevocationReceipt:
        """For a leaked key: rotate, have it refused everywhere, revoke it at the tenant.

        `kid` is the leaked key; when it is not current any more, there is no rotation, so that the
        call can be repeated until it succeeds. Without it the current key is meant. Where the
        journal shows an earlier such call that was cut off, it can't be told whether this is that
        one again, and RotationRefusedError asks for the kid.
        """
        require_text("reason", reason)
        if kid is None:
            await self._unfinished.require_no_emergency()
        with _nobody_refuses_yet():
            keys = SigningKeys(await self._keys.list())
            current = keys.current
        if kid is not None and kid != current.kid:
            return await self.revoke(kid, reason=reason, emergency=True)
        intent = self._intent("rotate_and_revoke", current.kid, reason, emergency=True)
        await self._journal.begin(intent)
        with _nobody_refuses_yet():
            rotation = await self._rotated(intent, keys)
        leaked = replace(current, current=False, current_until=rotation.rotated_at)
        return replace(await self._revocation.carry_out(intent, leaked), rotation=rotation)

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Have `kid` accepted again, where it is still published: nothing else ever lifts that.

        Every verifier is told; the first error of one that failed is raised then.
        """
        intent = self._intent("reinstate", kid, reason)
        await self._journal.begin(intent)
        steps = (each.reinstate(kid, reason=reason) for each in self._fleet)
        for failure in await asyncio.gather(*steps, return_exceptions=True):
            if failure is not None:
                await self._journal.tell(intent, "failed", "failed", str(failure))
                raise failure
        await self._journal.tell(intent, "finished")

    async def resume(self) -> list[RevocationReceipt]:
        """Finish what a crash left unfinished in the journal; gives what that brought about.

        A planned revocation that never reached the tenant is abandoned: ask for it again. An
        emergency whose key is still current stays open: repeat it, naming the key.
        """
        async with self._one_at_a_time:
            return await self._unfinished.resume()

    async def _revoked_in_emergency(self, intent: Intent) -> RevocationReceipt:
        with _nobody_refuses_yet():
            key = await self._keys.revocable(intent.kid)
        await self._journal.begin(intent)
        return await self._revocation.carry_out(intent, key)

    async def _rotated(self, intent: Intent, keys: SigningKeys) -> RotationReceipt:
        warning = saml_warning(certificates_of(self._keys.base_url))
        await self._journal.tell(intent, "warned", "warning", warning)
        try:
            new = await self._keys.rotate()
        except RotationUncertainError as error:
            await self._journal.tell(intent, "uncertain", "failed", str(error))
            raise
        except ManagementAPIError as error:
            await self._journal.tell(intent, "failed", "failed", str(error))
            raise
        await self._journal.tell(intent, "rotated", detail=f"current is {keys.next.kid}")
        return rotation_receipt(
            self._keys.base_url,
            self._journal.now(),
            self._token_lifetime,
            previous=keys.current,
            current=keys.next,
            new=new,
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


def require_fleet(fleet: Revocable | Iterable[Revocable]) -> tuple[Revocable, ...]:
    """The members of `fleet`; raises ConfigurationError for what can't be told to refuse a key."""
    members = tuple(fleet) if isinstance(fleet, Iterable) else (fleet,)
    if not all(iscoroutinefunction(getattr(each, "distrust", None)) for each in members):
        raise ConfigurationError(
            "fleet must be a TokenVerifier, a fleet, or several of them. In code without an event "
            "loop, make a TokenVerifier beside the SyncTokenVerifier: what it is told to distrust, "
            "every verifier of the process refuses."
        )
    return members


@contextmanager
def _nobody_refuses_yet() -> Iterator[None]:
    """Have an error say what can be done about the key all the same."""
    try:
        yield
    except (ManagementAPIError, RotationUncertainError) as error:
        error.add_note(
            "Nobody refuses the key yet. `verifier.distrust(kid, reason=...)` has it refused "
            "without the Management API; while it is the current key, that refuses every token. "
            "This call can be repeated, with the kid: it does not rotate where that was done."
        )
        raise
