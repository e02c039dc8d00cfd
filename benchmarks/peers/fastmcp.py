"""FastMCP's JWTVerifier."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastmcp.server.auth.providers.jwt import JWTVerifier

from benchmarks.peers.consumer import Consumer

PACKAGES = ("fastmcp", "joserfc", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str, jwks_uri: str, audience: str, algorithms: list[str]
) -> AsyncIterator[Consumer]:
    (algorithm,) = algorithms
    verifier = JWTVerifier(jwks_uri=jwks_uri, issuer=issuer, audience=audience, algorithm=algorithm)

    async def verify(token: str) -> object:
        accepted = await verifier.verify_token(token)
        if accepted is None:  # it gives no reason
            raise ValueError("refused")
        return accepted

    yield Consumer(verify)
