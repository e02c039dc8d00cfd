"""What the admin side needs of a verifier or a fleet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from jwks_guard.readiness.state import Observed, Refusal


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
    """Whatever refuses an issuer's tokens when told to: a TokenVerifier, or a fleet of them."""

    @property
    def issuer(self) -> str:
        """Whose tokens."""
        ...

    @property
    def keys(self) -> KeyView:
        """What it trusts; of a fleet, what every instance does."""
        ...

    async def distrust(
        self, kid: str, *, reason: str, force: bool = False
    ) -> Sequence[Refusal] | None:
        """Refuse every token of `kid` from now on; DistrustNotSharedError: only here, so far.

        A fleet gives who refuses it since when.
        """
        ...

    async def reinstate(self, kid: str, *, reason: str) -> None:
        """Lift that again."""
        ...

    async def observe(self, kid: str) -> Observed:
        """What its instances show of `kid`."""
        ...
