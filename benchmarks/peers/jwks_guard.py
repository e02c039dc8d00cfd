"""Ourselves, under the same conditions as everyone: without the extra `fast`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.peers.consumer import Consumer
from jwks_guard import TokenVerifier

PACKAGES = ("jwks-guard", "cryptography")


@asynccontextmanager
async def consumer(
    issuer: str,
    jwks_uri: str,
    audience: str,
    algorithms: list[str],
    *,
    fast_rsa: bool = False,
) -> AsyncIterator[Consumer]:
    async with TokenVerifier(
        issuer, audience, jwks_uri=jwks_uri, algorithms=algorithms, fast_rsa=fast_rsa
    ) as verifier:

        async def distrust(kid: str) -> None:
            await verifier.distrust(kid, reason="benchmark", force=True)

        # tick() joins a refresh that the background task has begun, and returns when it ended.
        yield Consumer(verifier.verify, verifier.keys.tick, distrust)
