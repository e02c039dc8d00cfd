"""Decisions about one key or instance of a fleet, by a person, with every step in the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jwks_guard.admin.journal import Intent, Journal
from jwks_guard.admin.refusals import distrust_everywhere, observe_all
from jwks_guard.admin.revocable import Revocable
from jwks_guard.errors import ConfigurationError, JWKSGuardError, RevocationRefusedError
from jwks_guard.readiness.state import LIVE_SECONDS, InstanceState, Refusal
from jwks_guard.readiness.verdict import reporting_in

_ANY_KID = "-"  # states do not depend on the kid


@runtime_checkable
class Dismissing(Protocol):
    """A fleet that remembers instances which are gone."""

    async def dismiss(self, instance: str) -> int:
        """Forget one; gives how many states it had."""
        ...


@dataclass(frozen=True, slots=True)
class Decisions:
    """Carries out intents to distrust, reinstate and dismiss on `fleet`. No tenant is needed."""

    fleet: tuple[Revocable, ...]
    journal: Journal

    async def distrust(self, intent: Intent, *, force: bool) -> tuple[Refusal, ...]:
        """Make every member refuse the key of `intent`; returns what each instance says of it.

        Raises RevocationRefusedError where a member trusts no other key and `force` is not given.
        """
        await self.journal.begin(intent)
        try:
            refusals = await distrust_everywhere(self.fleet, intent, self.journal, force=force)
        except RevocationRefusedError as error:
            await self.journal.tell(intent, "failed", "failed", str(error))
            raise
        await self.journal.tell(intent, "finished")
        return refusals

    async def reinstate(self, intent: Intent) -> None:
        """Lift the distrust; raises the first error of a member, after all were called."""
        await self.journal.begin(intent)
        steps = (
            each.reinstate(intent.kid, reason=intent.reason, actor=intent.actor)
            for each in self.fleet
        )
        for failure in await asyncio.gather(*steps, return_exceptions=True):
            if failure is not None:
                await self.journal.tell(intent, "failed", "failed", str(failure))
                raise failure
        await self.journal.tell(intent, "finished")

    async def dismiss(self, intent: Intent) -> str:
        """Forget the instance of `intent`; returns its name. Raises as `dismiss` does."""
        await self.journal.begin(intent)
        try:
            name = await dismiss(self.fleet, intent.instance, self.journal.now().timestamp())
        except JWKSGuardError as error:
            await self.journal.tell(intent, "failed", "failed", str(error))
            raise
        await self.journal.tell(intent, "finished", detail=f"{name} is forgotten")
        return name


async def dismiss(fleet: tuple[Revocable, ...], instance: str, now: float) -> str:
    """Make `fleet` forget an instance that has ended; returns its name.

    Raises ConfigurationError for an instance that is unknown or still reports, and where its fleet
    is a list of addresses; DistrustNotSharedError where a fleet can't be asked.
    """
    seen, _ = await observe_all(fleet, _ANY_KID)
    found = [state for state in seen.states if state.instance == instance]
    state = _silent(found, now)
    forgetful = [each for each in fleet if isinstance(each, Dismissing)]
    forgotten = [await each.dismiss(state.instance) for each in forgetful]
    if not any(forgotten):
        raise ConfigurationError(
            f"No member of the fleet can forget {state.name}. Nothing was changed. Take its "
            "address out of the settings instead (JWKS_GUARD_FLEET)."
        )
    return state.name


def _silent(found: list[InstanceState], now: float) -> InstanceState:
    if len(found) != 1:
        raise ConfigurationError(
            "No single instance of the fleet has this id: it may be forgotten already. Nothing was "
            "changed."
        )
    if reporting_in(found, LIVE_SECONDS, now):
        raise ConfigurationError(
            f"{found[0].name} still reports. Nothing was changed. Stop it first."
        )
    return found[0]
