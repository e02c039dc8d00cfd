"""Revocable: what the admin side calls on a verifier or a fleet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from jwks_guard.readiness.state import Observed, Refusal


class KeyView(Protocol):
    """The keys that a Revocable trusts."""

    @property
    def kids(self) -> Collection[str]:
        """Their kids at this moment."""
        ...

    async def refresh(self) -> None:
        """Fetch the keys now; raises KeysUnavailableError if the issuer does not confirm them."""
        ...


@runtime_checkable
class InstancesKeys(KeyView, Protocol):
    """The keys that every instance of a fleet trusts."""

    def without(self, kid: str) -> Sequence[str]:
        """The names of the instances that did not trust `kid` at the last refresh."""
        ...


class Revocable(Protocol):
    """A verifier of one issuer's tokens, or a fleet of them."""

    @property
    def issuer(self) -> str:
        """The issuer of the tokens."""
        ...

    @property
    def keys(self) -> KeyView:
        """The keys that it trusts; for a fleet, those that every instance trusts."""
        ...

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False, actor: str | None = None
    ) -> Sequence[Refusal] | None:
        """Refuse every token of `kid` from now on; a fleet returns the result of each instance.

        `actor` is shown as who decided it. Raises DistrustNotSharedError if not every copy of the
        decision was written.
        """
        ...

    async def reinstate(self, kid: str, *, reason: str, actor: str | None = None) -> None:
        """Lift the distrust of `kid`."""
        ...

    async def is_distrusted(self, kid: str) -> bool:
        """Whether a decision to distrust `kid` stands; raises JWKSGuardError unless all know it."""
        ...

    async def observe(self, kid: str) -> Observed:
        """The states of its instances, and the reach of the tokens of `kid`."""
        ...
