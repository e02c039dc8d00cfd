"""jwks-client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jwks_client import JWKSClient, JWTVerifier

from benchmarks.peers.consumer import Consumer

PACKAGES = ("jwks-client", "pyjwt", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    async with JWKSClient(jwks_uri) as jwks:
        verifier = JWTVerifier(jwks, algorithms=algorithms, audience=audience, issuer=issuer)
        yield Consumer(verifier.verify)
