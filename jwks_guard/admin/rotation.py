"""KeyRotation: rotate and revoke in the order that refuses no valid token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from copy import copy
from dataclasses import replace
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Self

from jwks_guard.admin.attempts import Attempts
from jwks_guard.admin.decisions import Decisions
from jwks_guard.admin.journal import Action, AdminEvent, Intent, Journal, default_actor
from jwks_guard.admin.key_set import SigningKeys
from jwks_guard.admin.receipts import (
    RevocationReceipt,
    RotationReceipt,
    certificates_of,
    rotation_receipt,
    saml_warning,
)
from jwks_guard.admin.refusals import observe_all, without_key
from jwks_guard.admin.revocable import Revocable
from jwks_guard.admin.revocation import Revocation
from jwks_guard.admin.signing_key import SigningKey
from jwks_guard.admin.signing_keys import SigningKeysClient
from jwks_guard.admin.under_way import Operation
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
from jwks_guard.readiness.state import Observed, Refusal
from jwks_guard.readiness.verdict import RevocationReadiness, reporting_in, revocation_readiness

PREPARED_SECONDS = 10.0
"""For so long the instances of a fleet are asked whether they trust the next key."""
_DEFAULT_REASON = "revoked at the tenant"


class KeyRotation:
    """Rotates and revokes a tenant's signing keys, and makes `fleet` refuse revoked ones.

    Arguments:
        keys: the client of the tenant's Management API.
        fleet: a verifier, a fleet, or several of them.
        token_lifetime: the longest lifetime of the tenant's access tokens. Without it no key is
            ever ready to be revoked: it is not known when the tokens of a previous key expire.
        quiet_period: how long every instance must have been observed without accepting a token of
            the key before the key is revoked.
        expected_instances: how many instances have to report; by default as many as report, and
            one for each member of `fleet` that shows none.
        journal_path: a file of JSON lines (mode 0600), to which every step is appended with its
            time, actor and result. The next planned operation first finishes what a crash left
            unfinished in it. Several processes of one machine may use it at the same time: they
            rotate one after the other, by locks on two files beside it.
        on_event: called with each AdminEvent; must return quickly.
        actor: the person or program, for the journal; by default user@host of this process.
        jwks_uri: where the tenant's keys are published; by default on the client's domain.
        confirm_within: how long to wait until the JWK Set no longer lists a revoked key, in
            seconds.

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
        self.journal = Journal(journal_path, on_event, keys.clock)
        self._actor = actor or default_actor()
        self._settings = settings_of(
            token_lifetime, quiet_period, 1 if expected_instances is None else expected_instances
        )
        self._counts_instances = expected_instances is None
        self._one_at_a_time = asyncio.Lock()  # emergencies do not wait for it
        self.revocation = Revocation(
            keys, self._fleet, self.journal, token_lifetime, jwks_uri, confirm_within
        )
        self._unfinished = Unfinished(keys, self.journal, self.revocation)
        self._decisions = Decisions(self._fleet, self.journal)

    @property
    def keys(self) -> SigningKeysClient:
        """The client of the tenant's Management API."""
        return self._keys

    @property
    def fleet(self) -> tuple[Revocable, ...]:
        """The verifiers and fleets that refuse what it revokes."""
        return self._fleet

    @property
    def token_lifetime(self) -> timedelta | None:
        """The longest lifetime of the tenant's access tokens, if that is known."""
        return self._token_lifetime

    async def events(self) -> list[AdminEvent]:
        """The latest events, oldest first: those in the journal, and those of this process.

        They are a few hundred at most. Raises ConfigurationError when the journal can't be read.
        """
        return await self.journal.recent()

    def acting_as(self, actor: str) -> Self:
        """This rotation with another `actor` in the journal, for a program that several people use.

        Both share everything else, and so do one operation at a time.
        """
        require_text("actor", actor)
        acting = copy(self)
        acting._actor = actor
        return acting

    async def rotate(
        self, *, reason: str = "planned rotation", current: str | None = None
    ) -> RotationReceipt:
        """Make the next key current, once every verifier trusts it.

        `current` is the kid that the caller believes to be the current key: a form that is sent
        twice then rotates once.

        Raises RotationRefusedError if another key is current, or if a verifier does not trust the
        next key, even after a refresh, DistrustNotSharedError where a fleet can't be asked, and
        what SigningKeysClient.rotate raises. If the journal shows that a crash cut off an earlier
        rotation, this does not rotate: it returns the receipt of that rotation, or raises
        RotationUncertainError, once, if the key is still current.
        """
        async with self._planned() as operation:
            await self._unfinished.resume(operation)
            async with self.journal.under_way.rotation():
                return await self._rotated_as_planned(current, reason)

    async def _rotated_as_planned(self, current: str | None, reason: str) -> RotationReceipt:
        keys = SigningKeys(await self._keys.list())
        if (done := await self._unfinished.rotation(keys)) is not None:
            return done
        if current is not None:
            keys.require_current(current)
        await self.require_prepared(keys)
        intent = self.intent("rotate", keys.current.kid, reason)
        await self.journal.begin(intent)
        receipt = await self.rotated(intent, keys)
        await self.journal.tell(intent, "finished")
        return receipt

    async def require_prepared(self, keys: Iterable[SigningKey]) -> None:
        """Raise RotationRefusedError unless every verifier trusts the next one of `keys`.

        Raises DistrustNotSharedError where a fleet can't be asked.
        """
        kid = SigningKeys(keys).next.kid
        try:
            attempts = Attempts.within(PREPARED_SECONDS, self._keys.clock, self._keys.sleep)
            without = await without_key(self._fleet, kid, attempts)
        except DistrustNotSharedError as unasked:
            unasked.add_note(
                f"So it is not known whether its instances trust the next key, {kid}, and nothing "
                "was done. Rotate again once the fleet can be asked."
            )
            raise
        if not without:
            return
        error = RotationRefusedError(
            f"The next key, {kid}, is not trusted by {', '.join(without)}, even after a refresh: "
            "its first tokens would wait for a fetch, or be refused. Nothing was done. Look at "
            "`health()` there, and rotate again once the key is trusted."
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
        """Revoke a previously used key for good, and make every verifier refuse it.

        A planned revocation first finishes what a crash left unfinished in the journal. It raises
        RevocationRefusedError, with the verdict as `report`, unless `revocation_readiness` says
        yes; `force` revokes anyway and takes a reason, for the journal. The tenant revokes the key
        first, then verifiers refuse it. In an `emergency` verifiers refuse it first: if the tenant
        then refuses to revoke it, they go on until `reinstate`.

        Raises RevocationRefusedError for the current and the next key, which nothing forces, and
        what SigningKeysClient.revoke raises.
        """
        if force and reason == _DEFAULT_REASON:
            raise ConfigurationError("force takes a reason: write why the revocation can't wait.")
        intent = self.intent("revoke", kid, reason, emergency=emergency)
        if emergency:
            return await self._revoked_in_emergency(intent)
        async with self._planned() as operation:
            await self._unfinished.resume(operation)
            key = await self._keys.revocable(kid)
            readiness = None if key.revoked else await self._readiness(kid, force=force)
            if readiness is not None and readiness.verdict != "yes" and not force:
                raise not_ready(readiness)
            await self.journal.begin(intent)
            if readiness is not None and readiness.verdict != "yes":
                await self.journal.tell(intent, "forced", "warning", blockers_of(readiness))
            receipt = await self.revocation.carry_out(intent, key, readiness)
            return replace(receipt, readiness=readiness)

    async def _readiness(self, kid: str, *, force: bool) -> RevocationReadiness:
        try:
            return await self.revocation_readiness(kid)
        except (ConfigurationError, DistrustNotSharedError, KeysUnavailableError) as error:
            if force:
                return unanswered(kid, error, self._keys.clock.time())
            error.add_note(
                "So it is not known what revoking this key would break, and nothing was done. "
                "Try again; force=True, with a reason, revokes it anyway."
            )
            raise

    async def revocation_readiness(self, kid: str) -> RevocationReadiness:
        """The verdict on whether `kid` can be revoked now without refusing a valid token.

        Raises NotFoundError and what SigningKeysClient.list raises.
        """
        keys = SigningKeys(await self._keys.list())
        key = keys.get(kid) or await self._keys.get(kid)
        seen, missing = await observe_all(self._fleet, kid)
        return self.verdict(key, keys, seen, missing)

    def verdict(
        self, key: SigningKey, keys: Iterable[SigningKey], seen: Observed, missing: int = 0
    ) -> RevocationReadiness:
        """The verdict on `key` by answers that were had before; asks nobody.

        `keys` are all keys that the tenant lists, `seen` is what the instances showed, and
        `missing` how many members of the fleet showed none. Raises ManagementAPIError unless one
        key is current.
        """
        settings = replace(self._settings, has_fleet=bool(self._fleet))
        now = self._keys.clock.time()
        if self._counts_instances:
            reporting = len(reporting_in(seen.states, settings.report_within, now))
            settings = replace(settings, expected_instances=max(1, reporting + missing))
        return revocation_readiness(facts_of(key, SigningKeys(keys)), seen, settings, now)

    async def rotate_and_revoke(
        self, kid: str | None = None, *, reason: str = "the key has leaked"
    ) -> RevocationReceipt:
        """For a leaked key: rotate, make every verifier refuse the key, revoke it at the tenant.

        `kid` is the leaked key, by default the current one. If it is no longer current, there is no
        rotation: the call can be repeated until it succeeds. Without `kid`, raises
        RotationRefusedError if the journal shows an unfinished call, which this may repeat.
        """
        require_text("reason", reason)
        async with self.journal.under_way.operation():
            if (rotated := await self._rotated_in_emergency(kid, reason)) is None:
                return await self.revoke(str(kid), reason=reason, emergency=True)
            intent, leaked, rotation = rotated
            return replace(await self.revocation.carry_out(intent, leaked), rotation=rotation)

    async def _rotated_in_emergency(
        self, kid: str | None, reason: str
    ) -> tuple[Intent, SigningKey, RotationReceipt] | None:
        """Make the next key current, unless `kid` is current no longer."""
        async with AsyncExitStack() as alone:
            with _not_refused_yet():
                await alone.enter_async_context(self.journal.under_way.rotation())
            if kid is None:
                await self._unfinished.require_no_emergency()
            with _not_refused_yet():
                keys = SigningKeys(await self._keys.list())
                current = keys.current
            if kid is not None and kid != current.kid:
                return None
            intent = self.intent("rotate_and_revoke", current.kid, reason, emergency=True)
            await self.journal.begin(intent)
            with _not_refused_yet():
                rotation = await self.rotated(intent, keys)
        leaked = replace(current, current=False, current_until=rotation.rotated_at)
        return intent, leaked, rotation

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> tuple[Refusal, ...]:
        """Make every verifier refuse `kid`, without the tenant, which goes on listing the key.

        Returns what each instance says of it. It waits for no other operation. Raises
        RevocationRefusedError where a verifier trusts no other key and `force` is not given.
        """
        intent = self.intent("distrust", kid, reason, emergency=True)
        return await self._decisions.distrust(intent, force=force)

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift the distrust of `kid` on every verifier: they accept it again if it is published.

        Raises the first error of a verifier, after all were called.
        """
        await self._decisions.reinstate(self.intent("reinstate", kid, reason))

    async def dismiss(self, instance: str, *, reason: str) -> str:
        """Make the fleet forget an instance that has ended for good; returns its name.

        `instance` is the whole id. Raises ConfigurationError for one that is unknown or still
        reports, and for a fleet that is a list of addresses.
        """
        require_text("instance", instance)
        return await self._decisions.dismiss(self.intent("dismiss", "", reason, instance=instance))

    async def resume(self) -> list[RevocationReceipt]:
        """Finish what a crash left unfinished in the journal; returns the receipts.

        A planned revocation that never reached the tenant is abandoned: call `revoke` again. An
        emergency whose key is still current stays open: call `rotate_and_revoke(kid)` again.
        """
        async with self._planned() as operation:
            return await self._unfinished.resume(operation)

    @asynccontextmanager
    async def _planned(self) -> AsyncIterator[Operation]:
        async with self._one_at_a_time, self.journal.under_way.operation() as operation:
            yield operation

    async def _revoked_in_emergency(self, intent: Intent) -> RevocationReceipt:
        with _not_refused_yet():
            key = await self._keys.revocable(intent.kid)
        async with self.journal.under_way.operation():
            await self.journal.begin(intent)
            return await self.revocation.carry_out(intent, key)

    async def rotated(self, intent: Intent, keys: SigningKeys) -> RotationReceipt:
        """Rotate `keys`, as they were just listed, as a part of `intent`, and note that.

        Raises what SigningKeysClient.rotate raises.
        """
        warning = saml_warning(keys.next.kid, certificates_of(self._keys.base_url))
        await self.journal.tell(intent, "warned", "warning", warning)
        try:
            new = await self._keys.rotate(current=keys.current.kid)
        except RotationUncertainError as error:
            await self.journal.tell(intent, "uncertain", "failed", str(error))
            raise
        except (ManagementAPIError, RotationRefusedError) as error:
            await self.journal.tell(intent, "failed", "failed", str(error))
            raise
        await self.journal.tell(intent, "rotated", detail=f"current is {keys.next.kid}")
        return rotation_receipt(
            self._keys.base_url,
            self.journal.now(),
            self._token_lifetime,
            previous=keys.current,
            current=keys.next,
            new=new,
        )

    def intent(
        self,
        action: Action,
        kid: str,
        reason: str,
        *,
        emergency: bool = False,
        instance: str = "",
    ) -> Intent:
        """An operation at this tenant, by this actor; raises ConfigurationError."""
        if action != "dismiss":
            require_text("kid", kid)
        require_text("reason", reason)
        return Intent(
            action=action,
            tenant=self._keys.base_url,
            actor=self._actor,
            kid=kid,
            reason=reason,
            emergency=emergency,
            instance=instance,
        )


def require_fleet(fleet: Revocable | Iterable[Revocable]) -> tuple[Revocable, ...]:
    """The members of `fleet`; raises ConfigurationError for one that has no async `distrust`."""
    members = tuple(fleet) if isinstance(fleet, Iterable) else (fleet,)
    if not all(iscoroutinefunction(getattr(each, "distrust", None)) for each in members):
        raise ConfigurationError(
            "fleet must be a TokenVerifier, a fleet, or several of them. In code without an event "
            "loop, make a TokenVerifier beside the SyncTokenVerifier: every verifier of the "
            "process refuses the keys that it distrusts."
        )
    return members


@contextmanager
def _not_refused_yet() -> Iterator[None]:
    """Add to an error what can be done about the key without the tenant."""
    try:
        yield
    except (ManagementAPIError, RotationRefusedError, RotationUncertainError) as error:
        error.add_note(
            "No verifier refuses the key yet. `verifier.distrust(kid, reason=...)` refuses it "
            "without the Management API; while it is the current key, that refuses every token. "
            "Repeat this call with the kid: it does not rotate if the key is no longer current."
        )
        raise
