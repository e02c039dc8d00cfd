"""MultiIssuerVerifier: one entry for the tokens of several configured issuers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Self

from jwks_guard.errors import ConfigurationError, InvalidClaimError, MissingClaimError
from jwks_guard.jose.compact import decode_object, split, to_bytes
from jwks_guard.keys.health import HealthReport
from jwks_guard.readiness.usage import KeyUsage
from jwks_guard.verify.token import VerifiedToken
from jwks_guard.verify.verifier import TokenVerifier


class MultiIssuerVerifier:
    """Hands each token to the verifier of the issuer that it names.

    The `iss` that chooses is not verified yet, so it chooses among the configured issuers only and
    before anything is fetched. `verifiers` gives each one by its issuer, for distrust and the like.

    Raises ConfigurationError for two verifiers of one issuer, or none.
    """

    def __init__(self, verifiers: Iterable[TokenVerifier]) -> None:
        given = list(verifiers)
        self.verifiers: Mapping[str, TokenVerifier] = MappingProxyType(
            {verifier.issuer: verifier for verifier in given}
        )
        if not given or len(self.verifiers) != len(given):
            raise ConfigurationError("verifiers must be one or more, each of an issuer of its own.")
        self._max_token_bytes = max(each.verification.max_token_bytes for each in given)

    async def start(self, *, require_keys: bool = False) -> None:
        """Start all of them at once, as TokenVerifier.start does; if one fails, close them all."""
        starts = (each.start(require_keys=require_keys) for each in self.verifiers.values())
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if failure is not None:
                await self.aclose()
                raise failure

    async def aclose(self) -> None:
        """Close each verifier."""
        await asyncio.gather(*(verifier.aclose() for verifier in self.verifiers.values()))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def verify(self, compact: str | bytes) -> VerifiedToken:
        """The verified token, as TokenVerifier.verify of its issuer gives it."""
        token = to_bytes(compact, self._max_token_bytes)
        issuer = decode_object(split(token)[1], "payload").get("iss")
        return await self._verifier_of(issuer).verify(token)

    def remaining(self, token: VerifiedToken) -> float:
        """Seconds until `token` has to be looked at again, as TokenVerifier.remaining gives it."""
        return self._verifier_of(token.issuer).remaining(token)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when trust in any issuer may have changed; returns how to stop that."""
        cancels = [verifier.subscribe(listener) for verifier in self.verifiers.values()]

        def unsubscribe() -> None:
            for cancel in cancels:
                cancel()

        return unsubscribe

    def health(self) -> Mapping[str, HealthReport]:
        """Each issuer's report."""
        return {issuer: verifier.health() for issuer, verifier in self.verifiers.items()}

    def usage(self) -> Mapping[str, Mapping[str, KeyUsage]]:
        """Each issuer's counts, as TokenVerifier.usage gives them."""
        return {issuer: verifier.usage() for issuer, verifier in self.verifiers.items()}

    def _verifier_of(self, issuer: object) -> TokenVerifier:
        if issuer is None:
            raise MissingClaimError("The `iss` claim is missing.", "iss")
        verifier = self.verifiers.get(issuer) if isinstance(issuer, str) else None
        if verifier is None:
            raise InvalidClaimError("The `iss` claim names none of the configured issuers.", "iss")
        return verifier
