"""What the ASGI side needs of a verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from jwks_guard.readiness.verdict import RevocationReadiness
    from jwks_guard.verify.token import VerifiedToken


class RequestVerifier(Protocol):
    """TokenVerifier and MultiIssuerVerifier, as seen by the middleware."""

    async def start(self) -> None:
        """Try to fetch the keys once, then go on in the background."""

    async def aclose(self) -> None:
        """End the background work."""

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token; raises if it is not accepted now."""

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until `token` has to be looked at again; raises what `verify` would raise now."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, from any thread, whenever trust may have changed.

        Returns a function that ends it.
        """


class ReadinessJudge(Protocol):
    """A KeyRotation, as seen by the operations routes; it knows the tenant's side as well."""

    async def revocation_readiness(self, kid: str) -> RevocationReadiness:
        """The verdict on revoking `kid` now."""
