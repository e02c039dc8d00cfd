"""What the console does to keys and instances, with a tenant's Management API or without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Protocol, Self

from jwks_guard.admin import AdminEvent, Refusal
from jwks_guard.admin.decisions import Decisions
from jwks_guard.admin.journal import Action, Intent, Journal
from jwks_guard.admin.revocable import Revocable
from jwks_guard.base.clock import Clock


class Deciding(Protocol):
    """Decides about keys and instances in somebody's name: a KeyRotation, or FleetOperations."""

    def acting_as(self, actor: str) -> Self:
        """The same in the name of `actor`."""
        ...

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> Sequence[Refusal]:
        """Make every instance refuse `kid`."""
        ...

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift that."""
        ...

    async def dismiss(self, instance: str, *, reason: str) -> str:
        """Forget an instance that has ended; gives its name."""
        ...


class FleetOperations:
    """Decisions about the keys of `fleet` without a Management API: there is no journal file.

    `on_event` is called with each step.
    """

    def __init__(
        self, fleet: Revocable, clock: Clock, on_event: Callable[[AdminEvent], object]
    ) -> None:
        self._fleet = fleet
        self._decisions = Decisions((fleet,), Journal(None, on_event, clock))
        self._actor = ""

    def acting_as(self, actor: str) -> Self:
        """The same in the name of `actor`."""
        acting = copy(self)
        acting._actor = actor
        return acting

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> Sequence[Refusal]:
        """Make every instance refuse `kid`, as KeyRotation.distrust does."""
        return await self._decisions.distrust(self._intent("distrust", reason, kid), force=force)

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift the distrust of `kid`."""
        await self._decisions.reinstate(self._intent("reinstate", reason, kid))

    async def dismiss(self, instance: str, *, reason: str) -> str:
        """Forget an instance that has ended, as KeyRotation.dismiss does."""
        return await self._decisions.dismiss(self._intent("dismiss", reason, instance=instance))

    def _intent(self, action: Action, reason: str, kid: str = "", instance: str = "") -> Intent:
        return Intent(
            action=action,
            tenant=self._fleet.issuer,
            actor=self._actor,
            kid=kid,
            reason=reason,
            instance=instance,
        )
