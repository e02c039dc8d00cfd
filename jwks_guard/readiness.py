"""What a revocation needs of whoever refuses tokens: the protocol that joins them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class KeyView(Protocol):
    """The keys that a Revocable trusts."""

    @property
    def kids(self) -> Collection[str]:
        """Their kids at this moment."""
        ...

    async def refresh(self) -> None:
        """Ask the issuer now; raises KeysUnavailableError when that brings no confirmation."""
        ...


class Revocable(Protocol):
    """Whatever refuses an issuer's tokens when told to: a TokenVerifier is one."""

    issuer: str

    @property
    def keys(self) -> KeyView:
        """What it trusts."""
        ...

    async def distrust(self, kid: str, *, reason: str, force: bool = False) -> None:
        """Refuse every token of `kid` from now on; DistrustNotSharedError: only here, so far."""
        ...

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift that again."""
        ...
