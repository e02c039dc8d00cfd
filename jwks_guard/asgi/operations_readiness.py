"""Who judges whether a key may be revoked: an API alone does not see the tenant's side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from jwks_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from jwks_guard.readiness import RevocationReadiness


class JudgesReadiness(Protocol):
    """A KeyRotation, as the routes see it."""

    async def revocation_readiness(self, kid: str) -> RevocationReadiness:
        """The verdict on revoking `kid` now."""
        ...


Judge: TypeAlias = Callable[[str], Awaitable["RevocationReadiness"]]
Readiness: TypeAlias = JudgesReadiness | Judge


def judge_of(readiness: Readiness | None) -> Judge | None:
    """What gives the verdict on a kid; raises ConfigurationError."""
    judge = getattr(readiness, "revocation_readiness", readiness)
    if judge is not None and not callable(judge):
        raise ConfigurationError("readiness must be a KeyRotation, or a coroutine function.")
    return judge
